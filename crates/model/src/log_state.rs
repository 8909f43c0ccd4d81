//! What becomes of an epoch's segments: written again as one, marked, condemned, deleted.
//!
//!   1 2 3 4 5 6 7 8 9 …        segments as they were appended
//!   [ 1 – 4 ] [ 5 – 8 ]        long segments, which stand for several
//!             │   └▶ marked    what is before it is needed no more, and there for who thinks better of it
//!             └▶ begins        what is before it is condemned: first read by nobody, then deleted
//!
//! Each is a commit of the epoch's own sequence, which carries the state after it, as for sites.
//!
//! Invariant (log-begins-once): where an epoch begins never goes back, no long segment reaches over it, and nothing that
//! was condemned stands for anything again.

use crate::{EpochId, LogCommitNumber, ObjectId, RunNumber, SegmentNumber, SourceName, Timestamp, WriterIdentity};

/// One create-if-absent entry of an epoch's own sequence: what became of its segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogCommit {
    pub number: LogCommitNumber,
    /// SHA-256 of the whole commit object before it; zeros for the first.
    pub previous: [u8; 32],
    /// Random: tells our own commit from another's after an unclear failure.
    pub nonce: ObjectId,
    pub written_at: Timestamp,
    pub writer: WriterIdentity,
    pub event: LogEvent,
    /// The state after the event.
    pub state: LogState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// A range of segments was written again as one.
    Compacted(LongSegment),
    Condemned(LogCondemnation),
    /// What is before it is needed no more, and from it on everything is: marks behind it are taken back.
    Marked(LogMark),
    /// What commits up to this one have condemned is gone.
    Deleted {
        till: LogCommitNumber,
    },
}

/// What a log commit says of its epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogState {
    pub source: SourceName,
    pub epoch: EpochId,
    /// Ascending, none overlapping another.
    pub long_segments: Vec<LongSegment>,
    /// `None`: with its first segment.
    pub begins: Option<LogBegin>,
    /// Where it is to begin later: as of points, what is needed no more is marked first. Ascending, all behind `first`.
    pub marks: Vec<LogMark>,
    /// Oldest first.
    pub condemned: Vec<CondemnedSegments>,
}

/// A segment that stands for a range of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongSegment {
    pub id: ObjectId,
    pub len: u64,
    pub first: SegmentNumber,
    pub last: SegmentNumber,
}

/// Where what is kept of an epoch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBegin {
    pub first: SegmentNumber,
    /// Changes go on top of snapshots that were cut since. Of earlier ones some of what they do not see is gone.
    pub bases_since: Timestamp,
}

/// Since when segments are needed no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogMark {
    /// Those before it.
    pub begins: LogBegin,
    /// By the later of the clocks.
    pub at: Timestamp,
}

/// What a commit condemns: from then on nobody may begin to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogCondemnation {
    /// Segments before it are condemned, with the long ones that stand for them. `None`: none are.
    pub begins: Option<LogBegin>,
    /// Long segments that stand for nothing any more, or never did.
    pub leftovers: Vec<ObjectId>,
    /// By the later of the clocks.
    pub at: Timestamp,
    /// The newest run that was recorded then: another one must be before anything is deleted.
    pub run: RunNumber,
}

/// Segments that wait to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CondemnedSegments {
    /// The commit that says so.
    pub commit: LogCommitNumber,
    pub at: Timestamp,
    pub run: RunNumber,
    pub from: SegmentNumber,
    /// Not included; the same as `from`: none.
    pub till: SegmentNumber,
    pub longs: Vec<ObjectId>,
}

impl LogState {
    /// Before any commit.
    pub fn new(source: SourceName, epoch: EpochId) -> Self {
        Self { source, epoch, long_segments: Vec::new(), begins: None, marks: Vec::new(), condemned: Vec::new() }
    }

    /// The first segment that may be read.
    pub fn first(&self) -> SegmentNumber {
        self.begins.map_or(SegmentNumber(1), |begins| begins.first)
    }

