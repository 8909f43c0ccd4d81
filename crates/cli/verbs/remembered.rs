//! Sites that are known without asking the sources: those of the newest run, and those of the catalog.
//!
//! The bucket has the last word on any one of them, and is not asked here.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_control::SiteRow;
use lifeboat_model::{Run, RunOutcome, RunSite, RunSource, SiteId, SourceName};

use crate::CliError;
use crate::open::Open;

/// What this host and the newest run know of.
pub(super) struct Remembered {
    /// What the newest run found.
    pub seen: BTreeMap<SiteId, RunSite>,
    pub rows: BTreeMap<SiteId, SiteRow>,
    /// How the newest run found each source.
    pub sources: BTreeMap<SourceName, RunSource>,
    /// How often backups of a site have failed one after another until now, and why the newest did.
    pub failures: BTreeMap<SiteId, (u64, String)>,
}

impl Remembered {
    pub async fn gather(open: &Open) -> Result<Self, CliError> {
        Self::gather_of(open, 1).await
    }

    /// The same, with so many runs looked at for backups that fail again and again.
    pub async fn gather_of(open: &Open, runs: usize) -> Result<Self, CliError> {
        let mut runs = open.engine.repository.newest_runs(runs.max(1)).await?.into_iter();
        let rows = open.memory.rows().into_iter().map(|row| (row.site.clone(), row)).collect();
        let Some(newest) = runs.next() else {
            return Ok(Self { seen: BTreeMap::new(), rows, sources: BTreeMap::new(), failures: BTreeMap::new() });
        };
        let failures = failures(std::iter::once(&newest).chain(runs.as_slice()));
        let seen = newest.sites.into_iter().map(|site| (site.site.clone(), site)).collect();
        let sources = newest.sources.into_iter().map(|source| (source.source.clone(), source)).collect();
        Ok(Self { seen, rows, sources, failures })
    }

    pub fn sites(&self) -> BTreeSet<&SiteId> {
        self.seen.keys().chain(self.rows.keys()).collect()
    }

    /// Those that the run found, and has a point of, and those of the catalog.
    pub fn backed_up(self) -> BTreeSet<SiteId> {
        let was_there = |site: &RunSite| matches!(site.outcome, RunOutcome::Published | RunOutcome::Unchanged);
        let seen = self.seen.into_iter().filter(|(_, site)| was_there(site)).map(|(site, _)| site);
        seen.chain(self.rows.into_keys()).collect()
    }
}

/// Newest first. A run that did not look at a site repeats what the one before it said.
fn failures<'a>(runs: impl Iterator<Item = &'a Run>) -> BTreeMap<SiteId, (u64, String)> {
    let (mut failures, mut ended): (BTreeMap<SiteId, (u64, String)>, BTreeSet<&SiteId>) = Default::default();
    let mut looks = BTreeSet::new();
    for site in runs.flat_map(|run| &run.sites) {
        match &site.outcome {
            RunOutcome::Failed { .. } if !looks.insert((&site.site, site.seen_at)) => {}
            RunOutcome::Failed { reason } if !ended.contains(&site.site) => {
                failures.entry(site.site.clone()).or_insert_with(|| (0, reason.clone())).0 += 1;
            }
            _ => {
                ended.insert(&site.site);
            }
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use lifeboat_model::{Generation, ObjectId, RunNumber, Timestamp, WriterIdentity};

    use super::*;

    #[test]
    fn failures_are_counted_until_the_newest_run_in_which_the_site_came_through() {
        let run = |at: i64, outcomes: &[(&str, Option<&str>)]| Run {
            number: RunNumber(1),
            nonce: ObjectId([0; 16]),
            started_at: Timestamp(0),
            finished_at: Timestamp(0),
            writer: WriterIdentity {
                host: String::new(),
                machine: String::new(),
                boot: String::new(),
                pid: 0,
                started: 0,
            },
            sources: Vec::new(),
            sites: outcomes
                .iter()
                .map(|(site, failed)| RunSite {
                    site: SiteId::new(*site).unwrap(),
                    generation: Generation(0),
                    snapshot: None,
                    seen_at: Timestamp(at),
                    outcome: failed
                        .map_or(RunOutcome::Unchanged, |reason| RunOutcome::Failed { reason: reason.into() }),
                })
                .collect(),
        };
        let runs = [
            run(4, &[("a", Some("newest")), ("b", None), ("c", Some("x"))]),
            run(4, &[("c", Some("x"))]),
            run(3, &[("b", Some("y"))]),
            run(2, &[("a", Some("older")), ("c", None)]),
            run(1, &[("c", Some("z"))]),
        ];
        let counted = failures(runs.iter());
        let told: Vec<(&str, u64, &str)> =
            counted.iter().map(|(site, (times, reason))| (site.as_str(), *times, reason.as_str())).collect();
        assert_eq!(told, [("a", 2, "newest"), ("c", 1, "x")]);
    }
}
