//! Where in the log a moment is. Pure.
//!
//! A time is turned into a position once, as PostgreSQL's own recovery does: the first commit, in the order
//! of the log, that is later than the time ends it. Commit times need not ascend.

use std::fmt;

use lifeboat_model::{Lsn, SegmentFooter, SharedFacts, SiteId, Timestamp, TransactionId};

use crate::Error;

/// What a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Everything that is in the log.
    End,
    Time(Timestamp),
    /// Every transaction whose commit is not after it.
    Position(Lsn),
    /// Just before this transaction's commit.
    Before(TransactionId),
}

/// Where a replay ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Every transaction whose commit is not after it belongs to the moment.
    pub till: Lsn,
}

/// Why there is no cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// The log ends before it; this is the last time it knows of.
    AfterEnd {
        last: Option<Timestamp>,
    },
    NoSuchTransaction,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::End => f.write_str("the end of the log"),
            Moment::Time(time) => time.fmt(f),
            Moment::Position(lsn) => write!(f, "lsn:{lsn}"),
            Moment::Before(id) => write!(f, "before-xid:{id}"),
        }
    }
}

impl Refused {
    pub fn into_error(self, site: &SiteId, moment: Moment) -> Error {
        let hint = match self {
            Refused::AfterEnd { last: Some(last) } => format!("the newest restorable time is {last}"),
            Refused::AfterEnd { last: None } => "nothing is in the change log yet".into(),
            Refused::NoSuchTransaction => "the change log has no transaction of this number".into(),
        };
        Error::NoPoint { site: site.clone(), asked: moment.to_string(), hint }
    }
}

/// `shared` are the facts of the segments whose footers these are, in the same order.
pub(super) fn find(moment: Moment, footers: &[SegmentFooter], shared: &[SharedFacts]) -> Result<Cut, Refused> {
    let Some(newest) = footers.last() else { return Err(Refused::AfterEnd { last: None }) };
    let end = newest.span.complete_till;
    let after_end = || Refused::AfterEnd { last: Some(newest.sealed_at) };
    let heads = || shared.iter().flat_map(|facts| facts.transactions.iter().map(|facts| facts.head));
    let before = |lsn: Lsn| Cut { till: Lsn(lsn.0.saturating_sub(1)) };
    match moment {
        Moment::End => Ok(Cut { till: end }),
        Moment::Position(lsn) if lsn <= end => Ok(Cut { till: lsn }),
        Moment::Position(_) => Err(after_end()),
        Moment::Before(id) => {
            heads().find(|head| head.id == id).map(|head| before(head.commit)).ok_or(Refused::NoSuchTransaction)
        }
        Moment::Time(time) => match heads().find(|head| head.committed_at > time) {
            // Of a transaction whose end is missing nothing is known to be whole, but it is not wanted either.
            Some(head) => Ok(before(head.commit)),
            // Nothing is later: the log must have been written after the time.
            None if newest.sealed_at >= time => Ok(Cut { till: end }),
            None => Err(after_end()),
        },
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_model::{
        EpochId, ObjectId, SegmentNumber, SegmentSpan, SourceName, TransactionFacts, TransactionHead,
    };

    use super::*;

    fn footer(number: u64, complete_till: u64, sealed_at: i64) -> SegmentFooter {
        SegmentFooter {
            source: SourceName::new("app").unwrap(),
            epoch: EpochId(1),
            number: SegmentNumber(number),
            id: ObjectId([0; 16]),
            previous: ObjectId([0; 16]),
            span: SegmentSpan { from: Lsn(0), complete_till: Lsn(complete_till), bounds: None },
            sealed_at: Timestamp(sealed_at),
            blocks: Vec::new(),
            shared: None,
            unrouted: None,
            followed_by: None,
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

    #[test]
    fn the_first_commit_later_than_a_time_ends_it_though_an_earlier_one_follows() {
        let footers = [footer(1, 25, 150), footer(2, 45, 400)];
        // The third commit is earlier than the second: clocks do not ascend with positions.
        let shared = [facts(&[(1, 10, 100), (2, 20, 130)]), facts(&[(3, 30, 120), (4, 40, 300)])];
        let check = |moment: Moment, want: Result<u64, Refused>| {
            assert_eq!(find(moment, &footers, &shared), want.map(|till| Cut { till: Lsn(till) }), "{moment}");
        };
        check(Moment::Time(Timestamp(99)), Ok(9));
        check(Moment::Time(Timestamp(100)), Ok(19));
        check(Moment::Time(Timestamp(125)), Ok(19));
        check(Moment::Time(Timestamp(130)), Ok(39));
        check(Moment::Time(Timestamp(300)), Ok(45));
        check(Moment::Time(Timestamp(400)), Ok(45));
        check(Moment::Time(Timestamp(401)), Err(Refused::AfterEnd { last: Some(Timestamp(400)) }));
        check(Moment::Position(Lsn(30)), Ok(30));
        check(Moment::Position(Lsn(46)), Err(Refused::AfterEnd { last: Some(Timestamp(400)) }));
        check(Moment::Before(TransactionId(3)), Ok(29));
        check(Moment::Before(TransactionId(9)), Err(Refused::NoSuchTransaction));
        check(Moment::End, Ok(45));
        assert_eq!(find(Moment::End, &[], &[]), Err(Refused::AfterEnd { last: None }));
    }
}