    /// Whether the long segment waits to be deleted.
    pub fn is_condemned(&self, long: &ObjectId) -> bool {
        self.condemned.iter().any(|condemned| condemned.longs.contains(long))
    }

    /// The state after an event that commit `number` tells; `None`: it cannot happen, or changes nothing.
    pub fn after(&self, event: &LogEvent, number: LogCommitNumber) -> Option<Self> {
        match event {
            LogEvent::Compacted(long) => self.compacted(long),
            LogEvent::Condemned(what) => self.condemn(what, number),
            LogEvent::Marked(mark) => self.mark(mark),
            LogEvent::Deleted { till } => {
                let mut after = self.clone();
                after.condemned.retain(|condemned| condemned.commit > *till);
                (after.condemned.len() < self.condemned.len()).then_some(after)
            }
        }
    }

    /// As a version leaves it that knows of no pruning, when it writes a commit.
    #[must_use]
    pub fn without_pruning(&self) -> Self {
        Self { begins: None, marks: Vec::new(), condemned: Vec::new(), ..self.clone() }
    }

    /// None where it would stand for a part of what another stands for already, or for the same.
    fn compacted(&self, long: &LongSegment) -> Option<Self> {
        let is_covered = |one: &LongSegment| long.first <= one.first && one.last <= long.last;
        let is_apart = |one: &LongSegment| one.last < long.first || long.last < one.first;
        let is_same = |one: &LongSegment| (one.first, one.last) == (long.first, long.last);
        let all = &self.long_segments;
        let is_too_late = long.first < self.first() || self.is_condemned(&long.id);
        let is_in_the_way = |one: &LongSegment| is_same(one) || !(is_covered(one) || is_apart(one));
        if long.first > long.last || is_too_late || all.iter().any(is_in_the_way) {
            return None;
        }
        let mut long_segments: Vec<LongSegment> = all.iter().copied().filter(is_apart).collect();
        long_segments.push(*long);
        long_segments.sort_by_key(|one| one.first);
        Some(Self { long_segments, ..self.clone() })
    }

    fn condemn(&self, what: &LogCondemnation, number: LogCommitNumber) -> Option<Self> {
        let from = self.first();
        let till = what.begins.map_or(from, |begins| begins.first);
        let since = |begins: Option<LogBegin>| begins.map(|begins| begins.bases_since);
        let goes_back = till < from || (what.begins.is_some() && since(what.begins) < since(self.begins));
        let (gone, stay): (Vec<LongSegment>, Vec<LongSegment>) =
            self.long_segments.iter().partition(|long| long.last < till);
        let reaches_over = |long: &LongSegment| long.first < till;
        let is_needed = |id: &ObjectId| stay.iter().any(|long| long.id == *id) || self.is_condemned(id);
        let is_nothing = till == from && what.leftovers.is_empty();
        if goes_back || is_nothing || stay.iter().any(reaches_over) || what.leftovers.iter().any(is_needed) {
            return None;
        }
        let mut longs: Vec<ObjectId> = gone.iter().map(|long| long.id).chain(what.leftovers.iter().copied()).collect();
        longs.sort_unstable();
        longs.dedup();
        let mut condemned = self.condemned.clone();
        condemned.push(CondemnedSegments { commit: number, at: what.at, run: what.run, from, till, longs });
        let marks = self.marks.iter().copied().filter(|mark| mark.begins.first > till).collect();
        Some(Self { long_segments: stay, begins: what.begins.or(self.begins), marks, condemned, ..self.clone() })
    }

    /// None where it says nothing new.
    fn mark(&self, mark: &LogMark) -> Option<Self> {
        let first = mark.begins.first;
        let mut marks: Vec<LogMark> = self.marks.iter().copied().filter(|one| one.begins.first <= first).collect();
        if first > marks.last().map_or(self.first(), |last| last.begins.first) {
            marks.push(*mark);
        }
        (marks != self.marks).then(|| Self { marks, ..self.clone() })
    }
}

#[cfg(test)]
mod tests;
