//! One site's scan: its files as they are between two snapshots, published if they changed.
//!
//! ```text
//! walk ─ as remembered ─▶ nothing, not even a request
//!   └─▶ the newest look at the part ─ as it was ─▶ remembered
//!          └─▶ read what changed ▸ packs ▸ manifest of this part alone ▸ commit, marked incomplete
//! ```
//!
//! What is not here: which sites are walked, and when (`crate::scanner`); what a scan is for (`crate::moment`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lifeboat_model::{
    Entry, Fault, Faulty, Mark, PartRecord, PartStatus, SiteId, SiteState, SnapshotId, SnapshotRecord, Timestamp,
};
use lifeboat_repo::{Ingest, Manifest, NewPart, NewSnapshot, Site};
use lifeboat_source::Source;

use super::fingerprint::Fingerprinter;
use super::judge::overlapped;
use super::line::{Place, in_line};
use super::probe::fingerprint_of;
use super::read::{Parent, PartIngest};
use crate::moment::files::is_look;
use crate::process::random_id;
use crate::{Engine, Error, this_process};

/// Told to whoever does not know what a scan is.
const REASON: &str = "a scan of files alone, between two snapshots";

/// Each commit carries all scans of its site, some 80 bytes each: a site that has so many more of them rests one more
/// interval after each, so that what is kept of them grows ever slower.
const SCANS_A_REST: u64 = 1_000;

/// What the walks before this one saw of each site's tree.
pub(crate) struct ScanMemory {
    /// Between two rounds.
    every: Duration,
    seen: Mutex<BTreeMap<SiteId, [u8; 32]>>,
    /// Sites that have very many scans, and when they may be scanned again.
    resting: Mutex<BTreeMap<SiteId, Instant>>,
}

/// What became of a site that was walked.
#[derive(Debug)]
pub(crate) enum Scanned {
    Same,
    Published(Box<SnapshotRecord>),
    /// Not now: a restore of it is open, it was never backed up, or it is gone.
    Waits,
    Failed(Error),
}

/// Scans sites of one source, a few at once and one at a time where it reads; in the order of `sites`.
pub(crate) fn scan_sites(
    engine: &Engine,
    source: &dyn Source,
    sites: &[SiteId],
    memory: &ScanMemory,
) -> Vec<(SiteId, Scanned)> {
    let runtime = tokio::runtime::Handle::current();
    let work = |site: &SiteId, place: Place<'_>| {
        let scan = SiteScan { engine, source, id: site, memory };
        let scanned = engine.check_cancelled().and_then(|()| runtime.block_on(scan.run(place)));
        (site.clone(), scanned.unwrap_or_else(Scanned::Failed))
    };
    let is_cancelled =
        |(_, scanned): &(_, Scanned)| matches!(scanned, Scanned::Failed(error) if error.fault() == Fault::Cancelled);
    tokio::task::block_in_place(|| in_line(sites, work, is_cancelled, || {}))
}

struct SiteScan<'s> {
    engine: &'s Engine,
    source: &'s dyn Source,
    id: &'s SiteId,
    memory: &'s ScanMemory,
}

