//! Power loss after every single change to the disk.
//!
//! A plan of creates and deletes runs on a simulated disk; then the power "goes" after each change
//! in turn, with nothing of what was not synced kept, and with random parts of it kept. What a
//! create or delete that returned `Ok` promised must hold on every disk found after that.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use lifeboat_store::directory::{DirectoryStore, Disk};
use lifeboat_store::{Error, ObjectName, Store};
use lifeboat_testkit::conformance::{name, pattern};
use lifeboat_testkit::crash_disk::{Change, CrashDisk, Unsynced};

const SEEDS: u64 = 24;

/// What was promised about one object, and after how many changes to the disk.
#[derive(Debug, Default)]
struct Promise {
    body: Bytes,
    begun: usize,
    created: Option<usize>,
    delete_begun: Option<usize>,
    deleted: Option<usize>,
}

type Promises = BTreeMap<ObjectName, Promise>;

fn store_on(disk: &CrashDisk) -> DirectoryStore {
    DirectoryStore::on_disk(Arc::new(disk.clone()), Path::new("/simulated"))
}

async fn create(store: &DirectoryStore, disk: &CrashDisk, promises: &mut Promises, text: &str, len: usize) {
    let (object, body) = (name(text), pattern(len as u8, len));
    let begun = disk.changes();
    store.create(&object, body.clone()).await.unwrap();
    promises.insert(object, Promise { body, begun, created: Some(disk.changes()), ..Promise::default() });
}

async fn delete(store: &DirectoryStore, disk: &CrashDisk, promises: &mut Promises, text: &str) {
    let promise = promises.get_mut(&name(text)).unwrap();
    promise.delete_begun = Some(disk.changes());
    store.delete(&name(text)).await.unwrap();
    promise.deleted = Some(disk.changes());
}

/// What a repository does, in small: objects at the root and deep down, siblings, a delete, and a
/// second process that meets the directories of the first.
async fn run_plan(disk: &CrashDisk) -> Promises {
    let mut promises = Promises::new();
    let store = store_on(disk);
    create(&store, disk, &mut promises, "lifeboat.json", 200).await;
    create(&store, disk, &mut promises, "sites/0a/handle/pack/one", 5000).await;
    create(&store, disk, &mut promises, "sites/0a/handle/pack/two", 1).await;
    create(&store, disk, &mut promises, "sites/0a/handle/commit/f", 300).await;
    create(&store, disk, &mut promises, "keys/handle/1", 80).await;
    create(&store, disk, &mut promises, "empty", 0).await;
    delete(&store, disk, &mut promises, "keys/handle/1").await;
    let other = store_on(disk);
    create(&other, disk, &mut promises, "sites/0a/handle/commit/e", 300).await;
    create(&other, disk, &mut promises, "sites/0b/handle/commit/f", 300).await;
    delete(&other, disk, &mut promises, "sites/0a/handle/pack/two").await;
    promises
}

/// Every promise that the disk found after the power went does not keep.
async fn broken(found: &CrashDisk, changes: usize, promises: &Promises) -> Vec<String> {
    let store = store_on(found);
    let mut faults = Vec::new();
    for (object, promise) in promises {
        let is_promised =
            promise.created.is_some_and(|at| at <= changes) && promise.delete_begun.is_none_or(|at| changes <= at);
        let is_gone = promise.deleted.is_some_and(|at| at <= changes) || changes <= promise.begun;
        match store.get(object).await {
            Ok(body) if body != promise.body => {
                faults.push(format!("{object} is torn: {} of {} bytes", body.len(), promise.body.len()));
            }
            Ok(_) if is_gone => faults.push(format!("{object} came back")),
            Err(Error::NotFound { .. }) if is_promised => faults.push(format!("{object} is lost")),
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(other) => faults.push(format!("{object}: {other}")),
        }
    }
    let listed = store.list("", None, 1000).await.unwrap();
    for one in listed {
        if promises.get(&one.name).is_none_or(|promise| promise.body.len() as u64 != one.len) {
            faults.push(format!("{} is listed with {} bytes", one.name, one.len));
        }
    }
    faults
}

/// All faults after all power losses, each with where it happened.
async fn faults_of(disk: &CrashDisk, promises: &Promises) -> Vec<String> {
    let mut faults = Vec::new();
    let seeds = (0..SEEDS).map(|seed| Unsynced::Some { seed });
    for unsynced in std::iter::once(Unsynced::Lost).chain(seeds) {
        for changes in 0..=disk.changes() {
            let found = disk.after_power_loss(changes, unsynced);
            let here = broken(&found, changes, promises).await;
            faults.extend(here.into_iter().map(|fault| format!("after change {changes}, {unsynced:?}: {fault}")));
        }
    }
    faults
}

