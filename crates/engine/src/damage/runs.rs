//! What runs say of damage: sites that vanished, shrank, or could not be seen. For sources that nobody captures.
//!
//! What is not here: judging a snapshot (`backup`): one that shrank was marked when it was published.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt};
use lifeboat_model::{
    Fault, Faulty, Mark, PartStatus, Run, RunNumber, RunOutcome, RunSite, SiteId, SiteState, SnapshotId,
    SnapshotRecord, SourceName, Timestamp,
};

use super::DamageRequest;
use crate::{Engine, Error};

/// Runs that are read: of one an hour, those of a month.
const RUNS_MAX: usize = 750;
/// Sites whose points are looked up at once.
const SITES_MAX: usize = 16;

/// A site that was worse in a later run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDamage {
    pub site: SiteId,
    pub kind: RunDamageKind,
    /// When it was found.
    pub found_at: Timestamp,
    /// Why, as the run or the snapshot says.
    pub reason: String,
    /// The newest good point before, and till when the site is known to have been so.
    pub last_good: Option<(SnapshotId, Timestamp)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunDamageKind {
    /// No source lists it any more.
    Vanished,
    /// A source had failed, as one that loses many sites at once has; the site was not listed.
    NotSeen,
    /// It lost more than its limit from one snapshot to the next.
    Shrank,
}

/// Compares the runs of the time and the newest one before it. Also says how many there were.
pub(super) async fn look(engine: &Engine, request: &DamageRequest) -> Result<(Vec<RunDamage>, u64), Error> {
    let runs = runs_since(engine, request.since).await?;
    let mut found = compare(&runs, request.since);
    let published: BTreeSet<SiteId> = published_since(&runs, request.since);
    let gone: BTreeSet<SiteId> = found.iter().map(|damage| damage.site.clone()).collect();
    let states = states(engine, published.union(&gone).cloned().collect()).await?;
    if found.iter().any(|damage| damage.kind == RunDamageKind::NotSeen) {
        let listed = tokio::task::block_in_place(|| listed_now(engine));
        let is_there = |site: &SiteId| states.get(site).is_some_and(|state| is_listed(state, &listed));
        found.retain(|damage| damage.kind != RunDamageKind::NotSeen || !is_there(&damage.site));
    }
    found.extend(states.values().filter_map(|state| shrank(state, request.since, request.source.as_ref())));
    if let Some(source) = &request.source {
        found.retain(|damage| damage.kind == RunDamageKind::Shrank || has_part(states.get(&damage.site), source));
    }
    found.sort_by(|a, b| (a.kind, &a.site).cmp(&(b.kind, &b.site)));
    Ok((found, runs.len() as u64))
}

/// Oldest first; the first one may be older than the time.
async fn runs_since(engine: &Engine, since: Timestamp) -> Result<Vec<Run>, Error> {
    let mut runs = Vec::new();
    let mut number = engine.repository.newest_run().await?.map_or(0, |newest| newest.0);
    while number > 0 && runs.len() < RUNS_MAX {
        engine.check_cancelled()?;
        let run = engine.repository.run(RunNumber(number)).await?;
        let is_before = run.started_at < since;
        runs.push(run);
        if is_before {
            break;
        }
        number -= 1;
    }
    runs.reverse();
    Ok(runs)
}

/// Sites that the newest run no longer has as an earlier one had them. Pure; `runs` are oldest first.
fn compare(runs: &[Run], since: Timestamp) -> Vec<RunDamage> {
    let mut last_good: BTreeMap<&SiteId, (SnapshotId, Timestamp)> = BTreeMap::new();
    let mut found: BTreeMap<&SiteId, RunDamage> = BTreeMap::new();
    for run in runs {
        // What is repeated from an earlier run was not looked at in this one.
        let is_looked_at = |seen: &RunSite| seen.seen_at >= run.started_at;
        let listed: BTreeSet<&SiteId> =
            run.sites.iter().filter(|seen| is_looked_at(seen)).map(|seen| &seen.site).collect();
        for seen in &run.sites {
            match (&seen.outcome, seen.snapshot) {
                (RunOutcome::Published | RunOutcome::Unchanged, Some(snapshot)) => {
                    last_good.insert(&seen.site, (snapshot, seen.seen_at));
                    if is_looked_at(seen) {
                        found.remove(&seen.site);
                    }
                }
                (RunOutcome::Vanished, _) => {
                    let reason = "no source lists it any more".to_owned();
                    let damage = damage_of((&seen.site, RunDamageKind::Vanished), seen.seen_at, reason, &last_good);
                    found.entry(&seen.site).or_insert(damage);
                }
                _ => {}
            }
        }
        let failure = run.sources.iter().find_map(|source| Some((&source.source, source.failure.as_ref()?)));
        let Some((source, failure)) = failure else { continue };
        for site in last_good.keys().copied().filter(|site| !listed.contains(site)) {
            let reason = format!("source `{source}` had failed: {failure}");
            let damage = damage_of((site, RunDamageKind::NotSeen), run.finished_at, reason, &last_good);
            found.entry(site).or_insert(damage);
        }
    }
    // What was gone before is no news, unless it was never seen otherwise.
    found.into_values().filter(|damage| damage.found_at >= since).collect()
}

