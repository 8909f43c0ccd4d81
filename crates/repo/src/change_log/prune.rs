//! Deleting what no moment needs any more of an epoch.
//!
//!   where it is to begin ─▶ commit "marked" ─▶ undelete time ─▶ "condemned" ─▶ grace, another run ─▶ delete ▸ "deleted"
//!
//! As of sites: what is marked is there till then for who makes the window longer again, or takes a point back; what is
//! condemned is read by nobody who begins after it, and only that is deleted. The epoch's first object and its commits stay
//! for ever.
//!
//! Invariant (log-only-the-condemned): a segment is condemned only when it was marked for the undelete time, no prune has
//! found it needed since, and this one does not either; and deleted only when a grace has passed since by two clocks, and a run was recorded.
//! What is not here: where an epoch is to begin (`lifeboat-engine`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use lifeboat_format::names::{self, ParsedName};
use lifeboat_model::{
    CondemnedSegments, EpochId, LogBegin, LogCommitNumber, LogCondemnation, LogEvent, LogMark, LogState, ObjectId,
    SegmentNumber, Timestamp, WriterIdentity,
};
use lifeboat_store::{Listed, ObjectName};

use super::{ChangeLog, ListedSegment};
use crate::upload::object_name;
use crate::{Error, PruneRules, TrustedNow};

const LIST_NAMES_MAX: usize = 1_000;
/// Objects deleted at once.
const DELETES_MAX: usize = 16;
/// Marks of an epoch, at the most: how long something stays over its time is known to so many parts of that time.
const MARKS: u32 = 8;
/// Segments that one commit condemns: days of them. The rest is condemned the next time.
const SEGMENTS_MAX: u64 = 100_000;
/// Of a commit that is only thought of.
const UNKNOWN: LogCommitNumber = LogCommitNumber(u64::MAX);

/// Where what is kept of an epoch is to begin, and how long what is before it can still be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogWanted {
    pub begins: LogBegin,
    pub undelete: Duration,
}

/// What pruning an epoch comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochPrune {
    pub epoch: EpochId,
    /// Ripe; oldest first.
    pub delete: Vec<CondemnedSegments>,
    pub deletes: Going,
    /// Condemned, and not to be deleted yet.
    pub waits: Going,
    pub condemns: Going,
    /// Needed no more, and not to be condemned yet.
    pub marked: Going,
    /// Where what is kept begins after it.
    pub begins: Option<LogBegin>,
    /// Long segments that stand for nothing any more, or never did.
    leftovers: Vec<ObjectId>,
    wanted: Option<LogWanted>,
}

/// Objects that go, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Going {
    pub objects: u64,
    pub bytes: u64,
}

impl std::ops::Add for Going {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { objects: self.objects + other.objects, bytes: self.bytes + other.bytes }
    }
}

/// What pruning an epoch did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochPruned {
    pub plan: EpochPrune,
    pub deleted: u64,
    pub condemned: u64,
}

impl EpochPrune {
    pub fn is_nothing(&self) -> bool {
        self.delete.is_empty() && self.condemns.objects == 0
    }
}

/// What is there of an epoch that may go, by name.
struct There {
    /// Plain ones up to where it is to begin.
    segments: BTreeMap<SegmentNumber, u64>,
    longs: BTreeMap<ObjectId, Listed>,
}

impl There {
    fn of<'i>(&self, range: Range<SegmentNumber>, longs: impl IntoIterator<Item = &'i ObjectId>) -> Going {
        let plain = self.segments.range(range.start..range.end.max(range.start)).map(|(_, len)| *len);
        let longs = longs.into_iter().filter_map(|id| self.longs.get(id)).map(|listed| listed.len);
        plain.chain(longs).fold(Going::default(), |sum, bytes| sum + Going { objects: 1, bytes })
    }

    fn condemned(&self, CondemnedSegments { from, till, longs, .. }: &CondemnedSegments) -> Going {
        self.of(*from..*till, longs)
    }
}

fn sum(all: impl Iterator<Item = Going>) -> Going {
    all.fold(Going::default(), |sum, one| sum + one)
}

impl ChangeLog {
    /// What pruning an epoch would do. `wanted`: where what is kept of it is to begin; `None`: where it does.
    pub async fn plan_prune(
        &self,
        epoch: EpochId,
        wanted: Option<LogWanted>,
        (rules, clock): (&PruneRules, &TrustedNow),
    ) -> Result<EpochPrune, Error> {
        Ok(self.survey(epoch, wanted, (rules, clock)).await?.0)
    }

