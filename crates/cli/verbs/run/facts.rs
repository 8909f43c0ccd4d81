//! What the daemon knows when it decides: from the bucket's newest run, the catalog, and the sources.
//!
//! ```text
//! newest run ──▶ who was seen when, and what came of it        read again only when there is a newer one
//! catalog ─────▶ newest good points, sizes, what was read back, which jobs ended when
//! sources ─────▶ sites that are new                            asked every `daemon.discover`
//! ```
//!
//! What failed is remembered by this process alone: whoever starts anew tries once more.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use lifeboat_control::schedule::{DuePolicy, DueSite, ReadSite};
use lifeboat_control::{ReadBack, SiteRow};
use lifeboat_model::{Run, RunOutcome, RunSource, SiteHandle, SiteId, SourceName, Timestamp};

use crate::CliError;
use crate::config::Config;
use crate::open::Open;

/// The configuration that is in force, and what it says of when.
pub(super) struct Rules {
    pub config: Config,
    /// That of `[policy]`, then the named ones in their order.
    pub policies: Vec<DuePolicy>,
}

impl Rules {
    pub fn new(config: Config) -> Self {
        let all = std::iter::once(&config.policy).chain(config.policies.iter().map(|named| &named.policy));
        let policies = all.map(|policy| DuePolicy { schedule: policy.firing(), rpo: policy.rpo }).collect();
        Self { config, policies }
    }

    fn policy_of(&self, site: &SiteId) -> usize {
        self.config.policies.iter().position(|named| named.matches(site)).map_or(0, |number| number + 1)
    }

    /// What a policy is called.
    pub fn name_of(&self, policy: usize) -> String {
        let named = policy.checked_sub(1).and_then(|number| self.config.policies.get(number));
        named.map_or_else(|| "policy".to_owned(), |named| format!("policies.{}", named.name))
    }
}

/// What a look found.
#[derive(Clone)]
pub(super) struct Known {
    pub run: Option<Arc<Run>>,
    pub rows: Arc<Vec<SiteRow>>,
    /// What the sources listed last, and when that was.
    pub listed: Arc<BTreeSet<SiteId>>,
    pub listed_at: Instant,
    pub jobs: BTreeMap<String, Timestamp>,
    pub read_back: BTreeMap<SiteHandle, ReadBack>,
}

impl Known {
    /// Looks, and reads anew only what may be otherwise than `before`.
    pub async fn look(open: &Open, before: Option<Self>, lists: bool) -> Result<Self, CliError> {
        let newest = open.engine.repository.newest_run().await?;
        let known = before.as_ref().and_then(|before| before.run.clone());
        let run = match newest {
            Some(number) if known.as_ref().is_none_or(|run| run.number != number) => {
                let run = open.engine.repository.run(number).await?;
                open.engine.memory.note_run(&run);
                Some(Arc::new(run))
            }
            Some(_) => known,
            None => None,
        };
        let listed = match before.filter(|_| !lists) {
            Some(before) => (before.listed, before.listed_at),
            None => (Arc::new(list(open, run.as_deref())), Instant::now()),
        };
        let memory = &open.memory;
        let (listed, listed_at) = listed;
        let rows = Arc::new(memory.rows());
        Ok(Self { run, rows, listed, listed_at, jobs: memory.jobs(), read_back: memory.read_back() })
    }

    /// Sites that sources list, found on the way.
    pub fn found(&mut self, listed: BTreeSet<SiteId>) {
        if !listed.is_subset(&self.listed) {
            self.listed = Arc::new(self.listed.union(&listed).cloned().collect());
        }
    }

    /// What is known of every site, for the decision.
    pub fn due_sites(&self, rules: &Rules, tries: &Tries, running: &HashSet<SiteId>) -> Vec<DueSite> {
        let rows: HashMap<&SiteId, &SiteRow> = self.rows.iter().map(|row| (&row.site, row)).collect();
        let mut seen: BTreeMap<&SiteId, Seen> = self.listed.iter().map(|site| (site, Seen::default())).collect();
        for row in self.rows.iter() {
            // A good point is one, whoever made it: a base of a capture, and one whose run was killed before it was recorded.
            let good_at = row.summary.latest_at;
            seen.entry(&row.site).or_default().done(good_at);
            if let Some(run) = &row.last_run {
                seen.entry(&row.site).or_default().outcome(&run.outcome, run.seen_at);
            }
        }
        for site in self.run.iter().flat_map(|run| &run.sites) {
            seen.entry(&site.site).or_default().outcome(&site.outcome, site.seen_at);
        }
        let due = |(site, seen): (&SiteId, Seen)| {
            let good_at = rows.get(site).and_then(|row| row.summary.latest_at);
            let (done_at, failed_at, failures) = tries.of(site, seen, good_at);
            let is_running = running.contains(site);
            DueSite { site: site.clone(), policy: rules.policy_of(site), done_at, failed_at, failures, is_running }
        };
        seen.into_iter().map(due).collect()
    }

