//! Finding damage: which transactions and runs removed or rewrote most, whose, and the last good moment.
//!
//!   footers ─▶ shared blocks since then ─▶ transactions that took something ─▶ incidents, worst first
//!   runs since then ─▶ sites that vanished or shrank                             (captured or not)
//!
//! No block of a site is read: what a transaction did is told by its counts. So the answer takes the same
//! time whoever was hit, and shows no value of a row.
//!
//! What is not here: what belongs together (`incident`), what runs say (`runs`), putting anything back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use lifeboat_model::{Epoch, EpochId, Generation, SiteId, SourceKind, SourceName, Timestamp, TransactionHead};
use lifeboat_repo::{ChangeLog, ListedSegment};

use crate::fleet::AnySource;
use crate::moment::log::first_sealed_since;
use crate::{Engine, Error};

mod collect;
mod incident;
mod restorable;
mod runs;

use collect::{Collector, Suspect};
pub use incident::{Incident, IncidentNote, SiteDamage, TableDamage};
pub use restorable::Restorable;
pub use runs::{RunDamage, RunDamageKind};

/// A segment is sealed by another clock than the one that commits are told by.
const CLOCK_SLACK: Duration = Duration::from_secs(600);

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamageRequest {
    pub since: Timestamp,
    /// Only this source; `None`: every one that the bucket has a log of, and the runs.
    pub source: Option<SourceName>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct DamageReport {
    pub logs: Vec<LogLooked>,
    /// Captured databases in files: their logs tell which pages were written, and not what was taken.
    pub of_files: Vec<SourceName>,
    /// Worst first.
    pub incidents: Vec<Incident>,
    /// Sites that vanished, shrank or were not seen, by site.
    pub runs: Vec<RunDamage>,
    /// Runs that were compared.
    pub runs_looked: u64,
    /// Logs that could not be read; the others are in the report all the same.
    pub failed: Vec<(SourceName, Error)>,
}

/// What of a log was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLooked {
    pub source: SourceName,
    pub segments: u64,
    pub transactions: u64,
    /// Till when the log knows what happened; `None`: it has no segment yet.
    pub till: Option<Timestamp>,
    /// Between two epochs nobody knows what happened: where such a stretch ends.
    pub gaps: Vec<(EpochId, Timestamp)>,
}

/// The moment just before a transaction, as `--at` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastGood {
    /// The transaction that ends it.
    pub before: TransactionHead,
}

impl LastGood {
    /// Exact: everything that committed before it.
    pub fn at(&self) -> String {
        format!("before-xid:{}", self.before.id)
    }

    /// As a time: a restore to it ends before the first commit that is later, which is this one or, where
    /// clocks jumped, one before it.
    pub fn time(&self) -> Timestamp {
        self.before.committed_at.saturating_sub(Duration::from_micros(1))
    }
}

/// Looks for damage in every log, and in the runs.
pub async fn find_damage(engine: &Engine, request: &DamageRequest) -> Result<DamageReport, Error> {
    let mut report = DamageReport::default();
    let captured = engine.repository.captured_sources().await?;
    if let Some(source) = &request.source
        && !captured.contains(source)
        && engine.fleet.source(source).is_none()
    {
        return Err(Error::NoSuchThing {
            detail: format!("no such source: source=`{source}`"),
            hint: "`lifeboat sources inspect` lists those that are configured".into(),
        });
    }
    let chosen = captured.into_iter().filter(|source| request.source.as_ref().is_none_or(|only| only == source));
    for source in chosen {
        engine.check_cancelled()?;
        match look_at_log(engine, &source, request.since).await {
            Ok(Some((looked, incidents))) => {
                report.logs.push(looked);
                report.incidents.extend(incidents);
            }
            Ok(None) => report.of_files.push(source),
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => report.failed.push((source, error)),
        }
    }
    restorable::look(engine, &mut report.incidents).await?;
    report.incidents.sort_by(|a, b| b.rank().cmp(&a.rank()).then_with(|| a.first.commit.cmp(&b.first.commit)));
    (report.runs, report.runs_looked) = runs::look(engine, request).await?;
    Ok(report)
}

