//! What the test knows by itself: what each point must hold, which points there were last night, and how much was done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifeboat_format::names::{self, ParsedName};
use lifeboat_model::{
    Epoch, EpochId, ObjectId, SiteObjects, SiteState, SnapshotId, SnapshotRecord, Timestamp, TransactionId, Visibility,
};
use lifeboat_repo::Site;
use lifeboat_store::{MemoryStore, Store};

use super::app::Rows;
use super::host::{Content, Host};
use super::moments::{KnownBase, KnownEpoch, is_restorable};
use super::tidy::RULES;

/// What a year came to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub points: u64,
    pub forgotten: u64,
    pub undeleted: u64,
    pub condemned: u64,
    pub deleted: u64,
    /// Backups that met what had been condemned meanwhile.
    pub began_anew: u64,
    pub crashes: u64,
    pub restores: u64,
    /// Of one site at a time, commits left aside.
    pub objects_max: u64,
    pub epochs: u64,
    pub compactions: u64,
    /// Of two that captured at once.
    pub fenced: u64,
    pub log_condemned: u64,
    pub log_deleted: u64,
    /// Of all epochs at a time, long ones too.
    pub segments_max: u64,
    /// Moments between nights that were given, and that were refused.
    pub moments: u64,
    pub refused: u64,
    pub erasures: u64,
    /// Blocks of the log that were tried after an erasure.
    pub unreadable: u64,
    /// All points of a site forgotten by mistake, and brought back.
    pub mistakes: u64,
}

/// What a site had when a snapshot was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub files: Content,
    pub rows: Rows,
}

pub struct Ledger {
    /// Looked at past everything that fails on command.
    store: Arc<MemoryStore>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    counts: Counts,
    ids: u64,
    contents: HashMap<SnapshotId, Held>,
    epochs: BTreeMap<EpochId, KnownEpoch>,
    bases: BTreeMap<String, Vec<KnownBase>>,
    /// Transactions that a base after the site's erasure may have needed from before.
    erased: BTreeMap<String, Vec<TransactionId>>,
    /// As the site was after the last night.
    last: BTreeMap<String, SiteState>,
    packs_of: HashMap<ObjectId, Vec<ObjectId>>,
}

