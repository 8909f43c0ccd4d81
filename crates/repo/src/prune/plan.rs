//! What is to be deleted and condemned of one site: a pure decision.

use std::collections::BTreeSet;
use std::time::Duration;

use lifeboat_format::ObjectKind;
use lifeboat_model::{Condemned, Hold, ObjectId, RestoreIntent, RunNumber, SiteObjects, SnapshotId, Timestamp};

use super::survey::PruneFacts;
use crate::TrustedNow;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneRules {
    /// From condemning to deleting: longer than anybody reads.
    pub grace: Duration,
    /// An upload that no commit names is given up after this. Too early costs its writer a second upload, and nothing else.
    pub unnamed: Duration,
}

impl PruneRules {
    /// Whether what was condemned may be deleted: the grace is over, and since run `run` another one was recorded.
    ///
    /// `waits_since`: by the later of the clocks that its writer had asked, and by the store's when its commit came.
    pub(crate) fn is_ripe(&self, waits_since: Option<Timestamp>, run: RunNumber, clock: &TrustedNow) -> bool {
        let waited = waits_since.filter(|since| clock.now >= *since).map(|since| clock.now.since(since));
        waited.is_some_and(|waited| waited >= self.grace) && clock.run > run
    }

    /// Whether an upload that no commit names is old enough for nobody to name it any more.
    pub(crate) fn is_given_up(&self, modified: Option<Timestamp>, clock: &TrustedNow) -> bool {
        modified.is_some_and(|at| clock.now >= at && clock.now.since(at) >= self.unnamed)
    }
}

/// What pruning a site comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SitePrune {
    /// Nothing is touched now.
    pub block: Option<PruneBlock>,
    /// Ripe; oldest first.
    pub delete: Vec<Condemned>,
    pub delete_bytes: u64,
    /// Condemned, and not to be deleted yet.
    pub waiting: u64,
    pub waiting_bytes: u64,
    /// Forgotten points whose time to undelete has passed.
    pub expired: Vec<SnapshotId>,
    pub condemn: SiteObjects,
    pub condemn_bytes: u64,
    /// The index names packs that are condemned.
    pub rewrites_index: bool,
    /// Names below the site's prefix that no repository makes: never touched.
    pub foreign: Vec<String>,
}

/// Why a site is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PruneBlock {
    Held(Hold),
    RestoreOpen(RestoreIntent),
}

impl SitePrune {
    pub fn is_nothing(&self) -> bool {
        self.delete.is_empty() && self.condemn.is_empty()
    }
}

/// Decides by what was found.
pub fn plan_prune(facts: &PruneFacts, rules: &PruneRules, clock: &TrustedNow) -> SitePrune {
    let state = &facts.state;
    let mut plan = SitePrune {
        block: match (&state.intent, state.holds.first()) {
            (Some(open), _) => Some(PruneBlock::RestoreOpen(open.clone())),
            (None, Some(hold)) => Some(PruneBlock::Held(hold.clone())),
            (None, None) => None,
        },
        foreign: facts.foreign.clone(),
        ..SitePrune::default()
    };
    if plan.block.is_some() {
        return plan;
    }
    let bytes_of = |objects: &SiteObjects| objects.ids().map(|id| facts.len_of(id)).sum::<u64>();
    let is_ripe = |condemned: &&Condemned| rules.is_ripe(facts.waits_since(condemned), condemned.run, clock);
    plan.delete = state.condemned.iter().take_while(is_ripe).cloned().collect();
    plan.delete_bytes = plan.delete.iter().map(|condemned| bytes_of(&condemned.objects)).sum();
    for condemned in state.condemned.iter().skip(plan.delete.len()) {
        plan.waiting += condemned.objects.len() as u64;
        plan.waiting_bytes += bytes_of(&condemned.objects);
    }

    plan.expired = facts.expired.iter().map(|record| record.id).collect();
    plan.condemn.manifests = facts.expired.iter().map(|record| record.manifest.id).collect();
    let indexed: BTreeSet<ObjectId> = facts.indexed.iter().copied().collect();
    if !facts.expired.is_empty() {
        let dead = indexed.iter().chain(&facts.expired_packs).filter(|pack| !facts.needed_packs.contains(*pack));
        let dead: BTreeSet<ObjectId> = dead.copied().collect();
        plan.rewrites_index = dead.iter().any(|pack| indexed.contains(pack));
        plan.condemn.packs = dead.into_iter().collect();
    }
    let is_old = |found: &&super::FoundObject| rules.is_given_up(found.modified, clock);
    for found in facts.unnamed.iter().filter(is_old) {
        match found.kind {
            ObjectKind::Manifest => plan.condemn.manifests.push(found.id),
            ObjectKind::Index => plan.condemn.indexes.push(found.id),
            _ => plan.condemn.packs.push(found.id),
        }
    }
    plan.condemn.packs.sort_unstable();
    plan.condemn.packs.dedup();
    plan.condemn_bytes = bytes_of(&plan.condemn);
    plan
}
