//! Backing up: look at the sources, read what changed site by site, publish it, record the run.
//!
//! One site's failure never stops another; what happened to each is data in the report.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lifeboat_model::{
    CommitEvent, Fault, Faulty, Hold, HoldId, HoldReason, Mark, ObjectId, PartRecord, PartStatus, ProgressEvent, Run,
    RunNumber, RunOutcome, RunSite, RunSource, SiteId, SiteState, SnapshotRecord, SourceName, Timestamp,
};

use lifeboat_source::postgres::{ALTERED_MEANWHILE, CANNOT_LOCK};

use crate::fleet::all_sites;
use crate::{Engine, Error, SourceHealth, this_process};

mod bases;
mod cutter;
mod fingerprint;
mod judge;
mod line;
mod probe;
mod read;
mod scan;
mod select;
mod site;
mod standby;

pub(crate) use fingerprint::Fingerprinter;
pub(crate) use probe::probe_part;
pub(crate) use read::{Parent, PartIngest};
pub(crate) use scan::{ScanMemory, Scanned, scan_sites};

use bases::OldBases;
use line::{Place, in_line};
use select::{Known, Selected, not_sure};
use site::back_up_site;

/// A site whose tables were being altered is read again at the end of a run, after this.
const MIGRATION_PAUSE: Duration = Duration::from_secs(15);

/// What a run says of a site that was gone, is listed again, and was not asked for.
const IS_BACK: &str = "it is back in its sources, and was not backed up since";

/// What to back up.
#[derive(Debug, Clone, Default)]
pub struct BackupRequest {
    /// These sites; empty: every site that a healthy source lists.
    pub sites: Vec<SiteId>,
    /// The operator says that lost sites and shrunken data are meant.
    pub accept_loss: bool,
    /// Publish a snapshot also of what has not changed: as a base of changes that are captured since.
    pub anew: bool,
    /// The sites are those whose turn it is, of a fleet that is backed up in turns: one that no source lists is no mistake,
    /// and every site that is gone since the last run is found, whose turn it may be.
    pub is_a_turn: bool,
}

/// What a run did.
#[derive(Debug)]
pub struct BackupReport {
    pub run: RunNumber,
    pub sources: Vec<SourceHealth>,
    pub sites: Vec<SiteBackup>,
}

#[derive(Debug)]
pub struct SiteBackup {
    pub site: SiteId,
    pub outcome: SiteOutcome,
}

#[derive(Debug)]
pub enum SiteOutcome {
    Published(Box<SnapshotRecord>),
    /// Nothing changed since this snapshot.
    Unchanged(Box<SnapshotRecord>),
    /// No healthy source lists it any more. Its points are held, unless somebody said that the loss is meant.
    Vanished {
        is_accepted: bool,
    },
    Failed(Error),
}

impl SiteBackup {
    /// Whether the site has a good point of this run.
    pub fn is_good(&self) -> bool {
        match &self.outcome {
            SiteOutcome::Published(record) | SiteOutcome::Unchanged(record) => record.mark == Mark::Good,
            SiteOutcome::Vanished { .. } | SiteOutcome::Failed(_) => false,
        }
    }

    /// Whether it is incomplete for want of a lock, as while tables are altered.
    fn met_a_migration(&self) -> bool {
        let is_passing = |part: &PartRecord| matches!(&part.status, PartStatus::Failed { reason } if [ALTERED_MEANWHILE, CANNOT_LOCK].iter().any(|told| reason.contains(told)));
        matches!(&self.outcome, SiteOutcome::Published(record) if record.parts.iter().any(is_passing))
    }

    fn is_cancelled(&self) -> bool {
        matches!(&self.outcome, SiteOutcome::Failed(error) if error.fault() == Fault::Cancelled)
    }

    fn is_to_be_repeated(&self) -> bool {
        let lost_to_a_prune =
            matches!(&self.outcome, SiteOutcome::Failed(Error::Repo(lifeboat_repo::Error::CondemnedMeanwhile { .. })));
        self.met_a_migration() || lost_to_a_prune
    }
}

