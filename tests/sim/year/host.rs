//! A host with a daemon on it: what it does in a night, by the repository's own verbs.
//!
//!   back up each site ─▶ record the run ─▶ ask the clocks ─▶ forget by the rules ─▶ prune
//!
//! Its content is made up, its way to the bucket is the one that production has, over a store that fails on command.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::tz::TimeZone;
use lifeboat_control::retention::{KeepRules, PointFacts, SiteFacts, decide};
use lifeboat_engine::HeadMemory;
use lifeboat_format::SecretKey;
use lifeboat_model::{
    CommitEvent, Entry, EntryKind, EntryMetadata, EntryPath, FileTime, Forgotten, Mark, ObjectId, PartIdentity,
    PartRecord, PartStatus, Position, Run, RunNumber, SiteState, SnapshotId, SourceKind, SourceName, StateError,
    Timestamp,
};
use lifeboat_repo::{
    Error, FetchControl, FetchLimits, FreshExtent, Ingest, IngestOptions, ManifestPart, NewPart, NewSnapshot,
    PruneRules, Pruned, Repository, Site, StoredContent, TrustedNow, Wanted,
};
use lifeboat_store::{Limits, MemoryStore, OpenOptions, RetryPolicy, wrap};
use lifeboat_testkit::fault_store::{FaultStore, Faults};
use lifeboat_testkit::memory::MapMemory;
use lifeboat_testkit::world::{noise, site_id};

use super::ledger::Ledger;

pub const DAY: i64 = 86_400_000_000;
/// Till then a forgotten point can be taken back.
const UNDELETE: i64 = 3 * DAY;
pub const RULES: PruneRules =
    PruneRules { grace: Duration::from_secs(2 * 86_400), unnamed: Duration::from_secs(86_400) };

/// Which of the contents there are each file of a site has.
pub type Content = BTreeMap<String, u64>;

pub struct Host {
    pub repository: Repository,
    pub faults: Arc<Faults>,
    pub memory: MapMemory,
    /// By how much its clock is ahead of the truth.
    pub ahead: i64,
}

impl Host {
    pub async fn new(store: &Arc<MemoryStore>, key: &SecretKey) -> Self {
        let failing = FaultStore::new(store.clone());
        let faults = failing.faults();
        let quick = Duration::from_micros(1);
        let retry = RetryPolicy { delay_first: quick, delay_max: quick, ..RetryPolicy::default() };
        let options = OpenOptions { limits: Limits::default(), retry, ..OpenOptions::default() };
        let repository = Repository::open(wrap(failing, &options).store, key).await.unwrap();
        Self { repository, faults, memory: MapMemory::default(), ahead: 0 }
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
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<(), Error> {
        for (site, content) in sites {
            self.back_up(site, content, ledger, now).await?;
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

    async fn back_up(&self, site: &str, content: &Content, ledger: &Ledger, now: Timestamp) -> Result<(), Error> {
        loop {
            let mut open = self.open(site).await?;
            if open.state().latest().is_some_and(|latest| ledger.holds(latest.id, content)) {
                return Ok(());
            }
            // A daemon reads and cuts on threads of its own; here what it has is small, and all of it packed.
            let options = IngestOptions { workers: 1, uploads_max: 2, inline: false, reuse: true };
            let ingest = Ingest::start(&open, options).await?;
            let new = new_snapshot(&ingest, ledger.next_id(), content, now)?;
            ledger.expect(new.id, content);
            let prepared = ingest.finish(&open, new).await?;
            let writer = lifeboat_engine::this_process();
            match open.publish(&writer, &prepared, |_, _| Ok(prepared.record.clone())).await {
                Err(Error::CondemnedMeanwhile { .. }) => ledger.count(|counts| counts.began_anew += 1),
                Err(error) => return Err(error),
                Ok(_) => {
                    self.memory.note_site(&open);
                    return open.compact_index(&writer).await;
                }
            }
        }
    }

    /// What it does with its time beside backups.
    pub async fn tidy(&self, sites: &[String], ledger: &Ledger, now: Timestamp) -> Result<(), Error> {
        let clock = self.repository.trusted_now(Timestamp(now.0 + self.ahead)).await?;
        for site in sites {
            let mut open = self.open(site).await?;
            forget(&mut open, &clock).await?;
            let pruned = match open.prune(&RULES, &clock, &lifeboat_engine::this_process()).await {
                Err(Error::State(StateError::Held(_))) => Pruned::default(),
                other => other?,
            };
            self.memory.note_site(&open);
            ledger.count(|counts| {
                counts.condemned += pruned.condemned;
                counts.deleted += pruned.deleted;
            });
        }
        Ok(())
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

/// Forgets what no rule keeps.
async fn forget(site: &mut Site, clock: &TrustedNow) -> Result<(), Error> {
    let decided = |state: &SiteState| {
        let facts = |record: &lifeboat_model::SnapshotRecord| PointFacts {
            id: record.id,
            at: record.cut_till,
            mark: record.mark,
            is_scan: record.is_scan,
            restore: record.restore,
            bases: Default::default(),
        };
        let points: Vec<PointFacts> = state.snapshots.iter().map(facts).collect();
        let site = SiteFacts { is_held: !state.holds.is_empty(), ..SiteFacts::default() };
        let rules = KeepRules {
            daily: 7,
            weekly: 4,
            monthly: 6,
            window: Duration::from_secs(3 * 86_400),
            ..KeepRules::default()
        };
        let decisions = decide(&points, site, (&rules, &TimeZone::UTC), clock.now);
        decisions.into_iter().filter(|one| !one.is_kept()).map(|one| one.id).collect::<Vec<_>>()
    };
    let forgotten = Forgotten { at: clock.later, till: Timestamp(clock.later.0 + UNDELETE) };
    let writer = lifeboat_engine::this_process();
    let committed = site.commit(&writer, |state, _| match decided(state) {
        none if none.is_empty() => Err(Error::Cancelled),
        snapshots => Ok(CommitEvent::Forgot { snapshots, forgotten, reason: "no rule keeps it".into() }),
    });
    match committed.await {
        // A killed store says the same: then the next operation says it again.
        Ok(_) | Err(Error::Cancelled | Error::State(StateError::Held(_))) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What a file has whose content is this one; it begins with its number.
fn body(variant: u64) -> Vec<u8> {
    let mut bytes = variant.to_le_bytes().to_vec();
    bytes.extend(noise(variant, 200 + variant as usize % 7 * 100));
    bytes
}

fn new_snapshot(ingest: &Ingest, id: SnapshotId, content: &Content, now: Timestamp) -> Result<NewSnapshot, Error> {
    let time = FileTime { seconds: 1, nanoseconds: 2 };
    let mut entries = Vec::new();
    for (path, variant) in content {
        let bytes = body(*variant);
        let (size, xattrs) = (bytes.len() as u64, Vec::new());
        let metadata =
            EntryMetadata { mode: 0o644, uid: 0, gid: 0, modified: time, changed: time, inode: 1, size, xattrs };
        let path = EntryPath::new(path.as_str()).unwrap();
        let entry = Entry { path, kind: EntryKind::File, metadata, extents: Vec::new() };
        entries.push((entry, StoredContent::Fresh(vec![FreshExtent::Chunk(ingest.submit(&bytes)?)])));
    }
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
        parts: vec![NewPart { part: part(now), entries }],
    })
}

/// The one part that a site has.
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
