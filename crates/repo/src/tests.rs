use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use lifeboat_format::{ManifestPart, SecretKey};
use lifeboat_model::{
    CommitEvent, Entry, EntryKind, EntryMetadata, EntryPath, FileTime, Mark, PartIdentity, PartRecord, PartStatus,
    Position, SiteId, SnapshotId, SourceKind, SourceName, Timestamp, WriterIdentity,
};
use lifeboat_store::{MemoryStore, Store};

use super::*;

pub(crate) fn writer() -> WriterIdentity {
    WriterIdentity { host: "h".into(), machine: "m".into(), boot: "b".into(), pid: 1, started: 1 }
}

pub(crate) fn metadata(size: u64) -> EntryMetadata {
    let time = FileTime { seconds: 1, nanoseconds: 2 };
    EntryMetadata { mode: 0o644, uid: 0, gid: 0, modified: time, changed: time, inode: 1, size, xattrs: Vec::new() }
}

pub(crate) async fn new_repository() -> (Arc<dyn Store>, SecretKey, Repository) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let master = SecretKey::generate().unwrap();
    let (repository, _) = Repository::init(store.clone(), &master).await.unwrap();
    (store, master, repository)
}

/// A repository in a store that the caller has.
pub(crate) async fn new_repository_in(store: Arc<dyn Store>, master: &SecretKey) -> Repository {
    Repository::init(store, master).await.unwrap().0
}

std::thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on the ids of this thread are made from a seed: what depends on their order happens again.
pub(crate) fn seed_ids(seed: Option<u64>) {
    SEED.set(seed);
}

/// False: ids are not made from a seed.
pub(crate) fn fill_from_seed(bytes: &mut [u8]) -> bool {
    let Some(mut state) = SEED.get() else { return false };
    for byte in bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    SEED.set(Some(state));
    true
}

pub(crate) fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// Publishes one part with these files and gives the snapshot's id.
pub(crate) async fn publish(repository: &Repository, site: &str, files: &[(&str, Vec<u8>)]) -> SnapshotId {
    let mut site = repository.site_for_backup(&SiteId::new(site).unwrap(), None).await.unwrap();
    // One worker: what is submitted together lies in one pack.
    let options = IngestOptions { workers: 1, ..IngestOptions::default() };
    let ingest = Ingest::start(&site, options).await.unwrap();
    let new = new_snapshot(&ingest, files);
    let id = new.id;
    let prepared = ingest.finish(&site, new).await.unwrap();
    site.publish(&writer(), &prepared, |_, _| Ok(prepared.record.clone())).await.unwrap();
    site.compact_index(&writer()).await.unwrap();
    id
}

/// One part with these files, submitted.
pub(crate) fn new_snapshot(ingest: &Ingest, files: &[(&str, Vec<u8>)]) -> NewSnapshot {
    let entries = files.iter().map(|(path, bytes)| {
        let chunks = bytes.chunks(1 << 20).map(|chunk| FreshExtent::Chunk(ingest.submit(chunk).unwrap()));
        let entry = Entry {
            path: EntryPath::new(*path).unwrap(),
            kind: EntryKind::File,
            metadata: metadata(bytes.len() as u64),
            extents: Vec::new(),
        };
        (entry, StoredContent::Fresh(chunks.collect()))
    });
    let record = PartRecord {
        source: SourceName::new("files").unwrap(),
        kind: SourceKind::Files,
        status: PartStatus::Complete,
        entries: 0,
        logical_bytes: 0,
        cut_from: Timestamp(1),
        cut_till: Timestamp(2),
    };
    let identity = PartIdentity { machine: "m".into(), filesystem: "f".into(), path: "p".into() };
    let part = ManifestPart { record, identity, position: Position("1".into()), problems: vec![], left_out: vec![] };
    let entries = entries.collect();
    NewSnapshot {
        id: SnapshotId(random_id().unwrap()),
        mark: Mark::Good,
        mark_reason: None,
        cut_from: Timestamp(1),
        cut_till: Timestamp(2),
        parent: None,
        restore: None,
        moment: None,
        is_scan: false,
        parts: vec![NewPart { part, entries }],
    }
}