/// Backs up the asked sites and records the run.
pub async fn backup(engine: &Engine, request: &BackupRequest) -> Result<BackupReport, Error> {
    let started_at = Timestamp::now();
    let last = last_run(engine).await?;
    let last_sources = last.as_ref().map(|run| by_source(&run.sources)).unwrap_or_default();
    let looked_at = Timestamp::now();
    let known = Known::look(engine, request, last.as_ref()).await?;
    // That a site's loss is meant says nothing of a source that lacks more: only who accepts all of it takes that as it is.
    let accepts_all = request.accept_loss && request.sites.is_empty();
    let mut health = tokio::task::block_in_place(|| engine.fleet.look(&last_sources, accepts_all));
    standby::refuse(engine, &mut health).await?;
    let selected = Selected::of(request, &health, &known)?;

    let asked = Asked { request, health: &health, bases: OldBases::look(engine).await? };
    let (mut seen, mut done) = back_up_sites(engine, &selected.here, &asked);
    for site in selected.gone {
        let was = last.iter().flat_map(|run| &run.sites).find(|seen| seen.site == site);
        let outcome = settle_vanished(engine, &site, was, request).await.unwrap_or_else(SiteOutcome::Failed);
        seen.push(run_site(engine, &site, &outcome, Timestamp::now()));
        done.push(SiteBackup { site, outcome });
    }
    // Of these nothing was found out.
    let unsure = selected.unsure.into_iter();
    done.extend(unsure.map(|site| SiteBackup { outcome: SiteOutcome::Failed(not_sure(&site, &health)), site }));
    let run = Run {
        number: RunNumber(0),
        nonce: ObjectId([0; 16]),
        started_at,
        finished_at: Timestamp::now(),
        writer: this_process(),
        sources: sources_of(&health, &last_sources),
        sites: seen,
    };
    let run = record_run(engine, run, last, (&all_sites(&health), looked_at)).await?;
    Ok(BackupReport { run, sources: health, sites: done })
}

/// What holds for every site of a run.
struct Asked<'r> {
    request: &'r BackupRequest,
    health: &'r [SourceHealth],
    bases: OldBases,
}

/// Backs up one site after the other, publishing each while the next ones are read.
fn back_up_sites(engine: &Engine, sites: &[SiteId], asked: &Asked<'_>) -> (Vec<RunSite>, Vec<SiteBackup>) {
    engine.progress.report(ProgressEvent::SitesPlanned { sites: sites.len() as u64 });
    // Frozen sites are read as they are then, each at a moment of its own.
    if !engine.hooks.can_freeze() {
        engine.fleet.expect(sites);
    }
    let runtime = tokio::runtime::Handle::current();
    let work = |site: &SiteId, place: Place<'_>| {
        // Of every level that is shown: what is told of a site says whose it is.
        let _span = tracing::error_span!("backup", %site).entered();
        engine.progress.report(ProgressEvent::SiteStarted { site: site.clone() });
        let seen_at = Timestamp::now();
        let outcome =
            engine.check_cancelled().and_then(|()| runtime.block_on(back_up_site(engine, site, asked, place)));
        engine.progress.report(ProgressEvent::SiteFinished { site: site.clone(), ok: outcome.is_ok() });
        let outcome = outcome.unwrap_or_else(SiteOutcome::Failed);
        (run_site(engine, site, &outcome, seen_at), SiteBackup { site: site.clone(), outcome })
    };
    let is_cancelled = |(_, backup): &(RunSite, SiteBackup)| backup.is_cancelled();
    // Nobody reads any more: the databases need not keep what they were read at.
    let all = |sites: &[SiteId]| {
        tokio::task::block_in_place(|| in_line(sites, work, is_cancelled, || engine.fleet.end_cuts()))
    };
    let mut done = all(sites);
    let again: Vec<SiteId> =
        done.iter().filter(|(_, backup)| backup.is_to_be_repeated()).map(|(_, backup)| backup.site.clone()).collect();
    let waits = done.iter().any(|(_, backup)| backup.met_a_migration());
    if !again.is_empty() && (!waits || wait(engine, MIGRATION_PAUSE)) {
        if !engine.hooks.can_freeze() {
            engine.fleet.expect(&again);
        }
        let mut again: BTreeMap<SiteId, _> = all(&again).into_iter().map(|one| (one.1.site.clone(), one)).collect();
        // One that fails now altogether has the incomplete snapshot all the same, and says so.
        done = done.into_iter().map(|one| again.remove(&one.1.site).unwrap_or(one)).collect();
    }
    // Whoever was stopped has found out nothing of the site.
    let (seen, done): (Vec<_>, Vec<_>) =
        done.into_iter().map(|(seen, backup)| ((!backup.is_cancelled()).then_some(seen), backup)).unzip();
    (seen.into_iter().flatten().collect(), done)
}

