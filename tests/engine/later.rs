//! Only what is missing comes back: files by path, a database as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use lifeboat_engine::{Approval, RestorePoint, RestoreRequest, plan_restore, restore};
use lifeboat_model::PointInTime;
use lifeboat_store::{MemoryStore, Store};
use lifeboat_testkit::world::{World, backup_all, restore_request, run_restore, undo};

fn keep_later(site: &str) -> RestoreRequest {
    RestoreRequest { keep_later: true, ..restore_request(site, RestorePoint::At(PointInTime::Latest)) }
}

async fn world() -> (World, lifeboat_engine::Engine) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let world = World::new(store.clone()).await;
    world.make_site("acme", 1, 500);
    world.make_site("beta", 2, 500);
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    (world, engine)
}

/// Without directories, whose times move, and the numbers of hard links.
fn contents(picture: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let all = picture.iter().filter(|(_, what)| !what.ends_with("directory"));
    all.map(|(path, what)| (path.clone(), what.split(" links ").next().unwrap_or_default().to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_missing_is_added_and_one_that_differs_is_kept_and_listed() {
    let (world, engine) = world().await;
    let (point, beta) = (contents(&world.picture("acme")), world.picture("beta"));
    let files = world.site_dir("acme").join("files");
    std::fs::write(files.join("a.txt"), b"worked on since").unwrap();
    std::fs::remove_file(files.join("also-a.txt")).unwrap();
    std::fs::remove_dir_all(files.join("deep/er")).unwrap();
    std::fs::remove_file(files.join("empty.txt")).unwrap();
    std::fs::write(files.join("new.txt"), b"written since").unwrap();
    let damaged = world.picture("acme");

    let planned = plan_restore(&engine, &keep_later("acme")).await.unwrap();
    let part = planned.plan.parts.iter().find(|part| part.source.as_str() == "files").unwrap();
    assert_eq!((&part.kept_entries[..], part.kept, part.newer), (&["a.txt".to_owned()][..], 1, 1), "{part:?}");
    assert_eq!((part.replace, part.remove), (0, 0), "{part:?}");
    assert!(part.notes.iter().any(|note| note.contains("deleted on purpose")), "{part:?}");
    let hash = planned.plan.hash.clone();
    let receipt = restore(&engine, &keep_later("acme"), planned, &Approval::Hash(hash)).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    let kept = |name: &str| receipt.parts.iter().find(|part| part.source.as_str() == name).unwrap().kept;
    assert_eq!((kept("files"), kept("notes")), (1, 0));

    let now = contents(&world.picture("acme"));
    let mut want = point.clone();
    want.insert("files/a.txt".into(), contents(&damaged)["files/a.txt"].clone());
    want.insert("files/new.txt".into(), contents(&damaged)["files/new.txt"].clone());
    // What was another name of the changed file is a file of its own, as it was.
    assert_eq!(now, want);
    assert_eq!(world.picture("beta"), beta);

    // The file that was kept is nobody's change, one that came back and was changed is.
    let undo_of = |restore| restore_request("acme", RestorePoint::Undo(restore));
    let again = plan_restore(&engine, &undo_of(receipt.restore)).await.unwrap().plan;
    assert!(again.conflicts.is_empty(), "{:?}", again.conflicts);
    let undone = undo(&engine, "acme", receipt.restore).await.unwrap();
    assert_eq!(contents(&world.picture("acme")), contents(&damaged));
    undo(&engine, "acme", undone.restore).await.unwrap();
    assert_eq!(contents(&world.picture("acme")), want);
    std::fs::remove_file(files.join("empty.txt")).unwrap();
    let second = run_restore(&engine, &keep_later("acme")).await.unwrap();
    std::fs::write(files.join("empty.txt"), b"not empty any more").unwrap();
    let changed = plan_restore(&engine, &undo_of(second.restore)).await.unwrap().plan.conflicts;
    assert!(changed.iter().any(|found| found.detail.contains("empty.txt")), "{changed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_there_stays_and_one_that_is_gone_comes_back() {
    let (world, engine) = world().await;
    let point = world.picture("acme");
    world.write_rows("acme", 99, 3);
    let later = world.picture("acme");
    let plan = plan_restore(&engine, &keep_later("acme")).await.unwrap().plan;
    let part = plan.parts.iter().find(|part| part.source.as_str() == "notes").unwrap();
    assert_eq!((part.kept, part.replace, &part.kept_entries[..]), (1, 0, &["notes.db".to_owned()][..]), "{part:?}");
    assert!(part.notes.iter().any(|note| note.contains("stays as it is") && note.contains("--beside")), "{part:?}");
    assert!(plan.is_empty());
    let receipt = run_restore(&engine, &keep_later("acme")).await.unwrap();
    assert_eq!(receipt.undo, None, "nothing was changed");
    assert!(receipt.parts.iter().any(|part| part.source.as_str() == "notes" && part.kept == 1), "{receipt:?}");
    assert_eq!(world.picture("acme"), later);

    std::fs::remove_file(world.site_dir("acme").join("notes.db")).unwrap();
    let receipt = run_restore(&engine, &keep_later("acme")).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert_eq!(contents(&world.picture("acme")), contents(&point));
    undo(&engine, "acme", receipt.restore).await.unwrap();
    assert!(!world.site_dir("acme").join("notes.db").exists());
    // What has equal content is not kept, but equal.
    run_restore(&engine, &keep_later("acme")).await.unwrap();
    let plan = plan_restore(&engine, &keep_later("acme")).await.unwrap().plan;
    assert!(plan.parts.iter().all(|part| part.kept == 0), "{:?}", plan.parts);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_below_a_file_that_was_a_directory_is_a_conflict_and_not_forced() {
    let (world, engine) = world().await;
    let files = world.site_dir("acme").join("files");
    std::fs::remove_dir_all(files.join("deep")).unwrap();
    std::fs::write(files.join("deep"), b"a file now").unwrap();
    std::fs::remove_file(files.join("empty.txt")).unwrap();
    let planned = plan_restore(&engine, &keep_later("acme")).await.unwrap();
    let found = planned.plan.conflicts.iter().find(|found| found.detail.contains("deep")).unwrap();
    assert!(found.detail.contains("entries=`3`"), "{found:?}");
    let hash = planned.plan.hash.clone();
    assert!(restore(&engine, &keep_later("acme"), planned, &Approval::Yes).await.is_err());
    assert!(!files.join("empty.txt").exists());
    // Approved all the same, the rest comes back, and the receipt says what did not.
    let planned = plan_restore(&engine, &keep_later("acme")).await.unwrap();
    let receipt = restore(&engine, &keep_later("acme"), planned, &Approval::Hash(hash)).await.unwrap();
    assert!(files.join("empty.txt").exists());
    assert_eq!(std::fs::read(files.join("deep")).unwrap(), b"a file now");
    assert!(receipt.checks.iter().any(|check| !check.passed && check.detail.contains("deep")), "{:?}", receipt.checks);
}
