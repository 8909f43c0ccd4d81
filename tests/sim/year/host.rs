//! A host with a daemon on it: what it does in a night, by the repository's own verbs.
//!
//!   back up each site ─▶ record the run ─▶ tidy
//!
//! Its content is made up, its way to the bucket is the one that production has, over a store that fails on command.
//! What is not here: forgetting and pruning (`tidy`), and following changes (`capture`).

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifeboat_engine::{Engine, Fleet, HeadMemory};
use lifeboat_format::SecretKey;
use lifeboat_model::{
    Entry, EntryKind, EntryMetadata, EntryPath, FileTime, Mark, ObjectId, PartIdentity, PartRecord, PartStatus,
    Position, Run, RunNumber, SnapshotId, SnapshotRecord, SourceKind, SourceName, Timestamp, Visibility,
};
use lifeboat_repo::{
    Error, FetchControl, FetchLimits, FreshExtent, Ingest, IngestOptions, KnownLog, ManifestPart, NewPart, NewSnapshot,
    Repository, Site, StoredContent, Wanted,
};
use lifeboat_source::postgres::describe::{ColumnDefinition, TableDefinition};
use lifeboat_store::{Limits, MemoryStore, OpenOptions, RetryPolicy, wrap};
use lifeboat_testkit::fault_store::{FaultStore, Faults};
use lifeboat_testkit::memory::MapMemory;
use lifeboat_testkit::world::{engine_of, noise, site_id};

use super::WINDOW;
use super::app::{App, Rows, SYSTEM, View, copied, source, table};
use super::ledger::{Held, Ledger};
use super::moments::{KnownBase, sum_of};

/// Which of the contents there are each file of a site has.
pub type Content = BTreeMap<String, u64>;

pub struct Host {
    pub repository: Repository,
    /// Over the same repository and memory.
    pub engine: Engine,
    pub faults: Arc<Faults>,
    pub memory: Arc<MapMemory>,
    /// What its capturer remembers of the log.
    known_log: Mutex<Option<KnownLog>>,
    /// By how much its clock is ahead of the truth.
    pub ahead: i64,
    /// What its configuration says, in microseconds.
    pub window: i64,
}

impl Host {
    pub async fn new(store: &Arc<MemoryStore>, key: &SecretKey) -> Self {
        let failing = FaultStore::new(store.clone());
        let faults = failing.faults();
        let quick = Duration::from_micros(1);
        let retry = RetryPolicy { delay_first: quick, delay_max: quick, ..RetryPolicy::default() };
        let options = OpenOptions { limits: Limits::default(), retry, ..OpenOptions::default() };
        let repository = Repository::open(wrap(failing, &options).store, key).await.unwrap();
        let memory = Arc::new(MapMemory::default());
        let engine = Engine { memory: memory.clone(), ..engine_of(Fleet::new(Vec::new()), repository.clone()) };
        Self { repository, engine, faults, memory, known_log: Mutex::new(None), ahead: 0, window: WINDOW }
    }

    pub fn known_log(&self) -> MutexGuard<'_, Option<KnownLog>> {
        self.known_log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn window(&self) -> Duration {
        Duration::from_micros(self.window as u64)
    }

    /// Opened with what is remembered of it: a bucket that has lost something is not believed.
    pub async fn open(&self, site: &str) -> Result<Site, Error> {
        let known = self.memory.known_head(&site_id(site));
        let site = self.repository.site_for_backup(&site_id(site), known).await?;
        self.memory.note_site(&site);
        Ok(site)
    }

    pub async fn back_up_all(
        &self,
        sites: &BTreeMap<String, Content>,
        (app, ledger): (&App, &Ledger),
        now: Timestamp,
    ) -> Result<(), Error> {
        let view = app.view();
        for (site, content) in sites {
            let held = Held { files: content.clone(), rows: view.rows[site].clone() };
            self.back_up(site, (&held, &view), ledger, now).await?;
        }
        let finished = Timestamp(now.0 + self.ahead);
        loop {
            let run = Run {
                number: self.repository.newest_run().await?.unwrap_or(RunNumber(0)).next(),
                nonce: ObjectId([0; 16]),
                started_at: finished,
                finished_at: finished,
                writer: lifeboat_engine::this_process(),
                sources: Vec::new(),
                sites: Vec::new(),
            };
            // False: the other host has this number.
            if self.repository.record_run(run).await? {
                return Ok(());
            }
        }
    }