    /// Deletes what may be deleted of an epoch, and condemns what is before where it is to begin.
    pub async fn prune(
        &self,
        epoch: EpochId,
        wanted: Option<LogWanted>,
        (rules, clock): (&PruneRules, &TrustedNow),
        writer: &WriterIdentity,
    ) -> Result<EpochPruned, Error> {
        self.check_whole()?;
        let (plan, there) = self.survey(epoch, wanted, (rules, clock)).await?;
        let deleted = self.delete_condemned(epoch, &plan.delete, &there).await?;
        if let Some(till) = plan.delete.iter().map(|condemned| condemned.commit).max() {
            // Of two prunes at once one says so.
            self.commit_log(epoch, writer, |_| Some(LogEvent::Deleted { till })).await?;
        }
        self.commit_log(epoch, writer, |state| marking(state, plan.wanted, clock)).await?;
        let condemn = |state: &LogState| condemnation(state, (plan.wanted, &plan.leftovers), clock);
        let is_condemned = plan.condemns.objects > 0 && self.commit_log(epoch, writer, condemn).await?;
        let condemned = if is_condemned { plan.condemns.objects } else { 0 };
        Ok(EpochPruned { plan, deleted, condemned })
    }

    async fn survey(
        &self,
        epoch: EpochId,
        wanted: Option<LogWanted>,
        (rules, clock): (&PruneRules, &TrustedNow),
    ) -> Result<(EpochPrune, There), Error> {
        let wanted = match (wanted, self.newest_segment(epoch).await?) {
            // How far an epoch was followed says its last segment, and the one before it where that only ends it.
            (Some(LogWanted { begins, undelete }), Some(newest)) => {
                let last = SegmentNumber(newest.number.0.saturating_sub(1).max(1));
                Some(LogWanted { begins: LogBegin { first: begins.first.min(last), ..begins }, undelete })
            }
            _ => None,
        };
        let state = self.log_state(epoch).await?;
        let condemned_at = self.condemned_at(&state).await?;
        let longs = self.longs_there(epoch).await?;
        let is_leftover = |id: &ObjectId, listed: &Listed| {
            let is_named = state.long_segments.iter().any(|long| long.id == *id) || state.is_condemned(id);
            !is_named && rules.is_given_up(listed.modified, clock)
        };
        let leftovers: Vec<ObjectId> =
            longs.iter().filter(|(id, listed)| is_leftover(id, listed)).map(|(id, _)| *id).collect();
        let marked = marking(&state, wanted, clock).and_then(|event| state.after(&event, UNKNOWN));
        let state = marked.unwrap_or(state);
        let event = condemnation(&state, (wanted, &leftovers), clock);
        let after = event.and_then(|event| state.after(&event, UNKNOWN));
        let kept = after.as_ref().unwrap_or(&state);
        let marked = kept.marks.last().map_or(kept.first(), |newest| newest.begins.first);
        let there = There { segments: self.segments_before(epoch, marked).await?, longs };

        let waits_since =
            |condemned: &CondemnedSegments| condemned_at.get(&condemned.commit).map(|at| condemned.at.max(*at));
        let is_ripe = |condemned: &&CondemnedSegments| rules.is_ripe(waits_since(condemned), condemned.run, clock);
        let delete: Vec<CondemnedSegments> = state.condemned.iter().take_while(is_ripe).cloned().collect();
        let waits = sum(state.condemned.iter().skip(delete.len()).map(|condemned| there.condemned(condemned)));
        let deletes = sum(delete.iter().map(|condemned| there.condemned(condemned)));
        let condemns = after.as_ref().and_then(|after| after.condemned.last()).map(|last| there.condemned(last));
        let condemns = condemns.unwrap_or_default();
        let longs = kept.long_segments.iter().filter(|long| long.last < marked).map(|long| &long.id);
        let (marked, begins) = (there.of(kept.first()..marked, longs), kept.begins);
        Ok((EpochPrune { epoch, delete, deletes, waits, condemns, marked, begins, leftovers, wanted }, there))
    }

    /// When the commits came that have condemned what waits, by the store's clock.
    async fn condemned_at(&self, state: &LogState) -> Result<BTreeMap<LogCommitNumber, Timestamp>, Error> {
        let mut wanted: BTreeSet<LogCommitNumber> = state.condemned.iter().map(|some| some.commit).collect();
        let (prefix, mut after, mut found) =
            (names::log_commits_prefix(&self.source, state.epoch), None, BTreeMap::new());
        while !wanted.is_empty() {
            let page = self.repository.store().list(&prefix, after.as_ref(), LIST_NAMES_MAX).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            for listed in &page {
                let Some(ParsedName::LogCommit(_, _, number)) = names::parse_object_name(listed.name.as_str()) else {
                    continue;
                };
                if wanted.remove(&number) {
                    found.extend(listed.modified.map(|at| (number, at)));
                }
            }
        }
        Ok(found)
    }