/// Waits, unless the run is cancelled.
fn wait(engine: &Engine, pause: Duration) -> bool {
    let till = Instant::now() + pause;
    while Instant::now() < till {
        if engine.check_cancelled().is_err() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    true
}

/// The newest run, by the remembered number where there is one.
pub(crate) async fn last_run(engine: &Engine) -> Result<Option<Run>, Error> {
    if let Some(number) = engine.memory.newest_run() {
        match engine.repository.run(number).await {
            Ok(run) => return Ok(Some(run)),
            Err(error) if error.fault() == Fault::Damage => {
                return Err(Error::LostRun { run: number, source: error });
            }
            Err(error) => return Err(error.into()),
        }
    }
    let newest = engine.repository.newest_run().await?;
    Ok(match newest {
        Some(number) => Some(engine.repository.run(number).await?),
        None => None,
    })
}

fn by_source(sources: &[RunSource]) -> BTreeMap<SourceName, RunSource> {
    sources.iter().map(|source| (source.source.clone(), source.clone())).collect()
}

fn run_site(engine: &Engine, site: &SiteId, outcome: &SiteOutcome, seen_at: Timestamp) -> RunSite {
    let generation = engine.memory.known_head(site).map_or(lifeboat_model::Generation(0), |head| head.generation);
    let (generation, snapshot, outcome) = match outcome {
        SiteOutcome::Published(record) => (generation.max(record.generation), Some(record.id), RunOutcome::Published),
        SiteOutcome::Unchanged(record) => (generation.max(record.generation), Some(record.id), RunOutcome::Unchanged),
        SiteOutcome::Vanished { .. } => (generation, None, RunOutcome::Vanished),
        SiteOutcome::Failed(error) => (generation, None, RunOutcome::Failed { reason: error.to_string() }),
    };
    RunSite { site: site.clone(), generation, snapshot, seen_at, outcome }
}

pub(crate) use site::hold_once;

/// A run over a few sites, or over sources of which one had failed, or one that was stopped, repeats what the last one knew
/// of the others: so the newest run alone tells how far every sequence had come, and a site that is deleted meanwhile is
/// missed. Of two that looked at a site, who looked later counts.
fn carry_over(
    seen: Vec<RunSite>,
    last: Option<Run>,
    (listed, looked_at): (&BTreeSet<SiteId>, Timestamp),
) -> Vec<RunSite> {
    let mut all: BTreeMap<SiteId, RunSite> = seen.into_iter().map(|site| (site.site.clone(), site)).collect();
    for mut site in last.into_iter().flat_map(|run| run.sites) {
        let is_older = |seen: &RunSite| seen.seen_at < site.seen_at && seen.generation <= site.generation;
        if all.get(&site.site).is_none_or(is_older) {
            // Gone again later, it is another loss than the one that was accepted.
            let was_gone = site.outcome == RunOutcome::Vanished && site.seen_at < looked_at;
            if was_gone && listed.contains(&site.site) {
                site.outcome = RunOutcome::Failed { reason: IS_BACK.to_owned() };
            }
            all.insert(site.site.clone(), site);
        }
    }
    all.into_values().collect()
}

/// Whether somebody said that the loss of a site is meant (`--accept-loss`): a run found it vanished, its points are not
/// held for that, and nothing was restored of it since. `seen`: what the newest run says of it.
///
/// A run that finds a site gone holds its points before it is recorded; only accepting the loss releases them. A
/// site that comes back and vanishes again was something else in the run between, or was brought back by a restore.
pub fn is_loss_accepted(seen: Option<&RunSite>, state: &SiteState) -> bool {
    let Some(seen) = seen.filter(|seen| seen.outcome == RunOutcome::Vanished) else { return false };
    let is_back = |record: &SnapshotRecord| record.restore.is_some() && record.cut_till > seen.seen_at;
    let is_held = state.holds.iter().any(|hold| hold.reason == HoldReason::Vanished);
    !is_held && !state.snapshots.iter().any(is_back)
}

/// The same as far as the newest run alone tells.
pub fn may_be_accepted(seen: Option<&RunSite>) -> bool {
    seen.is_some_and(|seen| seen.outcome == RunOutcome::Vanished)
}

/// Keeps the points of a site that nobody lists any more, or releases them where the loss is meant.
async fn settle_vanished(
    engine: &Engine,
    id: &SiteId,
    was: Option<&RunSite>,
    request: &BackupRequest,
) -> Result<SiteOutcome, Error> {
    let Some(mut site) = engine.repository.site(id, engine.memory.known_head(id)).await? else {
        return Ok(SiteOutcome::Vanished { is_accepted: request.accept_loss });
    };
    let is_accepted = request.accept_loss || is_loss_accepted(was, site.state());
    if request.accept_loss {
        site::release_lost(&mut site).await?;
    } else if !is_accepted {
        site::hold_once(&mut site, HoldReason::Vanished, "no source lists the site any more").await?;
    }
    engine.memory.note_site(&site);
    Ok(SiteOutcome::Vanished { is_accepted })
}

fn sources_of(health: &[SourceHealth], last: &BTreeMap<SourceName, RunSource>) -> Vec<RunSource> {
    let source = |source: &SourceHealth| match (&source.failure, last.get(&source.source)) {
        // A failed source is remembered as it was when it was well: the next run compares with that.
        (Some((reason, _)), Some(last)) => RunSource { failure: Some(reason.clone()), ..last.clone() },
        (failure, _) => RunSource {
            source: source.source.clone(),
            sites: source.sites.len() as u64,
            root: source.root.clone(),
            failure: failure.as_ref().map(|(reason, _)| reason.clone()),
        },
    };
    health.iter().map(source).collect()
}

/// Records what was seen as the run after `last`; where another one is that by now, of this host or of another, after that
/// one, and with what it knows.
async fn record_run(
    engine: &Engine,
    seen: Run,
    mut last: Option<Run>,
    listed: (&BTreeSet<SiteId>, Timestamp),
) -> Result<RunNumber, Error> {
    loop {
        let number = last.as_ref().map_or(RunNumber(0), |run| run.number).next();
        let run = Run { number, sites: carry_over(seen.sites.clone(), last, listed), ..seen.clone() };
        if engine.repository.record_run(run.clone()).await? {
            engine.memory.note_run(&run);
            return Ok(number);
        }
        let newest = engine.repository.newest_run().await?.unwrap_or(number);
        let run = engine.repository.run(newest).await?;
        engine.memory.note_run(&run);
        last = Some(run);
    }
}

/// A new hold's id.
pub(crate) fn new_hold(reason: HoldReason, note: &str) -> Result<CommitEvent, Error> {
    let id = HoldId(crate::process::random_id()?);
    Ok(CommitEvent::HoldPlaced(Hold { id, reason, note: note.to_owned(), placed_at: Timestamp::now() }))
}

#[cfg(test)]
mod tests;