    /// Sites with stored data, for reading back.
    pub fn read_sites(&self) -> Vec<ReadSite> {
        let site = |row: &SiteRow| ReadSite {
            site: row.site.clone(),
            bytes: row.summary.logical_bytes,
            read_at: self.read_back.get(&row.handle).map(|read| read.read_at),
        };
        self.rows.iter().map(site).collect()
    }
}

/// Every site that a source lists now; one that fails lists none, and the next backup tells why.
fn list(open: &Open, run: Option<&Run>) -> BTreeSet<SiteId> {
    let last: BTreeMap<SourceName, RunSource> =
        run.iter().flat_map(|run| &run.sources).map(|source| (source.source.clone(), source.clone())).collect();
    let health = tokio::task::block_in_place(|| open.engine.fleet.look(&last, false));
    health.into_iter().filter(|source| source.failure.is_none()).flat_map(|source| source.sites).collect()
}

/// What runs and points say of a site.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    done_at: Option<Timestamp>,
    failed_at: Option<Timestamp>,
}

impl Seen {
    fn done(&mut self, at: Option<Timestamp>) {
        self.done_at = self.done_at.max(at);
    }

    fn outcome(&mut self, outcome: &RunOutcome, seen_at: Timestamp) {
        match outcome {
            RunOutcome::Failed { .. } => self.failed_at = self.failed_at.max(Some(seen_at)),
            // That it is gone was found out, and is told.
            RunOutcome::Published | RunOutcome::Unchanged | RunOutcome::Vanished => self.done(Some(seen_at)),
        }
    }
}

/// Sites that this process tried in vain since they were done.
#[derive(Debug, Default)]
pub(super) struct Tries(HashMap<SiteId, (Timestamp, u32)>);

impl Tries {
    /// `passes`: what was in the way was not the site's own.
    pub fn failed(&mut self, site: SiteId, at: Timestamp, passes: bool) {
        let (tried_at, failures) = self.0.entry(site).or_insert((at, 0));
        *tried_at = at;
        *failures = if passes { (*failures).max(1) } else { failures.saturating_add(1) };
    }

    pub fn done(&mut self, site: &SiteId) {
        self.0.remove(site);
    }

    /// When it was done, when it failed, and how often.
    fn of(&self, site: &SiteId, seen: Seen, good_at: Option<Timestamp>) -> (Option<Timestamp>, Option<Timestamp>, u32) {
        let Seen { done_at, failed_at } = seen;
        match self.0.get(site) {
            // What was seen before the failure ended is that failure itself: an incomplete snapshot, say.
            Some((at, failures)) if done_at <= Some(*at) => (good_at, Some(*at), *failures),
            _ => (done_at, failed_at.filter(|at| Some(*at) > done_at), u32::from(failed_at.is_some())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_tried_in_vain_counts_until_somebody_did_it() {
        let site = SiteId::new("acme").unwrap();
        let at = |micros: i64| Some(Timestamp(micros));
        let seen = |done: i64, failed: Option<i64>| Seen { done_at: at(done), failed_at: failed.map(Timestamp) };
        let mut tries = Tries::default();
        assert_eq!(tries.of(&site, seen(5, None), at(5)), (at(5), None, 0));
        assert_eq!(tries.of(&site, seen(5, Some(9)), at(5)), (at(5), at(9), 1));
        assert_eq!(tries.of(&site, seen(9, Some(5)), at(9)).1, None);
        // An incomplete snapshot at 18, and the run that made it ended at 20: the last good point is of 5.
        tries.failed(site.clone(), Timestamp(20), false);
        assert_eq!(tries.of(&site, seen(18, None), at(5)), (at(5), at(20), 1));
        tries.failed(site.clone(), Timestamp(30), true);
        assert_eq!(tries.of(&site, seen(28, None), at(5)).2, 1);
        tries.failed(site.clone(), Timestamp(40), false);
        assert_eq!(tries.of(&site, seen(38, None), at(5)), (at(5), at(40), 2));
        // By hand, or by another host.
        assert_eq!(tries.of(&site, seen(50, None), at(50)), (at(50), None, 0));
        tries.done(&site);
        assert_eq!(tries.of(&site, seen(38, None), at(5)), (at(38), None, 0));
    }
}