    async fn longs_there(&self, epoch: EpochId) -> Result<BTreeMap<ObjectId, Listed>, Error> {
        let (prefix, mut after, mut longs) = (names::long_segments_prefix(&self.source, epoch), None, BTreeMap::new());
        loop {
            let page = self.repository.store().list(&prefix, after.as_ref(), LIST_NAMES_MAX).await?;
            let Some(last) = page.last() else { return Ok(longs) };
            after = Some(last.name.clone());
            for listed in page {
                if let Some(ParsedName::LongSegment(_, _, id)) = names::parse_object_name(listed.name.as_str()) {
                    longs.insert(id, listed);
                }
            }
        }
    }

    /// Plain segments before one: names are inverted, so that they come behind it.
    async fn segments_before(
        &self,
        epoch: EpochId,
        till: SegmentNumber,
    ) -> Result<BTreeMap<SegmentNumber, u64>, Error> {
        let prefix = names::segments_prefix(&self.source, epoch);
        let mut after = Some(self.plain_name(epoch, till)?);
        let mut found = BTreeMap::new();
        loop {
            let page = self.repository.store().list(&prefix, after.as_ref(), LIST_NAMES_MAX).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = Some(last.name.clone());
            for listed in &page {
                let segment = super::listed_segment(listed)?;
                found.insert(segment.number, segment.len);
            }
        }
    }

    async fn delete_condemned(
        &self,
        epoch: EpochId,
        condemned: &[CondemnedSegments],
        there: &There,
    ) -> Result<u64, Error> {
        let mut objects: Vec<ObjectName> = Vec::new();
        for CondemnedSegments { from, till, longs, .. } in condemned {
            for (number, _) in there.segments.range(*from..(*till).max(*from)) {
                objects.push(self.plain_name(epoch, *number)?);
            }
            for id in longs.iter().filter(|id| there.longs.contains_key(*id)) {
                objects.push(object_name(names::long_segment(&self.source, epoch, id))?);
            }
        }
        let store = self.repository.store();
        let deletes = objects.iter().map(|name| store.delete(name));
        futures_util::stream::iter(deletes).buffer_unordered(DELETES_MAX).try_collect::<Vec<()>>().await?;
        Ok(objects.len() as u64)
    }

    fn plain_name(&self, epoch: EpochId, number: SegmentNumber) -> Result<ObjectName, Error> {
        object_name(self.object_of(&ListedSegment { epoch, number, len: 0, long: None }))
    }
}

/// What is to be marked. What is needed again is so at once; else there is a mark more when the newest is some time old.
fn marking(state: &LogState, wanted: Option<LogWanted>, clock: &TrustedNow) -> Option<LogEvent> {
    let LogWanted { begins, undelete } = wanted?;
    let is_needed_again = |newest: &LogMark| newest.begins.first > begins.first;
    let is_old = |newest: &LogMark| newest.at.saturating_add(undelete / MARKS) <= clock.later;
    let is_due = state.marks.last().is_none_or(|newest| is_needed_again(newest) || is_old(newest));
    is_due.then_some(LogEvent::Marked(LogMark { begins, at: clock.later }))
}

/// Where what is kept begins: what was marked long enough ago, and is still needed no more.
fn begins_now(state: &LogState, wanted: Option<LogWanted>, clock: &TrustedNow) -> Option<LogBegin> {
    let LogWanted { begins, undelete } = wanted?;
    let is_ripe = |mark: &&LogMark| mark.at.saturating_add(undelete) <= clock.now;
    let LogMark { begins: marked, .. } = state.marks.iter().rev().find(is_ripe)?;
    let (first, bases_since) = (marked.first.min(begins.first), marked.bases_since.min(begins.bases_since));
    Some(LogBegin { first, bases_since })
}

/// What is condemned of a state. A long segment that reaches over where the epoch is to begin is kept whole, with what it
/// stands for.
fn condemnation(
    state: &LogState,
    (wanted, leftovers): (Option<LogWanted>, &[ObjectId]),
    clock: &TrustedNow,
) -> Option<LogEvent> {
    let first = |begins: LogBegin| {
        let capped = begins.first.min(SegmentNumber(state.first().0.saturating_add(SEGMENTS_MAX)));
        let reaches_over = state.long_segments.iter().find(|long| long.first < capped && capped <= long.last);
        reaches_over.map_or(capped, |long| long.first)
    };
    let begins = begins_now(state, wanted, clock).map(|begins| LogBegin { first: first(begins), ..begins });
    let begins = begins.filter(|begins| begins.first > state.first());
    let begins = begins.map(|begins| LogBegin {
        bases_since: state.begins.map_or(begins.bases_since, |before| begins.bases_since.max(before.bases_since)),
        ..begins
    });
    let is_still = |id: &&ObjectId| !state.is_condemned(id) && !state.long_segments.iter().any(|long| long.id == **id);
    let leftovers: Vec<ObjectId> = leftovers.iter().filter(is_still).copied().collect();
    let is_something = begins.is_some() || !leftovers.is_empty();
    is_something.then_some(LogEvent::Condemned(LogCondemnation { begins, leftovers, at: clock.later, run: clock.run }))
}

#[cfg(test)]
mod tests;