fn damage_of(
    (site, kind): (&SiteId, RunDamageKind),
    found_at: Timestamp,
    reason: String,
    last_good: &BTreeMap<&SiteId, (SnapshotId, Timestamp)>,
) -> RunDamage {
    RunDamage { site: site.clone(), kind, found_at, reason, last_good: last_good.get(site).copied() }
}

fn published_since(runs: &[Run], since: Timestamp) -> BTreeSet<SiteId> {
    let seen = runs.iter().flat_map(|run| &run.sites).filter(|site| site.seen_at >= since);
    seen.filter(|site| site.outcome == RunOutcome::Published).map(|site| site.site.clone()).collect()
}

async fn states(engine: &Engine, sites: Vec<SiteId>) -> Result<BTreeMap<SiteId, SiteState>, Error> {
    let reads = sites.into_iter().map(|id| async move {
        match engine.repository.site(&id, engine.memory.known_head(&id)).await {
            Ok(site) => Ok(site.map(|site| (id, site.state().clone()))),
            // One site's damage is told by `check`, and hides no other's.
            Err(error) if error.fault() == Fault::Damage => {
                tracing::warn!(site = %id, %error, "this site's points cannot be read");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    });
    futures_util::stream::iter(reads)
        .buffer_unordered(SITES_MAX)
        .try_filter_map(|found| std::future::ready(Ok(found)))
        .try_collect()
        .await
}

/// The newest snapshot of the time, if it is one that shrank. Pure.
fn shrank(state: &SiteState, since: Timestamp, source: Option<&SourceName>) -> Option<RunDamage> {
    let newest = state.snapshots.iter().rev().find(|record| matches!(record.mark, Mark::Good | Mark::Suspect))?;
    if newest.mark != Mark::Suspect || newest.cut_till < since {
        return None;
    }
    let good = state.snapshots.iter().rev().find(|record| record.mark == Mark::Good);
    let lost = |source: &SourceName| {
        let bytes = |record: &SnapshotRecord| {
            record.parts.iter().find(|part| part.source == *source).map_or(0, |part| part.logical_bytes)
        };
        good.is_none_or(|good| bytes(newest) < bytes(good))
    };
    if source.is_some_and(|source| !lost(source)) {
        return None;
    }
    // Of several that shrank, the first one says since when.
    let first = state
        .snapshots
        .iter()
        .find(|record| record.mark == Mark::Suspect && good.is_none_or(|good| record.generation > good.generation));
    let first = first.unwrap_or(newest);
    Some(RunDamage {
        site: state.site.clone(),
        kind: RunDamageKind::Shrank,
        found_at: first.cut_till,
        reason: first.mark_reason.clone().unwrap_or_default(),
        last_good: good.map(|good| (good.id, good.cut_till)),
    })
}

/// What each source lists now; one that does not answer is not in it.
fn listed_now(engine: &Engine) -> BTreeMap<SourceName, BTreeSet<SiteId>> {
    let sources = engine.fleet.sources().iter().map(|source| source.as_source());
    let listed = sources.filter_map(|source| {
        let found = source.discover().inspect_err(|error| tracing::debug!(%error, "a source does not answer"));
        Some((source.name().clone(), found.ok()?.sites.into_iter().collect()))
    });
    listed.collect()
}

/// Whether every source that had a part of the site lists it now: then a failed run has merely not looked.
fn is_listed(state: &SiteState, listed: &BTreeMap<SourceName, BTreeSet<SiteId>>) -> bool {
    let Some(good) = state.latest() else { return false };
    let parts = good.parts.iter().filter(|part| part.status != PartStatus::Absent);
    parts.map(|part| listed.get(&part.source)).all(|sites| sites.is_some_and(|sites| sites.contains(&state.site)))
}

fn has_part(state: Option<&SiteState>, source: &SourceName) -> bool {
    let Some(newest) = state.and_then(|state| state.snapshots.iter().rev().find(|one| one.mark == Mark::Good)) else {
        return true; // nobody can tell
    };
    newest.parts.iter().any(|part| part.source == *source && part.status != PartStatus::Absent)
}

#[cfg(test)]
mod tests;