impl SiteScan<'_> {
    async fn run(&self, place: Place<'_>) -> Result<Scanned, Error> {
        if self.memory.is_resting(self.id) {
            return Ok(Scanned::Waits);
        }
        let Some(walked) = tokio::task::block_in_place(|| self.walk())? else { return Ok(Scanned::Waits) };
        if self.memory.knows(self.id, walked.with_problems) {
            return Ok(Scanned::Same);
        }
        let known = self.engine.memory.known_head(self.id);
        let Some(mut site) = self.engine.repository.site(self.id, known).await? else { return Ok(Scanned::Waits) };
        self.engine.memory.note_site(&site);
        // A restore is writing these files: what lies between its steps is no state of the site.
        if site.state().intent.is_some() {
            return Ok(Scanned::Waits);
        }
        let Some(before) = LastLook::load(&site, self.source).await? else { return Ok(Scanned::Waits) };
        if walked.is_whole() && before.is_whole() && walked.digest == before.digest {
            self.memory.note(self.id, walked.with_problems);
            return Ok(Scanned::Same);
        }
        if self.memory.rests(site.state(), Timestamp::now()) {
            return Ok(Scanned::Waits);
        }
        let published = self.publish(&mut site, before, place).await?;
        // What failed or waits is walked, and read, again.
        if matches!(published, Scanned::Same | Scanned::Published(_)) {
            self.memory.note(self.id, walked.with_problems);
        }
        Ok(published)
    }

    /// What the tree looks like; `None`: it is not there.
    fn walk(&self) -> Result<Option<Walked>, Error> {
        let Some(mut reader) = self.source.open(self.id)? else { return Ok(None) };
        let mut digest = Fingerprinter::default();
        digest.part(self.source.name(), true);
        while let Some(entry) = reader.next_entry()? {
            self.engine.check_cancelled()?;
            digest.entry(&entry);
        }
        let problems = reader.finish()?.problems;
        let digest = digest.finish();
        let mut with_problems = Fingerprinter::default();
        with_problems.database(&digest);
        problems.iter().for_each(|problem| with_problems.database(problem.entry.as_bytes()));
        Ok(Some(Walked { digest, with_problems: with_problems.finish(), problems: problems.len() as u64 }))
    }

    async fn publish(&self, site: &mut Site, before: LastLook, place: Place<'_>) -> Result<Scanned, Error> {
        let ingest = Ingest::start(site, self.engine.ingest).await?;
        let (parent, status, digest) = (before.snapshot, before.status.clone(), before.digest);
        let parent_entries = before.usable(&ingest);
        tokio::task::block_in_place(|| place.wait());
        self.engine.check_cancelled()?;
        let reading = PartIngest::new(self.engine, site, &ingest);
        let part = tokio::task::block_in_place(|| reading.read_source(self.source, &parent_entries))?;
        let _publishing = place.into_publishing(super::site::weight(std::slice::from_ref(&part)));
        match &part.part.record.status {
            PartStatus::Absent => return Ok(Scanned::Waits),
            PartStatus::Failed { reason } => {
                let hint = "it is tried again at the next scan".to_owned();
                return Ok(Scanned::Failed(Error::Conflict { detail: reason.clone(), hint }));
            }
            now if *now == status && fingerprint_of([(&part.part.record, entries_of(&part))]) == digest => {
                return Ok(Scanned::Same);
            }
            PartStatus::Complete | PartStatus::Incomplete { .. } => {}
        }
        let new = new_scan(parent, part)?;
        let prepared = ingest.finish(site, new).await?;
        let mut overlaps = false;
        let committed = site
            .publish(&this_process(), &prepared, |state, seen| {
                if overlapped(state, seen).is_some() {
                    overlaps = true;
                    return Err(lifeboat_repo::Error::Cancelled);
                }
                Ok(prepared.record.clone())
            })
            .await;
        if overlaps {
            return Ok(Scanned::Waits);
        }
        let generation = committed?.generation;
        site.compact_index(&this_process()).await?;
        self.engine.memory.note_site(site);
        Ok(Scanned::Published(Box::new(SnapshotRecord { generation, ..prepared.record })))
    }
}

fn new_scan(parent: SnapshotId, part: NewPart) -> Result<NewSnapshot, Error> {
    Ok(NewSnapshot {
        id: SnapshotId(random_id()?),
        mark: Mark::Incomplete,
        mark_reason: Some(REASON.into()),
        cut_from: part.part.record.cut_from,
        cut_till: Timestamp::now(),
        parent: Some(parent),
        restore: None,
        moment: None,
        is_scan: true,
        parts: vec![part],
    })
}

fn entries_of(part: &NewPart) -> impl Iterator<Item = &Entry> {
    part.entries.iter().map(|(entry, _)| entry)
}

struct Walked {
    digest: [u8; 32],
    /// The same, and what could not be read.
    with_problems: [u8; 32],
    problems: u64,
}

impl Walked {
    fn is_whole(&self) -> bool {
        self.problems == 0
    }
}

/// The newest snapshot or scan that has the part.
struct LastLook {
    snapshot: SnapshotId,
    status: PartStatus,
    manifest: Manifest,
    entries: Vec<Entry>,
    digest: [u8; 32],
}

