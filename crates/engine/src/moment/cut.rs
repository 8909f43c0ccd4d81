//! Where in an epoch a moment is, told while its segments go by. Pure.
//!
//! A time is turned into a position once, as PostgreSQL's own recovery does: the first commit, in the order
//! of the log, that is later than the time ends it. Commit times need not ascend.

use std::fmt;

use lifeboat_model::{Lsn, SegmentFooter, SharedFacts, SpanBounds, Timestamp, TransactionHead};

/// What a part is wanted as of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Everything that is in the epoch.
    End,
    Time(Timestamp),
    /// Every transaction whose commit is not after it.
    Position(Lsn),
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::End => f.write_str("the end of the log"),
            Moment::Time(time) => time.fmt(f),
            Moment::Position(lsn) => write!(f, "lsn:{lsn}"),
        }
    }
}

/// Where a replay ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Every transaction whose commit is not after it belongs to the moment.
    pub till: Lsn,
}

impl Cut {
    /// Everything before a commit.
    pub fn before(commit: Lsn) -> Self {
        Self { till: Lsn(commit.0.saturating_sub(1)) }
    }
}

/// The epoch ends before the moment; this is the last time it knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AfterEnd(pub Option<Timestamp>);

/// Finds a moment's cut, segment by segment.
#[derive(Debug)]
pub(super) struct CutFinder {
    moment: Moment,
    /// Up to where the last segment is complete, and when it was sealed.
    end: Option<(Lsn, Timestamp)>,
}

impl CutFinder {
    pub fn new(moment: Moment) -> Self {
        Self { moment, end: None }
    }

    /// Whether the next segment's transactions decide where the cut is.
    pub fn needs(&self, bounds: &SpanBounds) -> bool {
        matches!(self.moment, Moment::Time(time) if bounds.latest > time)
    }

    /// Whether the next segment may have the cut.
    pub fn may_cut(&self, footer: &SegmentFooter) -> bool {
        match self.moment {
            Moment::End => false,
            Moment::Position(lsn) => lsn <= footer.span.complete_till,
            Moment::Time(_) => footer.span.bounds.is_some_and(|bounds| self.needs(&bounds)),
        }
    }

    /// Takes the next segment, without its transactions where they are not needed; gives the cut as soon as nothing that follows can change it.
    pub fn take(&mut self, footer: &SegmentFooter, shared: Option<&SharedFacts>) -> Option<Cut> {
        // The last words of an epoch are said when the next one begins: what happened before then is missing.
        if footer.followed_by.is_none() {
            self.end = Some((footer.span.complete_till, footer.sealed_at));
        }
        match self.moment {
            Moment::End => None,
            Moment::Position(lsn) => (lsn <= footer.span.complete_till).then_some(Cut { till: lsn }),
            Moment::Time(time) => {
                let later = |head: &TransactionHead| head.committed_at > time;
                let mut heads = shared?.transactions.iter().map(|facts| facts.head);
                heads.find(later).map(|head| Cut::before(head.commit))
            }
        }
    }

    /// When that was the last segment.
    pub fn finish(self) -> Result<Cut, AfterEnd> {
        match (self.moment, self.end) {
            (Moment::End, Some((till, _))) => Ok(Cut { till }),
            // Nothing is later: the log must have been written after the time.
            (Moment::Time(time), Some((till, sealed_at))) if sealed_at >= time => Ok(Cut { till }),
            (_, end) => Err(AfterEnd(end.map(|(_, sealed_at)| sealed_at))),
        }
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_model::{EpochId, ObjectId, SegmentNumber, SegmentSpan, SourceName, TransactionFacts, TransactionId};

    use super::*;

    fn footer(number: u64, complete_till: u64, sealed_at: i64) -> SegmentFooter {
        SegmentFooter {
            source: SourceName::new("app").unwrap(),
            epoch: EpochId(1),
            number: SegmentNumber(number),
            id: ObjectId([0; 16]),
            previous: ObjectId([0; 16]),
            span: SegmentSpan { from: Lsn(0), complete_till: Lsn(complete_till), bounds: None, highest: None },
            sealed_at: Timestamp(sealed_at),
            blocks: Vec::new(),
            shared: None,
            unrouted: None,
            followed_by: None,
            shared_kinds: None,
        }
    }

    fn facts(heads: &[(u64, u64, i64)]) -> SharedFacts {
        let one = |(id, commit, at): &(u64, u64, i64)| TransactionFacts {
            head: TransactionHead { id: TransactionId(*id), commit: Lsn(*commit), committed_at: Timestamp(*at) },
            counts: Vec::new(),
            unrouted: 0,
        };
        SharedFacts { transactions: heads.iter().map(one).collect(), ..SharedFacts::default() }
    }

    fn find(moment: Moment, segments: &[(SegmentFooter, SharedFacts)]) -> Result<Cut, AfterEnd> {
        let mut finder = CutFinder::new(moment);
        match segments.iter().find_map(|(footer, shared)| finder.take(footer, Some(shared))) {
            Some(cut) => Ok(cut),
            None => finder.finish(),
        }
    }

    #[test]
    fn the_first_commit_later_than_a_time_ends_it_though_an_earlier_one_follows() {
        // The third commit is earlier than the second: clocks do not ascend with positions.
        let segments = [
            (footer(1, 25, 150), facts(&[(1, 10, 100), (2, 20, 130)])),
            (footer(2, 45, 400), facts(&[(3, 30, 120), (4, 40, 300)])),
        ];
        let check = |moment: Moment, want: Result<u64, AfterEnd>| {
            assert_eq!(find(moment, &segments), want.map(|till| Cut { till: Lsn(till) }), "{moment:?}");
        };
        check(Moment::Time(Timestamp(99)), Ok(9));
        check(Moment::Time(Timestamp(100)), Ok(19));
        check(Moment::Time(Timestamp(125)), Ok(19));
        check(Moment::Time(Timestamp(130)), Ok(39));
        check(Moment::Time(Timestamp(300)), Ok(45));
        check(Moment::Time(Timestamp(400)), Ok(45));
        check(Moment::Time(Timestamp(401)), Err(AfterEnd(Some(Timestamp(400)))));
        check(Moment::Position(Lsn(30)), Ok(30));
        check(Moment::Position(Lsn(46)), Err(AfterEnd(Some(Timestamp(400)))));
        check(Moment::End, Ok(45));
        // What ends an epoch, long after it was followed, knows of nothing in between.
        let ended = (SegmentFooter { followed_by: Some(EpochId(2)), ..footer(3, 45, 900) }, facts(&[]));
        let gap: Vec<_> = segments.iter().cloned().chain([ended]).collect();
        assert_eq!(find(Moment::Time(Timestamp(500)), &gap), Err(AfterEnd(Some(Timestamp(400)))));
        assert_eq!(find(Moment::Time(Timestamp(400)), &gap), Ok(Cut { till: Lsn(45) }));
        assert_eq!(find(Moment::End, &[]), Err(AfterEnd(None)));
    }
}
