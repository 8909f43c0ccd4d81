//! Pruning a site of very many chunks: how much memory it takes, in a process that does nothing else.
//!
//!   one process makes the site ─▶ another one forgets a point, prunes, and says what it took
//!
//! The index is the worst there is: one segment, as compaction leaves it, of which nearly everything stays. Packs hold next to
//! nothing, for a prune reads none. With `LIFEBOAT_TEST_FULL=1` there are a million chunks.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_bench::machine::own_peak_bytes;
use lifeboat_engine::this_process;
use lifeboat_format::{
    Compressor, IndexRow, IndexSegment, ManifestPart, ManifestSummary, ManifestWriter, ObjectKind, ObjectWriter,
    PackRow, SecretKey, SiteKeys, encode_commit, names,
};
use lifeboat_model::{
    ChunkId, ChunkRef, Commit, CommitEvent, Entry, EntryKind, EntryMetadata, EntryPath, Extent, FileTime, Forgotten,
    Generation, IndexRef, KeyNumber, Mark, ObjectId, PointState, Run, RunNumber, SiteState, SnapshotId, SnapshotRecord,
    Timestamp,
};
use lifeboat_repo::{PruneRules, Repository};
use lifeboat_store::{DirectoryStore, ObjectName, Store};
use lifeboat_testkit::crash_runner::{is_full, quick_dir};
use lifeboat_testkit::world::site_id;

const TASK: &str = "LIFEBOAT_TEST_PRUNE_MEMORY";
const CHUNKS: u32 = 60_000;
const CHUNKS_FULL: u32 = 1_000_000;
const PACKS: u32 = 1_000;
const PEAK_BYTES_MAX: u64 = 256 << 20;
const CHUNK_LEN: u32 = 4096;

#[test]
fn a_site_of_a_million_chunks_is_pruned_within_256_mb() {
    let dir = quick_dir();
    let chunks = if is_full() { CHUNKS_FULL } else { CHUNKS };
    let key = SecretKey::generate().unwrap().to_base64();
    let run = |step: &str| {
        let task = [step, dir.path().to_str().unwrap(), &key, &chunks.to_string()].join("\n");
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["prune_memory::a_started_process_makes_or_prunes", "--exact", "--nocapture", "--test-threads=1"])
            .env(TASK, task)
            .stdin(Stdio::null())
            .output();
        let ended = ended.unwrap();
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        assert!(ended.status.success(), "{step}: {said}{}", String::from_utf8_lossy(&ended.stderr));
        said
    };
    run("make");
    let said = run("prune");
    let peak =
        said.split("peak=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_else(|| panic!("{said}"));
    let peak: u64 = peak.parse().unwrap();
    let took = said.split("took=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    println!("{chunks} chunks in {PACKS} packs: {} MB at most, {took}", peak >> 20);
    assert!(peak <= PEAK_BYTES_MAX, "{peak}");
}

/// Not a claim by itself: the entry of the processes that the other test starts.
#[test]
fn a_started_process_makes_or_prunes() {
    let Ok(task) = std::env::var(TASK) else { return };
    let lines: Vec<&str> = task.split('\n').collect();
    let [step, dir, key, chunks] = lines[..] else { panic!("not a task: {task:?}") };
    let (key, chunks) = (SecretKey::parse_base64(key).unwrap(), chunks.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        match step {
            "make" => make(Path::new(dir), &key, chunks).await,
            _ => prune(Path::new(dir), &key).await,
        }
    });
}

async fn prune(dir: &Path, key: &SecretKey) {
    let repository = Repository::open(Arc::new(DirectoryStore::open(dir).unwrap()), key).await.unwrap();
    let mut site = repository.site(&site_id("acme"), None).await.unwrap().unwrap();
    // The clock of a file system lags a little behind the host's.
    let (now, began) = (Timestamp::now().saturating_sub(Duration::from_secs(1)), Instant::now());
    let snapshots = vec![site.state().snapshots[0].id];
    let event = CommitEvent::Forgot { snapshots, forgotten: Forgotten { at: now, till: now }, reason: "a test".into() };
    site.commit(&this_process(), |_, _| Ok(event.clone())).await.unwrap();
    let rules = PruneRules { grace: Duration::ZERO, unnamed: Duration::from_secs(86_400) };
    let (mut condemned, mut deleted) = (0, 0);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        record_run(&repository).await;
        let clock = repository.trusted_now(Timestamp::now()).await.unwrap();
        let pruned = site.prune(&rules, &clock, &this_process()).await.unwrap();
        (condemned, deleted) = (condemned + pruned.condemned, deleted + pruned.deleted);
    }
    // A manifest, its pack, and the segment in whose place there is another one.
    assert_eq!((condemned, deleted), (3, 3));
    println!("peak={} took={:?}", own_peak_bytes(), began.elapsed());
}

async fn record_run(repository: &Repository) {
    let now = Timestamp::now();
    let run = Run {
        number: repository.newest_run().await.unwrap().unwrap_or(RunNumber(0)).next(),
        nonce: ObjectId([0; 16]),
        started_at: now,
        finished_at: now,
        writer: this_process(),
        sources: Vec::new(),
        sites: Vec::new(),
    };
    assert!(repository.record_run(run).await.unwrap());
}