pub(crate) async fn read_all(repository: &Repository, site: &str, snapshot: SnapshotId) -> Vec<(String, Vec<u8>)> {
    let site = repository.site(&SiteId::new(site).unwrap(), None).await.unwrap().unwrap();
    let record = site.state().snapshot(snapshot).unwrap().clone();
    let manifest = site.manifest(&record.manifest).await.unwrap();
    let entries = manifest.entries(&site, 0).await.unwrap();
    let mut wanted = Vec::new();
    let mut places = Vec::new();
    for (file, entry) in entries.iter().enumerate() {
        let mut offset = 0usize;
        for chunk in entry.chunks() {
            wanted.push(Wanted { chunk: *chunk, tag: places.len() as u64 });
            places.push((file, offset));
            offset += chunk.raw_len as usize;
        }
    }
    let out: Vec<std::sync::Mutex<Vec<u8>>> =
        entries.iter().map(|entry| std::sync::Mutex::new(vec![0; entry.metadata.size as usize])).collect();
    let control = FetchControl { limits: FetchLimits::default(), cancel: &AtomicBool::new(false) };
    let stats = manifest.fetch(&site, wanted, control, |tag, delivery| {
        let (file, offset) = places[tag as usize];
        let bytes = delivery.map_err(|damage| damage.detail)?;
        out[file].lock().unwrap()[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok::<(), String>(())
    });
    stats.unwrap().unwrap();
    let contents = out.into_iter().map(|bytes| bytes.into_inner().unwrap());
    entries.iter().map(|entry| entry.path.to_string()).zip(contents).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_is_read_back_whole_tiny_or_large() {
    let (store, master, repository) = new_repository().await;
    let large: Vec<(&str, Vec<u8>)> =
        vec![("a", content(1, 40 << 20)), ("b", Vec::new()), ("c", content(2, 1000)), ("d", content(1, 1 << 20))];
    let tiny: Vec<(&str, Vec<u8>)> = vec![("x", content(3, 5000)), ("y", content(3, 5000))];
    let (first, second) = (publish(&repository, "large", &large).await, publish(&repository, "tiny", &tiny).await);
    let reopened = Repository::open(store.clone(), &master).await.unwrap();
    let check = |got: Vec<(String, Vec<u8>)>, want: &[(&str, Vec<u8>)]| {
        assert!(got.iter().map(|(p, b)| (p.as_str(), b)).eq(want.iter().map(|(p, b)| (*p, b))));
    };
    check(read_all(&reopened, "large", first).await, &large);
    check(read_all(&reopened, "tiny", second).await, &tiny);
    let tiny_prefix = lifeboat_format::names::site_prefix(&reopened.handle_of(&SiteId::new("tiny").unwrap()));
    let names = store.list(&tiny_prefix, None, 100).await.unwrap();
    assert!(!names.iter().any(|listed| listed.name.as_str().contains("/pack/")), "a tiny site has no pack: {names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_there_already_is_not_stored_again() {
    let (store, _, repository) = new_repository().await;
    let files = vec![("a", content(1, 20 << 20))];
    publish(&repository, "s", &files).await;
    let prefix = lifeboat_format::names::packs_prefix(&repository.handle_of(&SiteId::new("s").unwrap()));
    let before = store.list(&prefix, None, 100).await.unwrap();
    let again = publish(&repository, "s", &[("a", content(1, 20 << 20)), ("b", content(1, 20 << 20))]).await;
    assert_eq!(store.list(&prefix, None, 100).await.unwrap(), before);
    assert_eq!(read_all(&repository, "s", again).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_index_segments_become_one_that_still_knows_every_chunk() {
    let (_, _, repository) = new_repository().await;
    for seed in 0..10 {
        publish(&repository, "s", &[("a", content(seed, 300 << 10))]).await;
    }
    let site = repository.site(&SiteId::new("s").unwrap(), None).await.unwrap().unwrap();
    assert!(site.state().indexes.len() <= 2, "{:?}", site.state().indexes.len());
    assert_eq!(site.known_chunks().await.unwrap().chunks.len(), 10);
}

// Explains invariant: one-sequence
#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_both_commits_stand_and_the_second_saw_the_first() {
    let (_, _, repository) = new_repository().await;
    publish(&repository, "s", &[("a", content(1, 10))]).await;
    let id = SiteId::new("s").unwrap();
    let mut one = repository.site(&id, None).await.unwrap().unwrap();
    let mut two = repository.site(&id, None).await.unwrap().unwrap();
    let snapshot = one.state().snapshots[0].id;
    let event = |state| CommitEvent::StateChanged { snapshot, state, drill: None };
    one.commit(&writer(), |_, _| Ok(event(lifeboat_model::PointState::ReadBack))).await.unwrap();
    let (mut asked, writer) = (Vec::new(), writer());
    let outcome = two.commit(&writer, |_, seen| {
        asked.push(seen.len());
        Ok(event(lifeboat_model::PointState::Proven))
    });
    assert_eq!(outcome.await.unwrap().generation.0, 3);
    assert_eq!(asked, [0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lost_its_newest_commits_is_found_out() {
    let (store, _, repository) = new_repository().await;
    publish(&repository, "s", &[("a", content(1, 10))]).await;
    let id = SiteId::new("s").unwrap();
    let known = repository.site(&id, None).await.unwrap().unwrap().head();
    publish(&repository, "s", &[("a", content(2, 10))]).await;
    let newer = repository.site(&id, Some(known)).await.unwrap().unwrap().head();
    let lost = lifeboat_format::names::commit(&repository.handle_of(&id), newer.generation);
    store.delete(&lifeboat_store::ObjectName::new(lost).unwrap()).await.unwrap();
    assert!(matches!(repository.site(&id, Some(newer)).await, Err(Error::RolledBack { .. })));
    assert!(repository.site(&id, Some(known)).await.is_ok());
    let forked = KnownHead { hash: [9; 32], ..known };
    assert!(matches!(repository.site(&id, Some(forked)).await, Err(Error::RolledBack { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn init_never_overwrites_and_a_wrong_key_opens_nothing() {
    let (store, master, repository) = new_repository().await;
    let again = Repository::init(store.clone(), &master).await;
    assert!(matches!(again, Err(Error::RepositoryExists { .. })));
    let wrong = SecretKey::generate().unwrap();
    assert!(matches!(Repository::open(store.clone(), &wrong).await, Err(Error::WrongKey { .. })));
    repository.rotate_key(&master, &wrong).await.unwrap();
    assert!(Repository::open(store.clone(), &wrong).await.is_ok());
    assert!(matches!(Repository::open(store.clone(), &master).await, Err(Error::WrongKey { .. })));
    let foreign: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let name = lifeboat_store::ObjectName::new("somebody/elses").unwrap();
    foreign.create(&name, bytes::Bytes::from_static(b"x")).await.unwrap();
    assert!(matches!(Repository::init(foreign, &master).await, Err(Error::NotEmpty { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recovery_key_opens_the_repository_and_can_be_proven() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let master = SecretKey::generate().unwrap();
    let (repository, keys) = Repository::init(store.clone(), &master).await.unwrap();
    assert!(repository.credentials().await.unwrap().iter().all(|credential| !credential.verified));
    assert!(repository.verify_key(&keys.recovery).await.unwrap().verified);
    assert!(Repository::open(store, &keys.recovery).await.is_ok());
    let all = repository.sites().await.unwrap();
    assert!(all.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_site_is_found_by_asking_the_store_alone() {
    let (_, _, repository) = new_repository().await;
    for site in ["b", "a", "c"] {
        publish(&repository, site, &[("f", content(1, 10))]).await;
    }
    let sites = repository.sites().await.unwrap();
    assert_eq!(sites.iter().map(|site| site.id().as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
}