impl LastLook {
    /// `None`: the site has no snapshot yet, so that there is nothing a scan could add to.
    async fn load(site: &Site, source: &dyn Source) -> Result<Option<Self>, Error> {
        let records = site.state().snapshots.iter().rev();
        let look = |record: &SnapshotRecord| is_look(record, source.name()).then(|| record.clone());
        let Some(record) = records.filter_map(look).next() else { return Ok(None) };
        let manifest = site.manifest(&record.manifest).await?;
        let Some((number, part)) = manifest.part(source.name()) else { return Ok(None) };
        let part: PartRecord = part.record.clone();
        let entries = manifest.entries(site, number).await?;
        let digest = fingerprint_of([(&part, &entries)]);
        Ok(Some(Self { snapshot: record.id, status: part.status, manifest, entries, digest }))
    }

    fn is_whole(&self) -> bool {
        self.status == PartStatus::Complete
    }

    /// What need not be read again; nothing, where its content lies in a manifest, which no other can name.
    fn usable(self, ingest: &Ingest) -> Parent {
        if self.manifest.is_inline(&self.entries) {
            return Parent::default();
        }
        ingest.adopt(self.manifest.head());
        Parent::new(self.entries)
    }
}

impl ScanMemory {
    pub fn new(every: Duration) -> Self {
        Self { every, seen: Mutex::default(), resting: Mutex::default() }
    }

    /// Whether a site has so many scans that it is not to have another one yet.
    fn rests(&self, state: &SiteState, now: Timestamp) -> bool {
        let scans = || state.snapshots.iter().filter(|record| record.is_scan);
        let intervals = u32::try_from(scans().count() as u64 / SCANS_A_REST).unwrap_or(u32::MAX);
        let Some(newest) = scans().next_back().filter(|_| intervals > 0) else { return false };
        let wait = self.every.saturating_mul(intervals.saturating_add(1));
        let Some(left) = wait.checked_sub(now.since(newest.cut_till)).filter(|left| !left.is_zero()) else {
            return false;
        };
        let till = Instant::now() + left;
        self.resting.lock().unwrap_or_else(PoisonError::into_inner).insert(state.site.clone(), till);
        true
    }

    fn is_resting(&self, site: &SiteId) -> bool {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        match resting.get(site) {
            Some(till) if *till > Instant::now() => true,
            Some(_) => resting.remove(site).is_none(),
            None => false,
        }
    }

    fn knows(&self, site: &SiteId, digest: [u8; 32]) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(site) == Some(&digest)
    }

    fn note(&self, site: &SiteId, digest: [u8; 32]) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(site.clone(), digest);
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_model::{Generation, KeyNumber, ManifestRef, ObjectId, PointState};

    use super::*;

    #[test]
    fn a_site_of_thousands_of_scans_is_scanned_the_more_rarely_the_more_it_has() {
        let scan = |at: i64| SnapshotRecord {
            id: SnapshotId([0; 8]),
            generation: Generation(1),
            manifest: ManifestRef { id: ObjectId([0; 16]), len: 0, head_offset: 0, head_len: 0 },
            mark: Mark::Incomplete,
            mark_reason: None,
            state: PointState::ReadBack,
            cut_from: Timestamp(at),
            cut_till: Timestamp(at),
            parent: None,
            entries: 0,
            logical_bytes: 0,
            added_bytes: 0,
            parts: Vec::new(),
            restore: None,
            moment: None,
            is_scan: true,
            forgotten: None,
        };
        let check = |scans: usize, minutes: i64, want: bool| {
            let mut state = SiteState::new(SiteId::new("acme").unwrap(), KeyNumber(1));
            state.snapshots = vec![scan(0); scans];
            let memory = ScanMemory::new(Duration::from_secs(300));
            assert_eq!(memory.rests(&state, Timestamp(minutes * 60_000_000)), want, "{scans} scans, {minutes} min");
        };
        check(999, 0, false);
        check(1_000, 9, true);
        check(1_000, 10, false);
        check(3_500, 19, true);
        check(3_500, 20, false);
    }
}