/// A site of two points: the first needs one pack alone, the second one all others.
async fn make(dir: &Path, key: &SecretKey, chunks: u32) {
    let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(dir).unwrap());
    let (repository, _) = Repository::init(store.clone(), key).await.unwrap();
    let site = repository.site_for_backup(&site_id("acme"), None).await.unwrap();
    let keys = site.keys();
    let mut packs = Vec::new();
    for number in 0..PACKS {
        packs.push(make_pack(store.as_ref(), keys, number).await);
    }
    let of = |chunk: u32| (chunk % PACKS) as usize;
    let place = |chunk: u32| ChunkRef {
        id: keys.chunk_id(&chunk.to_le_bytes()),
        pack: packs[of(chunk)].id,
        offset: u64::from(chunk / PACKS) * u64::from(CHUNK_LEN) + 4096,
        stored_len: CHUNK_LEN,
        raw_len: CHUNK_LEN,
    };
    let rows = (0..chunks).map(|chunk| {
        let ChunkRef { id, offset, stored_len, raw_len, .. } = place(chunk);
        IndexRow { chunk: id, pack: of(chunk) as u32, offset, stored_len, raw_len }
    });
    let segment = IndexSegment { packs: packs.clone(), chunks: rows.collect() };
    let id = ObjectId([7; 16]);
    let (body, index) = segment.encode(keys, id, &mut Compressor::new().unwrap()).unwrap();
    create(store.as_ref(), names::index(&site.handle(), &id), body).await;
    let points = [(1, vec![place(0)]), (2, (1..PACKS).map(place).collect())];
    let (mut state, mut previous) = (SiteState::new(site_id("acme"), KeyNumber(1)), [0; 32]);
    for ((number, chunks), index) in points.into_iter().zip([Some(index), None]) {
        let record = make_point(store.as_ref(), keys, number, (&chunks, &packs)).await;
        (state, previous) = publish(store.as_ref(), keys, (state, previous), (record, index)).await;
    }
}

async fn make_pack(store: &dyn Store, keys: &SiteKeys, number: u32) -> PackRow {
    let id = ObjectId(u128::from(number + 1).to_be_bytes());
    let mut pack = ObjectWriter::new(keys, ObjectKind::Pack, id).unwrap();
    let plain = number.to_le_bytes();
    pack.push_chunk(&ChunkId([1; 32]), &plain, &mut Compressor::new().unwrap()).unwrap();
    let (body, row) = pack.finish().unwrap();
    create(store, names::pack(&keys.handle(), &id), body).await;
    // As long as what is said to be in it.
    PackRow { len: 1 << 30, ..row }
}

async fn make_point(
    store: &dyn Store,
    keys: &SiteKeys,
    number: u8,
    (chunks, packs): (&[ChunkRef], &[PackRow]),
) -> SnapshotRecord {
    let (id, mut compressor) = (SnapshotId([number; 8]), Compressor::new().unwrap());
    let mut manifest = ManifestWriter::new(keys, ObjectId([200 + number; 16])).unwrap();
    let time = FileTime { seconds: 1, nanoseconds: 2 };
    let size = chunks.iter().map(|chunk| u64::from(chunk.raw_len)).sum();
    let metadata = EntryMetadata {
        mode: 0o644,
        uid: 0,
        gid: 0,
        modified: time,
        changed: time,
        inode: 1,
        size,
        xattrs: Vec::new(),
    };
    let extents = chunks.iter().copied().map(Extent::Chunk).collect();
    let entry = Entry { path: EntryPath::new("all").unwrap(), kind: EntryKind::File, metadata, extents };
    let part: ManifestPart = super::year::part(Timestamp(1));
    manifest.push_entry(0, &entry, &mut compressor).unwrap();
    let named: BTreeSet<ObjectId> = chunks.iter().map(|chunk| chunk.pack).collect();
    let packs = packs.iter().filter(|row| named.contains(&row.id)).copied().collect();
    let record = part.record.clone();
    let summary = ManifestSummary { site: site_id("acme"), snapshot: id, parts: vec![part], packs };
    let (body, reference) = manifest.finish(summary, &mut compressor).unwrap();
    create(store, names::manifest(&keys.handle(), &reference.id), body).await;
    SnapshotRecord {
        id,
        generation: Generation(0),
        manifest: reference,
        mark: Mark::Good,
        mark_reason: None,
        state: PointState::ReadBack,
        cut_from: Timestamp(1),
        cut_till: Timestamp(1),
        parent: None,
        entries: 1,
        logical_bytes: size,
        added_bytes: size,
        parts: vec![record],
        restore: None,
        moment: None,
        is_scan: false,
        forgotten: None,
    }
}

async fn publish(
    store: &dyn Store,
    keys: &SiteKeys,
    (state, previous): (SiteState, [u8; 32]),
    (record, index): (SnapshotRecord, Option<IndexRef>),
) -> (SiteState, [u8; 32]) {
    let generation = Generation(state.snapshots.len() as u64 + 1);
    let event = CommitEvent::Published { snapshot: Box::new(record), index };
    let state = state.apply(&event, generation).unwrap();
    let commit = Commit {
        generation,
        previous,
        nonce: ObjectId([generation.0 as u8; 16]),
        written_at: Timestamp::now(),
        writer: this_process(),
        event,
        state: state.clone(),
    };
    let body = encode_commit(keys, &commit).unwrap();
    let hash = lifeboat_format::commit_hash(&body);
    create(store, names::commit(&keys.handle(), generation), body).await;
    (state, hash)
}

async fn create(store: &dyn Store, name: String, body: Vec<u8>) {
    store.create(&ObjectName::new(name).unwrap(), body.into()).await.unwrap();
}
