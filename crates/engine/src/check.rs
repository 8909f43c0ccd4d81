//! Checking sites and change logs: what the repository holds is whole, and is what was last seen there.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_model::{Fault, Faulty, Generation, ProgressEvent, ProgressPhase, SiteId, SourceName};
use lifeboat_repo::{ChangeLog, CheckDepth, CheckReport, LogCheckReport, SetAside};

use crate::{Engine, Error, this_process};

/// What to check.
#[derive(Debug, Clone)]
pub struct CheckRequest {
    /// These sites; empty: every site the store has.
    pub sites: Vec<SiteId>,
    pub depth: CheckDepth,
}

/// What the check of one site found.
#[derive(Debug)]
pub struct SiteCheck {
    pub site: SiteId,
    pub outcome: Result<CheckReport, Error>,
}

impl SiteCheck {
    pub fn is_whole(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|report| report.findings.is_empty())
    }
}

/// What the check of one source's change log found.
#[derive(Debug)]
pub struct LogCheck {
    pub source: SourceName,
    pub outcome: Result<LogCheckReport, Error>,
}

/// Checks every change log: all of it, or of blocks those of the sites that were asked for.
pub async fn check_logs(engine: &Engine, request: &CheckRequest) -> Result<Vec<LogCheck>, Error> {
    let mut checks = Vec::new();
    for source in engine.repository.captured_sources().await? {
        engine.check_cancelled()?;
        let outcome = check_log(engine, &source, request).await;
        match &outcome {
            Err(error) if error.fault() == Fault::Cancelled => return Err(Error::Cancelled),
            _ => checks.push(LogCheck { source, outcome }),
        }
    }
    Ok(checks)
}

async fn check_log(engine: &Engine, source: &SourceName, request: &CheckRequest) -> Result<LogCheckReport, Error> {
    let log = ChangeLog::open(&engine.repository, source).await?;
    Ok(log.check(request.depth, &request.sites).await?)
}

/// Checks sites one after another; damage of one never hides another's.
pub async fn check(engine: &Engine, request: &CheckRequest) -> Result<Vec<SiteCheck>, Error> {
    let seen = seen_by_runs(engine).await?;
    let sites: BTreeSet<SiteId> = match request.sites.is_empty() {
        true => {
            let found = engine.repository.sites().await?;
            // A site that a run saw and the store no longer has is damage as well.
            let recorded = seen.iter().filter(|(_, generation)| generation.0 > 0).map(|(site, _)| site.clone());
            found.iter().map(|site| site.id().clone()).chain(recorded).collect()
        }
        false => request.sites.iter().cloned().collect(),
    };
    engine.progress.report(ProgressEvent::SitesPlanned { sites: sites.len() as u64 });
    let mut checks = Vec::with_capacity(sites.len());
    for site in sites {
        engine.check_cancelled()?;
        engine.progress.report(ProgressEvent::SiteStarted { site: site.clone() });
        engine.progress.report(ProgressEvent::PhaseChanged { site: site.clone(), phase: ProgressPhase::Checking });
        let outcome = check_site(engine, &site, seen.get(&site).copied(), request.depth).await;
        let check = SiteCheck { site: site.clone(), outcome };
        engine.progress.report(ProgressEvent::SiteFinished { site, ok: check.is_whole() });
        match &check.outcome {
            Err(error) if error.fault() == Fault::Cancelled => return Err(Error::Cancelled),
            _ => checks.push(check),
        }
    }
    Ok(checks)
}

async fn check_site(
    engine: &Engine,
    id: &SiteId,
    seen: Option<Generation>,
    depth: CheckDepth,
) -> Result<CheckReport, Error> {
    let site = engine.repository.site(id, engine.memory.known_head(id)).await?;
    let newest = site.as_ref().map_or(Generation(0), |site| site.head().generation);
    if let Some(known) = seen
        && newest < known
    {
        return Err(lifeboat_repo::Error::RolledBack { site: id.clone(), found: newest.0, known }.into());
    }
    let Some(mut site) = site else { return Err(engine.site(id).await.err().unwrap_or(Error::Cancelled)) };
    engine.memory.note_site(&site);
    let report = site.check(depth).await?;
    for snapshot in &report.read_back {
        site.mark_read_back(*snapshot, &this_process()).await?;
    }
    engine.memory.note_site(&site);
    Ok(report)
}

/// Lets nothing use any more what a check of the site has found damaged.
pub async fn set_aside(engine: &Engine, id: &SiteId, report: &CheckReport) -> Result<SetAside, Error> {
    let mut site = engine.site(id).await?;
    let done = site.set_aside(&report.findings, &this_process()).await?;
    engine.memory.note_site(&site);
    Ok(done)
}

/// How far each site's sequence had come by the newest run.
async fn seen_by_runs(engine: &Engine) -> Result<BTreeMap<SiteId, Generation>, Error> {
    let runs = engine.repository.newest_runs(1).await?;
    Ok(runs.into_iter().flat_map(|run| run.sites).map(|site| (site.site, site.generation)).collect())
}
