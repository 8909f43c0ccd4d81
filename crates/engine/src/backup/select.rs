//! Which sites a run reads, and which it finds gone.
//!
//! Whoever is known of (by the last run, by this host, or by the bucket where a name is asked for) and is in no source any
//! more is gone, but only where every source answers.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_model::{Generation, PartProblem, Run, RunOutcome, SiteId};

use super::BackupRequest;
use crate::fleet::all_sites;
use crate::{Engine, Error, SourceHealth};

/// The sites that there are points of, and whether the last run found each gone.
pub(super) struct Known(BTreeMap<SiteId, bool>);

impl Known {
    /// To be asked before the sources are: who is born after it is listed.
    pub async fn look(engine: &Engine, request: &BackupRequest, last: Option<&Run>) -> Result<Self, Error> {
        let of_host = engine.memory.sites().into_iter().map(|site| (site, false));
        let of_run = last.iter().flat_map(|run| &run.sites);
        let of_run = of_run.map(|seen| (seen.site.clone(), seen.outcome == RunOutcome::Vanished));
        let mut known: BTreeMap<SiteId, bool> = of_host.chain(of_run).collect();
        for site in &request.sites {
            if !known.contains_key(site) && engine.repository.newest_generation(site).await? > Generation(0) {
                known.insert(site.clone(), false);
            }
        }
        Ok(Self(known))
    }
}

/// What becomes of each site in a run.
#[derive(Debug, Default)]
pub(super) struct Selected {
    pub here: Vec<SiteId>,
    /// Known, and in no source.
    pub gone: Vec<SiteId>,
    /// Asked for, and in no source that answers, while another one does not.
    pub unsure: Vec<SiteId>,
}

impl Selected {
    /// The sites that are asked for, or all.
    pub fn of(request: &BackupRequest, health: &[SourceHealth], known: &Known) -> Result<Self, Error> {
        if request.is_a_turn {
            return Ok(turn(request, health, known));
        }
        let listed = all_sites(health);
        let all_well = health.iter().all(|source| source.failure.is_none());
        if request.sites.is_empty() {
            // With a source down nobody can say that a site is gone.
            let is_gone = |site: &&SiteId| all_well && !listed.contains(*site);
            let gone = known.0.keys().filter(is_gone).cloned().collect();
            return Ok(Self { here: listed.into_iter().collect(), gone, unsure: Vec::new() });
        }
        if health.iter().all(|source| source.failure.is_some())
            && let Some((detail, hint)) = health.iter().find_map(|source| source.failure.clone())
        {
            return Err(Error::Conflict { detail, hint });
        }
        let mut selected = Self::default();
        for site in request.sites.iter().cloned().collect::<BTreeSet<_>>() {
            if listed.contains(&site) {
                selected.here.push(site);
            } else if !known.0.contains_key(&site) {
                return Err(unknown(&site, health, &listed));
            } else if all_well {
                selected.gone.push(site);
            } else {
                selected.unsure.push(site);
            }
        }
        Ok(selected)
    }
}

/// Of those whose turn it is, the ones that are there; and all that are gone, for the first time or whose turn it is.
fn turn(request: &BackupRequest, health: &[SourceHealth], known: &Known) -> Selected {
    let listed = all_sites(health);
    let asked: BTreeSet<SiteId> = request.sites.iter().cloned().collect();
    let here = asked.intersection(&listed).cloned().collect();
    // With a source down nobody can say that a site is gone.
    if health.iter().any(|source| source.failure.is_some()) {
        return Selected { here, ..Selected::default() };
    }
    let before = known.0.iter().filter(|(_, was_gone)| !**was_gone).map(|(site, _)| site);
    let gone: BTreeSet<&SiteId> = before.chain(&asked).filter(|site| !listed.contains(*site)).collect();
    Selected { here, gone: gone.into_iter().cloned().collect(), unsure: Vec::new() }
}

/// Nobody knows of it, though a source may miss it.
fn unknown(site: &SiteId, health: &[SourceHealth], listed: &BTreeSet<SiteId>) -> Error {
    if let Some(missed) = health.iter().find_map(|source| source.missed_site(site)) {
        let PartProblem { entry, reason } = &missed.problem;
        let detail = format!("the site cannot be backed up: site=`{site}`, path=`{entry}`, {reason}");
        return Error::Conflict { detail, hint: missed.remedy.clone() };
    }
    let hint = match crate::look::nearest(site, listed.iter()) {
        Some(near) => format!("did you mean `{near}`? `lifeboat sites` lists all of them"),
        None => "no source lists it; `lifeboat sites` lists all of them".into(),
    };
    Error::NoSuchSite { site: site.clone(), hint }
}

/// Why nothing is published of a site that may be gone.
pub(super) fn not_sure(site: &SiteId, health: &[SourceHealth]) -> Error {
    let failed = health.iter().find_map(|source| Some((&source.source, source.failure.as_ref()?)));
    let (source, hint) = failed.map_or_else(Default::default, |(source, (_, hint))| (source.to_string(), hint.clone()));
    let detail = format!("no source that answers lists the site, and one has failed: site=`{site}`, source=`{source}`");
    Error::Conflict { detail, hint }
}