    async fn back_up(
        &self,
        site: &str,
        (held, view): (&Held, &View),
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<(), Error> {
        loop {
            let mut open = self.open(site).await?;
            let is_same = |latest: &SnapshotRecord| ledger.holds(latest.id, held) && !is_old(latest, &open, now);
            if open.state().latest().is_some_and(is_same) {
                return Ok(());
            }
            // A daemon reads and cuts on threads of its own; here what it has is small, and all of it packed.
            let options = IngestOptions { workers: 1, uploads_max: 2, inline: false, reuse: true };
            let ingest = Ingest::start(&open, options).await?;
            let new = new_snapshot(&ingest, ledger.next_id(), (held, view), now)?;
            let base = KnownBase { at: now, sees: Visibility::parse(&view.snapshot).unwrap() };
            ledger.expect(new.id, held);
            let prepared = ingest.finish(&open, new).await?;
            let writer = lifeboat_engine::this_process();
            match open.publish(&writer, &prepared, |_, _| Ok(prepared.record.clone())).await {
                Err(Error::CondemnedMeanwhile { .. }) => ledger.count(|counts| counts.began_anew += 1),
                Err(error) => return Err(error),
                Ok(_) => {
                    ledger.published(site, base);
                    self.memory.note_site(&open);
                    return open.compact_index(&writer).await;
                }
            }
        }
    }

    /// Reads a point whole.
    pub async fn read(&self, site: &Site, id: SnapshotId) -> Content {
        let record = site.state().snapshot_or_forgotten(id).unwrap().clone();
        let manifest = site.manifest(&record.manifest).await.unwrap_or_else(|error| panic!("{id}: {error}"));
        let entries = manifest.entries(site, 0).await.unwrap_or_else(|error| panic!("{id}: {error}"));
        let chunks = entries.iter().map(|entry| *entry.chunks().next().unwrap());
        let wanted: Vec<Wanted> = (0..).zip(chunks).map(|(tag, chunk)| Wanted { chunk, tag }).collect();
        let limits = FetchLimits { workers: 1, requests_max: 2, ..FetchLimits::default() };
        let control = FetchControl { limits, cancel: &AtomicBool::new(false) };
        let read = std::sync::Mutex::new(Content::new());
        let fetched = manifest.fetch(site, wanted, control, |tag, delivery| {
            let bytes = delivery.map_err(|damage| damage.detail)?;
            let variant = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            assert_eq!(bytes, body(variant), "{id}");
            read.lock().unwrap().insert(entries[tag as usize].path.to_string(), variant);
            Ok::<(), String>(())
        });
        fetched.unwrap_or_else(|error| panic!("{id}: {error}")).unwrap_or_else(|damage| panic!("{id}: {damage}"));
        read.into_inner().unwrap()
    }
}

/// Of a site that does not change a snapshot is published anew as a base, at an age that differs from site to site: as
/// the engine's backups do.
fn is_old(newest: &SnapshotRecord, site: &Site, now: Timestamp) -> bool {
    let age_max = WINDOW / 4 * (1 + i64::from(site.handle().0[0] % 2));
    now.0 - newest.cut_from.0 > age_max
}

/// What a file has whose content is this one; it begins with its number.
fn body(variant: u64) -> Vec<u8> {
    let mut bytes = variant.to_le_bytes().to_vec();
    bytes.extend(noise(variant, 200 + variant as usize % 7 * 100));
    bytes
}

fn new_snapshot(
    ingest: &Ingest,
    id: SnapshotId,
    (held, view): (&Held, &View),
    now: Timestamp,
) -> Result<NewSnapshot, Error> {
    let mut files = Vec::new();
    for (path, variant) in &held.files {
        let bytes = body(*variant);
        let content = StoredContent::Fresh(vec![FreshExtent::Chunk(ingest.submit(&bytes)?)]);
        files.push((entry(path, EntryKind::File, bytes.len()), content));
    }
    let rows = table_of(ingest, &held.rows)?;
    Ok(NewSnapshot {
        id,
        mark: Mark::Good,
        mark_reason: None,
        cut_from: now,
        cut_till: now,
        parent: None,
        restore: None,
        moment: None,
        is_scan: false,
        parts: vec![
            NewPart { part: part(now), entries: files },
            NewPart { part: part_of_app(now, view), entries: vec![rows] },
        ],
    })
}

fn entry(path: &str, kind: EntryKind, size: usize) -> Entry {
    let time = FileTime { seconds: 1, nanoseconds: 2 };
    let (size, xattrs) = (size as u64, Vec::new());
    let metadata = EntryMetadata { mode: 0o644, uid: 0, gid: 0, modified: time, changed: time, inode: 1, size, xattrs };
    Entry { path: EntryPath::new(path).unwrap(), kind, metadata, extents: Vec::new() }
}

/// A site's rows, as a backup of a PostgreSQL has them.
fn table_of(ingest: &Ingest, rows: &Rows) -> Result<(Entry, StoredContent), Error> {
    let table = table();
    let column = |column: &lifeboat_model::ChangedColumn| ColumnDefinition {
        name: column.name.clone(),
        type_name: column.type_name.clone(),
        not_null: true,
        is_identity: false,
        number: None,
    };
    let definition = TableDefinition {
        name: table.name.clone(),
        columns: table.columns.iter().map(column).collect(),
        primary_key: vec!["id".into()],
        order: "t.id".into(),
        rule: None,
    };
    let text = copied(rows);
    let kind = EntryKind::Table { rows: rows.len() as u64, digest: sum_of(rows), definition: definition.to_json() };
    let extents = match text.is_empty() {
        true => Vec::new(),
        false => vec![FreshExtent::Chunk(ingest.submit(text.as_bytes())?)],
    };
    Ok((entry(&table.name, kind, text.len()), StoredContent::Fresh(extents)))
}

/// The part of a site that is rows.
fn part_of_app(now: Timestamp, View { lsn, snapshot, .. }: &View) -> ManifestPart {
    let record = PartRecord { source: source(), kind: SourceKind::Postgres, ..part(now).record };
    let identity =
        PartIdentity { machine: format!("postgresql {SYSTEM}"), filesystem: String::new(), path: "app".into() };
    let position = Position(format!("lsn={lsn}, timeline=1, snapshot={snapshot}"));
    ManifestPart { record, identity, position, problems: vec![], left_out: vec![] }
}

/// The part of a site that is files.
pub fn part(now: Timestamp) -> ManifestPart {
    let record = PartRecord {
        source: SourceName::new("files").unwrap(),
        kind: SourceKind::Files,
        status: PartStatus::Complete,
        entries: 0,
        logical_bytes: 0,
        cut_from: now,
        cut_till: now,
    };
    let identity = PartIdentity { machine: "m".into(), filesystem: "f".into(), path: "p".into() };
    ManifestPart { record, identity, position: Position("1".into()), problems: vec![], left_out: vec![] }
}