/// `None`: a log of pages.
async fn look_at_log(
    engine: &Engine,
    source: &SourceName,
    since: Timestamp,
) -> Result<Option<(LogLooked, Vec<Incident>)>, Error> {
    let log = engine.change_log(source).await?;
    let epochs = epochs_since(&log, since).await?;
    if epochs.last().is_some_and(|newest| newest.facts.kind == SourceKind::Sqlite) {
        return Ok(None);
    }
    let mut looked = LogLooked { source: source.clone(), segments: 0, transactions: 0, till: None, gaps: Vec::new() };
    let mut collector = Collector::new(since);
    for epoch in epochs {
        if epoch.id > EpochId(1) && epoch.facts.begun_at >= since {
            looked.gaps.push((epoch.id, epoch.facts.begun_at));
        }
        let segments = segments_since(&log, epoch.id, since).await?;
        looked.segments += segments.len() as u64;
        let mut facts = std::pin::pin!(log.facts(segments).await?);
        while let Some((_, footer, shared)) = facts.try_next().await? {
            engine.check_cancelled()?;
            looked.till = Some(footer.sealed_at);
            collector.take(epoch.id, &footer, &shared);
        }
        collector.end_epoch(epoch.id);
    }
    looked.transactions = collector.transactions();
    let (mut suspects, notes) = collector.finish();
    tell_owners(engine, source, &mut suspects).await?;
    Ok(Some((looked, incident::incidents(source, suspects, &notes))))
}

/// Where each site has its tables to itself, what befell them is that site's. One that the bucket knows nothing of is
/// none: a copy that a restore made beside, and somebody dropped.
async fn tell_owners(engine: &Engine, source: &SourceName, suspects: &mut [Suspect]) -> Result<(), Error> {
    let Some(AnySource::Postgres(source)) = engine.fleet.source(source) else { return Ok(()) };
    if !source.has_own_tables() {
        return Ok(());
    }
    let tables = suspects
        .iter()
        .flat_map(|one| one.dropped.iter().map(String::as_str).chain(one.emptied.iter().map(|table| &**table)));
    let named: BTreeSet<SiteId> = tables.filter_map(|table| source.site_of_table(table)).collect();
    let mut known = BTreeSet::new();
    for site in named {
        if engine.repository.newest_generation(&site).await? > Generation(0) {
            known.insert(site);
        }
    }
    for suspect in suspects {
        suspect.tell_owners(&|table| source.site_of_table(table).filter(|site| known.contains(site)));
    }
    Ok(())
}

/// The epochs that reach into the time, oldest first.
pub(crate) async fn epochs_since(log: &ChangeLog, since: Timestamp) -> Result<Vec<Epoch>, Error> {
    let mut epochs = Vec::new();
    let mut number = log.newest().map_or(0, |newest| newest.epoch.0);
    while number > 0 {
        let epoch = log.epoch(EpochId(number)).await?;
        let is_enough = epoch.facts.begun_at < since;
        epochs.push(epoch);
        if is_enough {
            break;
        }
        number -= 1;
    }
    epochs.reverse();
    Ok(epochs)
}

/// The segments of an epoch that may hold what was committed since, found by halving: they were sealed in order.
pub(crate) async fn segments_since(
    log: &ChangeLog,
    epoch: EpochId,
    since: Timestamp,
) -> Result<Vec<ListedSegment>, Error> {
    let Some(newest) = log.newest_segment(epoch).await? else { return Ok(Vec::new()) };
    let since = since.saturating_sub(CLOCK_SLACK);
    let kept = log.kept(epoch).await?;
    let from = first_sealed_since(log, &kept, (newest.number, since)).await?;
    Ok(log.segments_kept(&kept, from..=newest.number).await?)
}

/// A table's name, shared by all that counts it.
type TableName = Arc<str>;

/// Of one site: its id and what it lost.
type BySite<T> = std::collections::BTreeMap<SiteId, T>;
