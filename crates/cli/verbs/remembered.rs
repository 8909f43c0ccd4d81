//! Sites that are known without asking the sources: those of the newest run, and those of the catalog.
//!
//! The bucket has the last word on any one of them, and is not asked here.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_control::SiteRow;
use lifeboat_model::{RunOutcome, RunSite, SiteId};

use crate::CliError;
use crate::open::Open;

/// What this host and the newest run know of.
pub(super) struct Remembered {
    /// What the newest run found.
    pub seen: BTreeMap<SiteId, RunSite>,
    pub rows: BTreeMap<SiteId, SiteRow>,
}

impl Remembered {
    pub async fn gather(open: &Open) -> Result<Self, CliError> {
        let run = open.engine.repository.newest_runs(1).await?.pop();
        let seen = run.into_iter().flat_map(|run| run.sites).map(|site| (site.site.clone(), site)).collect();
        let rows = open.memory.rows().into_iter().map(|row| (row.site.clone(), row)).collect();
        Ok(Self { seen, rows })
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
