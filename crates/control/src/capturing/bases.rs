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
    /// Sites that have a base, and need another.
    again: Mutex<BTreeSet<(SiteId, SourceName)>>,
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
        self.again().extend(sites.into_iter().map(|site| (site, source.clone())));
        self.want();
    }

    fn again(&self) -> MutexGuard<'_, BTreeSet<(SiteId, SourceName)>> {
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
            let taken = self.take_wanted(&shared, &sources, &mut proven).await;
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
            wait = if is_well { FIRST_WAIT } else { (wait * 2).min(LOOK_EVERY) };
            self.pause(&shared, pause).await;
        }
    }

    /// Takes them once. `None`: there were none to be taken.
    pub async fn take(&self, shared: &Capturing, sources: &[SourceName]) -> Option<BasesTaken> {
        let (source, taken) = self.take_wanted(shared, sources, &mut Proven::new()).await?;
        (shared.tell)(&source, News::BasesTaken(taken.clone()));
        Some(taken)
    }

    /// What is wanted again and fails is wanted still.
    async fn take_wanted(
        &self,
        shared: &Capturing,
        sources: &[SourceName],
        proven: &mut Proven,
    ) -> Option<(SourceName, BasesTaken)> {
        let again = std::mem::take(&mut *self.again());
        let taken = take(shared, (sources, &again), proven).await;
        let has_failed = |site: &SiteId| match &taken {
            None => true,
            Some((_, taken)) => taken.error.is_some() || taken.failed.iter().any(|(failed, _)| failed == site),
        };
        self.again().extend(again.into_iter().filter(|(site, _)| has_failed(site)));
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
    (sources, again): (&[SourceName], &BTreeSet<(SiteId, SourceName)>),
    proven: &mut Proven,
) -> Option<(SourceName, BasesTaken)> {
    let mut sites: BTreeMap<SiteId, SourceName> = again.iter().cloned().collect();
    for source in sources {
        match sites_without_base(&shared.engine, source, proven.entry(source.clone()).or_default()).await {
            Ok(without) => sites.extend(without.into_iter().map(|site| (site, source.clone()))),
            Err(error) if error.fault() == Fault::Cancelled => return None,
            Err(error) => {
                let taken = BasesTaken { error: Some(error.to_string()), ..BasesTaken::default() };
                return Some((source.clone(), taken));
            }
        }
    }
    let source = sites.values().next()?.clone();
    (shared.tell)(&source, News::TakingBases(sites.len() as u64));
    let request = BackupRequest { sites: sites.into_keys().collect(), accept_loss: false, anew: true };
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
                    SiteOutcome::Vanished => {}
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