impl Ledger {
    pub fn new(store: &Arc<MemoryStore>) -> Self {
        Self { store: store.clone(), inner: Mutex::default() }
    }

    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock().counts);
    }

    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    pub fn next_id(&self) -> SnapshotId {
        let mut inner = self.lock();
        inner.ids += 1;
        SnapshotId(inner.ids.to_be_bytes())
    }

    /// A point that may come to be.
    pub fn expect(&self, id: SnapshotId, held: &Held) {
        self.lock().contents.insert(id, held.clone());
    }

    pub fn holds(&self, id: SnapshotId, held: &Held) -> bool {
        self.lock().contents.get(&id) == Some(held)
    }

    pub fn published(&self, site: &str, base: KnownBase) {
        self.lock().bases.entry(site.to_owned()).or_default().push(base);
    }

    /// Nothing of before is there any more.
    pub fn erased(&self, site: &str, unseen: Vec<TransactionId>) {
        let mut inner = self.lock();
        inner.erased.entry(site.to_owned()).or_default().extend(unseen);
        inner.last.remove(site);
        inner.bases.remove(site);
        inner.counts.erasures += 1;
    }

    pub fn epoch_begun(&self, epoch: &Epoch) {
        let (begun_at, snapshot) = (epoch.facts.begun_at, Visibility::parse(&epoch.facts.snapshot).unwrap());
        let mut inner = self.lock();
        inner.counts.epochs += 1;
        inner.epochs.insert(epoch.id, KnownEpoch { begun_at, snapshot, sealed_till: None });
    }

    /// A segment is durable.
    pub fn sealed(&self, epoch: &Epoch, at: Timestamp) {
        // Whoever began it may have died of that: then nobody knows that it is there.
        if let Some(known) = self.lock().epochs.get_mut(&epoch.id) {
            known.sealed_till = Some(at);
        }
    }

    /// Whether a moment is restorable by what was captured and published.
    pub fn is_restorable(&self, site: &str, at: Timestamp) -> bool {
        let inner = self.lock();
        let bases = inner.bases.get(site).map(Vec::as_slice).unwrap_or_default();
        let erased = inner.erased.get(site).map(Vec::as_slice).unwrap_or_default();
        is_restorable(at, inner.epochs.values(), (bases, erased))
    }

    /// When something was sealed the last time.
    pub fn sealed_last(&self) -> Option<Timestamp> {
        self.lock().epochs.values().filter_map(|epoch| epoch.sealed_till).max()
    }

    /// After each night: no point went that was not forgotten for as long as it can be taken back, nothing went of a site that
    /// is held, and everything that a point or the index needs is there.
    pub async fn check(&self, host: &Host, site: &str, now: Timestamp, context: &str) {
        let open = host.open(site).await.unwrap_or_else(|error| panic!("{context}: {error}"));
        let state = open.state().clone();
        let ids = |records: &[SnapshotRecord]| records.iter().map(|record| record.id).collect::<BTreeSet<_>>();
        let (live, forgotten) = (ids(&state.snapshots), ids(&state.forgotten));
        let last = self.lock().last.get(site).cloned();
        if let Some(last) = last {
            let is_held = !last.holds.is_empty() && last.holds == state.holds;
            for record in last.snapshots.iter().chain(&last.forgotten) {
                let is_there = live.contains(&record.id) || forgotten.contains(&record.id);
                let has_expired = record.forgotten.is_some_and(|mark| now >= mark.till);
                assert!(is_there || has_expired && !is_held, "{context}: {site} has lost {}", record.id);
                assert!(
                    !is_held || record.forgotten.is_some() || live.contains(&record.id),
                    "{context}: held, and forgotten"
                );
            }
            let (was, were) = (ids(&last.snapshots), ids(&last.forgotten));
            self.count_points(&live, &forgotten, &was, &were);
        } else {
            self.count(|counts| counts.points += live.len() as u64);
        }
        let named = self.named(&open, &state).await;
        let found = objects_of(&self.store, &open).await;
        let missing: Vec<_> = named.difference(&found).collect();
        assert!(missing.is_empty(), "{context}: {site} needs what is not there: {missing:?}");
        let mut inner = self.lock();
        inner.counts.objects_max = inner.counts.objects_max.max(found.len() as u64);
        inner.last.insert(site.to_owned(), state);
    }

    fn count_points(
        &self,
        live: &BTreeSet<SnapshotId>,
        forgotten: &BTreeSet<SnapshotId>,
        was: &BTreeSet<SnapshotId>,
        were: &BTreeSet<SnapshotId>,
    ) {
        let new = live.union(forgotten).filter(|id| !was.contains(*id) && !were.contains(*id)).count();
        let gone = forgotten.difference(were).count();
        let back = live.intersection(were).count();
        self.count(|counts| {
            counts.points += new as u64;
            counts.forgotten += gone as u64;
            counts.undeleted += back as u64;
        });
    }

    /// Reads points whole, and compares.
    pub async fn check_restores(&self, host: &Host, site: &str, chosen: impl Fn(usize, usize) -> bool, context: &str) {
        let open = host.open(site).await.unwrap_or_else(|error| panic!("{context}: {error}"));
        let records: Vec<_> = open.state().snapshots.iter().chain(&open.state().forgotten).cloned().collect();
        for (at, record) in records.iter().enumerate().filter(|(at, _)| chosen(*at, records.len())) {
            let got = host.read(&open, record.id).await;
            let has_it = self.lock().contents.get(&record.id).is_some_and(|held| held.files == got);
            assert!(has_it, "{context}: {site} {at}: other content: {got:?}");
            self.count(|counts| counts.restores += 1);
        }
    }

    /// In the end: nothing waits longer than it must, and what is there is named.
    pub async fn check_rest(&self, host: &Host, site: &str, now: Timestamp, context: &str) {
        let open = host.open(site).await.unwrap();
        let state = open.state().clone();
        let late: Vec<_> =
            state.forgotten.iter().filter(|one| one.forgotten.is_none_or(|mark| mark.till < now)).collect();
        assert!(late.is_empty(), "{context}: {site} has what was forgotten long ago: {late:?}");
        // Bases are taken anew in quiet nights too, and older ones go.
        let waits = |at: Timestamp| at.0 + RULES.grace.as_micros() as i64 >= now.0;
        let late: Vec<_> = state.condemned.iter().filter(|condemned| !waits(condemned.at)).collect();
        assert!(late.is_empty(), "{context}: {site} has what was condemned long ago: {late:?}");
        let mut named = self.named(&open, &state).await;
        for SiteObjects { manifests, indexes, packs } in state.condemned.iter().map(|one| &one.objects) {
            named.extend(manifests.iter().chain(indexes).chain(packs));
        }
        let found = objects_of(&self.store, &open).await;
        let extra: Vec<_> = found.difference(&named).collect();
        assert!(extra.is_empty(), "{context}: {site} has what nothing names: {extra:?}");
    }

    async fn named(&self, site: &Site, state: &SiteState) -> BTreeSet<ObjectId> {
        let mut named: BTreeSet<ObjectId> = state.indexes.iter().map(|index| index.id).collect();
        for record in state.snapshots.iter().chain(&state.forgotten) {
            let id = record.manifest.id;
            named.insert(id);
            let known = self.lock().packs_of.get(&id).cloned();
            let packs = match known {
                Some(packs) => packs,
                None => {
                    let manifest = site.manifest(&record.manifest).await.unwrap_or_else(|error| panic!("{error}"));
                    let packs: Vec<_> = manifest.head().packs.iter().map(|row| row.id).collect();
                    self.lock().packs_of.insert(id, packs.clone());
                    packs
                }
            };
            named.extend(packs);
        }
        named
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Manifests, index segments and packs that are there.
async fn objects_of(store: &Arc<MemoryStore>, site: &Site) -> BTreeSet<ObjectId> {
    let listed = store.list(&names::site_prefix(&site.handle()), None, usize::MAX).await.unwrap();
    let ids = listed.iter().filter_map(|listed| match names::parse_object_name(listed.name.as_str()) {
        Some(ParsedName::Object(_, _, id)) => Some(id),
        _ => None,
    });
    ids.collect()
}
