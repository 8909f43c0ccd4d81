//! The bases: a snapshot of every site that has none in its sources' newest epochs, taken while changes are followed.
//!
//! One task for all sources: a snapshot is of a whole site, and serves each of them. New sites get theirs within
//! minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lifeboat_engine::{BackupRequest, SiteOutcome, backup, sites_without_base};
use lifeboat_model::{EpochId, Fault, Faulty, SiteId, SourceName};
use tokio::sync::Notify;

use super::{Capturing, News, POLL};

/// Sites come and go: those that are new are looked for so often.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// A site's structure is changed by several statements, each of which needs the tables that a base reads: they come first.
const SETTLES: Duration = Duration::from_secs(10);
/// Until those that failed are tried again; longer each time.
const FIRST_WAIT: Duration = Duration::from_secs(10);

/// The wish for bases; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Bases {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    wanted: Notify,
    /// Sites that have a base and need another, and since when nothing more became of them.
    again: Mutex<BTreeMap<(SiteId, SourceName), Instant>>,
    is_over: AtomicBool,
}

/// What became of bases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BasesTaken {
    pub good: u64,
    /// Sites without a good snapshot, and why.
    pub failed: Vec<(SiteId, String)>,
    /// Why no site at all could be looked at.
    pub error: Option<String>,
}

type Proven = BTreeMap<SourceName, (Option<EpochId>, BTreeSet<SiteId>)>;

impl Bases {
    /// An epoch has begun, or is followed on.
    pub fn want(&self) {
        self.inner.wanted.notify_one();
    }

    /// These need another base than they have.
    pub fn want_again(&self, source: &SourceName, sites: Vec<SiteId>) {
        self.again().extend(sites.into_iter().map(|site| ((site, source.clone()), Instant::now())));
        self.want();
    }

    fn again(&self) -> MutexGuard<'_, BTreeMap<(SiteId, SourceName), Instant>> {
        self.inner.again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn end(&self) {
        self.inner.is_over.store(true, Ordering::Relaxed);
        self.want();
    }

    /// Takes bases whenever there are some to be taken, until it is told to end.
    pub async fn keep(self, shared: Arc<Capturing>) {
        let sources: Vec<SourceName> = shared.requests.iter().map(|request| request.source.clone()).collect();
        let (mut proven, mut wait, mut told) = (Proven::new(), FIRST_WAIT, None);
        self.inner.wanted.notified().await; // nothing is captured yet
        while !self.inner.is_over.load(Ordering::Relaxed) && !shared.is_cancelled() {
            let taken = self.take_wanted(&shared, (&sources, SETTLES), &mut proven).await;
            // The same trouble is told once.
            if let Some((source, taken)) = &taken
                && (taken.good > 0 || told.as_ref() != Some(taken))
            {
                (shared.tell)(source, News::BasesTaken(taken.clone()));
            }
            let taken = taken.map(|(_, taken)| taken);
            told = taken.clone();
            let is_well = taken.as_ref().is_none_or(|taken| taken.failed.is_empty() && taken.error.is_none());
            let pause = if is_well { LOOK_EVERY } else { wait };
            let pause = if is_well && !self.again().is_empty() { SETTLES / 4 } else { pause };
            wait = if is_well { FIRST_WAIT } else { (wait * 2).min(LOOK_EVERY) };
            self.pause(&shared, pause).await;
        }
    }

    /// Takes them once. `None`: there were none to be taken.
    pub async fn take(&self, shared: &Capturing, sources: &[SourceName]) -> Option<BasesTaken> {
        let (source, taken) = self.take_wanted(shared, (sources, Duration::ZERO), &mut Proven::new()).await?;
        (shared.tell)(&source, News::BasesTaken(taken.clone()));
        Some(taken)
    }

    /// What is wanted again and fails is wanted still, and so is what did not settle yet.
    async fn take_wanted(
        &self,
        shared: &Capturing,
        (sources, settles): (&[SourceName], Duration),
        proven: &mut Proven,
    ) -> Option<(SourceName, BasesTaken)> {
        let settled = |since: &Instant| since.elapsed() >= settles;
        let again: BTreeMap<_, _> = self.again().extract_if(.., |_, since| settled(since)).collect();
        let sites: BTreeSet<(SiteId, SourceName)> = again.keys().cloned().collect();
        let unsettled: BTreeSet<SiteId> = self.again().keys().map(|(site, _)| site.clone()).collect();
        let taken = take(shared, sources, (&sites, &unsettled), proven).await;
        let has_failed = |site: &SiteId| match &taken {
            None => true,
            Some((_, taken)) => taken.error.is_some() || taken.failed.iter().any(|(failed, _)| failed == site),
        };
        self.again().extend(again.into_iter().filter(|((site, _), _)| has_failed(site)));
        taken
    }

    async fn pause(&self, shared: &Capturing, wait: Duration) {
        let till = Instant::now() + wait;
        while Instant::now() < till && !shared.is_cancelled() {
            // Woken early: an epoch has begun.
            if tokio::time::timeout(POLL * 5, self.inner.wanted.notified()).await.is_ok() {
                return;
            }
        }
    }
}

/// What became of it, and for which source it was, among others.
async fn take(
    shared: &Capturing,
    sources: &[SourceName],
    (again, unsettled): (&BTreeSet<(SiteId, SourceName)>, &BTreeSet<SiteId>),
    proven: &mut Proven,
) -> Option<(SourceName, BasesTaken)> {
    let mut sites: BTreeMap<SiteId, SourceName> = again.iter().cloned().collect();
    for source in sources {
        match sites_without_base(&shared.engine, source, proven.entry(source.clone()).or_default()).await {
            Ok(without) => {
                let settled = without.into_iter().filter(|site| !unsettled.contains(site));
                sites.extend(settled.map(|site| (site, source.clone())));
            }
            Err(error) if error.fault() == Fault::Cancelled => return None,
            Err(error) => {
                let taken = BasesTaken { error: Some(error.to_string()), ..BasesTaken::default() };
                return Some((source.clone(), taken));
            }
        }
    }
    let source = sites.values().next()?.clone();
    (shared.tell)(&source, News::TakingBases(sites.len() as u64));
    let request = BackupRequest { sites: sites.into_keys().collect(), anew: true, ..BackupRequest::default() };
    let taken = match backup(&shared.engine, &request).await {
        Err(error) => BasesTaken { error: Some(error.to_string()), ..BasesTaken::default() },
        Ok(report) => {
            let mut taken = BasesTaken::default();
            for site in report.sites {
                match site.outcome {
                    SiteOutcome::Published(record) | SiteOutcome::Unchanged(record) if !is_usable(&record) => {
                        taken.failed.push((site.site, record.mark_reason.unwrap_or_default()));
                    }
                    SiteOutcome::Published(_) | SiteOutcome::Unchanged(_) => taken.good += 1,
                    SiteOutcome::Vanished { .. } => {}
                    SiteOutcome::Failed(error) if error.fault() == Fault::Cancelled => {}
                    SiteOutcome::Failed(error) => taken.failed.push((site.site, error.to_string())),
                }
            }
            taken
        }
    };
    Some((source, taken))
}

/// A base must be whole; that it is suspect because it shrank does not matter to the changes on top of it.
fn is_usable(record: &lifeboat_model::SnapshotRecord) -> bool {
    matches!(record.mark, lifeboat_model::Mark::Good | lifeboat_model::Mark::Suspect)
}