// Explains invariant: named-after-durable
#[tokio::test]
async fn a_power_loss_at_any_step_loses_and_tears_nothing_that_was_promised() {
    let disk = CrashDisk::new();
    let promises = run_plan(&disk).await;
    let points = disk.changes() + 1;
    println!("{points} points of power loss, {} ways each", SEEDS + 1);
    assert!(points > 60, "the plan does less than it should: {points} points");
    let faults = faults_of(&disk, &promises).await;
    assert!(faults.is_empty(), "{} faults, the first: {:#?}", faults.len(), &faults[..faults.len().min(5)]);
}

/// Chooses the syncs that do nothing.
type Dropped = fn(&Change) -> bool;

/// A check that passes on a disk whose syncs do nothing would prove nothing.
#[tokio::test]
async fn every_sync_is_needed() {
    let kinds: [(&str, Dropped, &str); 5] = [
        ("of the file", |change| matches!(change, Change::SyncFile { .. }), "torn"),
        ("of any directory", |change| matches!(change, Change::SyncDir { .. }), "lost"),
        ("of the root", |change| matches!(change, Change::SyncDir { path } if path.is_empty()), "lost"),
        ("of a new directory's parent", |change| matches!(change, Change::SyncDir { path } if path == "sites"), "lost"),
        (
            "of the object's directory",
            |change| matches!(change, Change::SyncDir { path } if path.ends_with("/commit")),
            "lost",
        ),
    ];
    for (what, is_dropped, want) in kinds {
        let disk = CrashDisk::new().without_syncs(is_dropped);
        let promises = run_plan(&disk).await;
        let faults = faults_of(&disk, &promises).await;
        let seen = faults.iter().any(|fault| fault.contains(want));
        assert!(seen, "without the sync {what}, nothing is {want}: {faults:#?}");
    }
    // A name is durable before its delete only if the create's syncs worked.
    let disk = CrashDisk::new();
    let mut promises = Promises::new();
    create(&store_on(&disk), &disk, &mut promises, "keys/handle/1", 80).await;
    let disk = disk.without_syncs(|change| matches!(change, Change::SyncDir { .. }));
    delete(&store_on(&disk), &disk, &mut promises, "keys/handle/1").await;
    let faults = faults_of(&disk, &promises).await;
    assert!(faults.iter().any(|fault| fault.contains("came back")), "{faults:#?}");
}

#[tokio::test]
async fn a_directory_that_another_process_made_and_never_synced_is_made_durable() {
    let disk = CrashDisk::new();
    for dir in ["tmp", "sites", "sites/0a", "sites/0a/commit"] {
        disk.make_dir(dir).unwrap();
    }
    let mut promises = Promises::new();
    create(&store_on(&disk), &disk, &mut promises, "sites/0a/commit/f", 100).await;
    let found = disk.after_power_loss(disk.changes(), Unsynced::Lost);
    assert_eq!(broken(&found, disk.changes(), &promises).await, Vec::<String>::new());
}

#[tokio::test]
async fn who_is_told_that_an_object_exists_can_rely_on_it() {
    let disk = CrashDisk::new();
    let (object, body) = (name("sites/commit/f"), pattern(1, 100));
    // The winner died between its link and its sync.
    for dir in ["tmp", "sites", "sites/commit"] {
        disk.make_dir(dir).unwrap();
    }
    let mut file = disk.create_file("tmp/new").unwrap();
    file.write_all(&body).unwrap();
    file.sync().unwrap();
    disk.link("tmp/new", object.as_str()).unwrap();
    let told = store_on(&disk).create(&object, pattern(2, 50)).await;
    assert!(matches!(told, Err(Error::AlreadyExists { .. })), "{told:?}");
    let found = disk.after_power_loss(disk.changes(), Unsynced::Lost);
    assert_eq!(store_on(&found).get(&object).await.unwrap(), body);
}

#[tokio::test]
async fn the_store_goes_on_after_any_power_loss() {
    let disk = CrashDisk::new();
    let promises = run_plan(&disk).await;
    for changes in 0..=disk.changes() {
        let found = disk.after_power_loss(changes, Unsynced::Some { seed: changes as u64 });
        let store = store_on(&found);
        for (object, promise) in &promises {
            // Whether it survived or not, the same create now ends with the object there.
            match store.create(object, promise.body.clone()).await {
                Ok(()) | Err(Error::AlreadyExists { .. }) => {}
                Err(other) => panic!("after change {changes}: {object}: {other}"),
            }
            assert_eq!(store.get(object).await.unwrap(), promise.body, "after change {changes}: {object}");
        }
    }
}
