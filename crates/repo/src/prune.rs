//! Deleting what no point of a site needs any more.
//!
//!   survey ─▶ plan, pure ─▶ delete what was condemned long ago ─▶ condemn what nothing names now
//!                              ▸ commit "deleted"                    ▸ index without it ▸ commit "condemned"
//!
//! A run of it does both steps, with a grace between them for whoever still reads. What is condemned: what only points name
//! whose time to undelete has passed, and uploads that no commit has named for long. Packs that are needed in part stay whole.
//!
//! Invariant (only-the-condemned): an object is deleted only when a commit has condemned it, a grace has passed by two clocks,
//! and a run was recorded since. A writer that would use it has learned so before.
//! What is not here: which points are forgotten (`lifeboat-control`).

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt};
use lifeboat_format::names;
use lifeboat_model::{
    Commit, CommitEvent, Condemnation, Fault, Faulty, Generation, SiteObjects, SiteState, StateError, WriterIdentity,
};
use lifeboat_store::ObjectName;

use crate::upload::object_name;
use crate::{Error, Site, TrustedNow};

mod index;
mod plan;
mod survey;

pub use plan::{PruneBlock, PruneRules, SitePrune, plan_prune};
pub use survey::{FoundObject, PruneFacts};

/// Objects deleted at once.
const DELETES_MAX: usize = 16;
/// So often others may commit between survey and condemnation.
const TRIES_MAX: usize = 5;

/// What pruning one site did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// What was found the last time that the site was looked at.
    pub plan: SitePrune,
    pub deleted: u64,
    pub condemned: u64,
    /// Others committed each time: what was to be condemned is left for the next time.
    pub gave_way: bool,
}

impl Site {
    /// Deletes what may be deleted, and condemns what is needed no more.
    pub async fn prune(
        &mut self,
        rules: &PruneRules,
        clock: &TrustedNow,
        writer: &WriterIdentity,
    ) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        self.destroy_old_keys().await?;
        for _ in 0..TRIES_MAX {
            match self.prune_once(rules, clock, writer, &mut pruned).await {
                Ok(true) => return Ok(pruned),
                Ok(false) => {}
                // Since it was looked at, somebody restores it or holds it: it is left alone.
                Err(Error::State(StateError::RestoreOpen(_) | StateError::Held(_))) => {}
                // Who was asleep for longer than a grace looks for what others have deleted meanwhile.
                Err(error) if error.fault() == Fault::Damage && self.has_moved().await? => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Pruned { gave_way: true, ..pruned })
    }

    /// False: somebody else has committed what was not known.
    async fn prune_once(
        &mut self,
        rules: &PruneRules,
        clock: &TrustedNow,
        writer: &WriterIdentity,
        pruned: &mut Pruned,
    ) -> Result<bool, Error> {
        let facts = self.prune_facts(clock).await?;
        let surveyed = self.head().generation;
        pruned.plan = plan_prune(&facts, rules, clock);
        if pruned.plan.block.is_some() {
            return Ok(true);
        }
        pruned.deleted += self.delete_condemned(&pruned.plan, writer).await?;
        if pruned.plan.condemn.is_empty() {
            return Ok(true);
        }
        let is_condemned = self.condemn((&facts.state, surveyed), &pruned.plan, clock, writer).await?;
        if is_condemned {
            let rewritten = if pruned.plan.rewrites_index { facts.state.indexes.len() } else { 0 };
            pruned.condemned = (pruned.plan.condemn.len() + rewritten) as u64;
        }
        Ok(is_condemned)
    }

    async fn has_moved(&mut self) -> Result<bool, Error> {
        let known = self.head();
        self.refresh().await?;
        Ok(self.head() != known)
    }

    async fn delete_condemned(&mut self, plan: &SitePrune, writer: &WriterIdentity) -> Result<u64, Error> {
        let Some(till) = plan.delete.iter().map(|condemned| condemned.generation).max() else { return Ok(0) };
        let names: Vec<ObjectName> = plan
            .delete
            .iter()
            .flat_map(|condemned| self.names_of(&condemned.objects))
            .map(object_name)
            .collect::<Result<_, _>>()?;
        let store = self.repository.store();
        let deletes = names.iter().map(|name| store.delete(name));
        futures_util::stream::iter(deletes).buffer_unordered(DELETES_MAX).try_collect::<Vec<()>>().await?;
        self.commit(writer, |_, _| Ok(CommitEvent::Deleted { till })).await?;
        Ok(names.len() as u64)
    }

    /// False: somebody else has committed what the plan did not know.
    async fn condemn(
        &mut self,
        (known, surveyed): (&SiteState, Generation),
        plan: &SitePrune,
        clock: &TrustedNow,
        writer: &WriterIdentity,
    ) -> Result<bool, Error> {
        let mut objects = plan.condemn.clone();
        let mut indexes = known.indexes.clone();
        if plan.rewrites_index {
            let dead: BTreeSet<_> = objects.packs.iter().copied().collect();
            let without = self.index_without(&dead).await?;
            objects.indexes.extend(indexes.iter().map(|index| index.id));
            indexes = without.into_iter().collect();
        }
        let what = Condemnation { snapshots: plan.expired.clone(), objects, indexes, at: clock.later, run: clock.run };
        // Another prune may have condemned the same, and what was written here for an upload that no commit names.
        let is_alone = |seen: &[Commit]| {
            let is_news = |commit: &&Commit| commit.generation > surveyed;
            !seen.iter().filter(is_news).any(|commit| matches!(commit.event, CommitEvent::Condemned(_)))
        };
        let committed = self.commit(writer, |state, seen| match is_as_surveyed(known, state) && is_alone(seen) {
            true => Ok(CommitEvent::Condemned(Box::new(what.clone()))),
            false => Err(Error::Cancelled),
        });
        match committed.await {
            Ok(_) => Ok(true),
            // The index that was written is found the next time.
            Err(Error::Cancelled) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn names_of(&self, objects: &SiteObjects) -> Vec<String> {
        let site = self.handle();
        let manifests = objects.manifests.iter().map(|id| names::manifest(&site, id));
        let indexes = objects.indexes.iter().map(|id| names::index(&site, id));
        let packs = objects.packs.iter().map(|id| names::pack(&site, id));
        manifests.chain(indexes).chain(packs).collect()
    }
}

/// Whether nothing was committed that a plan must know: another snapshot may name what was to be condemned.
fn is_as_surveyed(known: &SiteState, now: &SiteState) -> bool {
    let ids = |state: &SiteState| {
        let records = state.snapshots.iter().chain(&state.forgotten);
        records.map(|record| (record.id, record.forgotten.map(|mark| mark.till))).collect::<BTreeSet<_>>()
    };
    ids(known) == ids(now) && known.indexes == now.indexes && known.holds == now.holds && now.intent.is_none()
}

#[cfg(test)]
mod tests;
