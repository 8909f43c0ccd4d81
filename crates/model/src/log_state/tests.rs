//! Where an epoch begins, and what long segments stand for.

use super::*;

fn id(of: u64) -> ObjectId {
    ObjectId([of as u8; 16])
}

fn long(first: u64, last: u64) -> LongSegment {
    LongSegment { id: id(first), len: 1, first: SegmentNumber(first), last: SegmentNumber(last) }
}

fn state(longs: &[(u64, u64)]) -> LogState {
    let long_segments = longs.iter().map(|(first, last)| long(*first, *last)).collect();
    LogState { long_segments, ..LogState::new(SourceName::new("app").unwrap(), EpochId(1)) }
}

fn begin(first: u64) -> LogBegin {
    LogBegin { first: SegmentNumber(first), bases_since: Timestamp(first as i64) }
}

fn condemn(first: Option<u64>, leftovers: &[u64]) -> LogEvent {
    LogEvent::Condemned(LogCondemnation {
        begins: first.map(begin),
        leftovers: leftovers.iter().copied().map(id).collect(),
        at: Timestamp(5),
        run: RunNumber(3),
    })
}

fn longs(state: &LogState) -> Vec<(u64, u64)> {
    state.long_segments.iter().map(|one| (one.first.0, one.last.0)).collect()
}

#[test]
fn a_long_segment_takes_the_place_of_those_it_stands_for_and_never_of_a_part() {
    let check = |before: &[(u64, u64)], new: (u64, u64), want: Option<&[(u64, u64)]>| {
        let after = state(before).after(&LogEvent::Compacted(long(new.0, new.1)), LogCommitNumber(1));
        assert_eq!(after.as_ref().map(longs).as_deref(), want, "{before:?} and {new:?}");
    };
    check(&[], (1, 9), Some(&[(1, 9)]));
    check(&[(1, 9)], (10, 19), Some(&[(1, 9), (10, 19)]));
    check(&[(10, 19)], (1, 9), Some(&[(1, 9), (10, 19)]));
    check(&[(1, 9), (10, 19), (30, 39)], (1, 19), Some(&[(1, 19), (30, 39)]));
    check(&[(1, 9), (10, 19)], (1, 25), Some(&[(1, 25)]));
    check(&[(1, 9)], (1, 9), None);
    check(&[(1, 9)], (5, 14), None);
    check(&[(1, 9)], (2, 8), None);
    check(&[], (9, 1), None);
}

// Explains invariant: log-begins-once
#[test]
fn what_is_before_the_begin_is_condemned_and_nothing_comes_back() {
    let before = state(&[(1, 9), (10, 19), (30, 39)]);
    let number = LogCommitNumber(7);
    let after = before.after(&condemn(Some(20), &[77]), number).unwrap();
    assert_eq!((longs(&after), after.first()), (vec![(30, 39)], SegmentNumber(20)));
    let wait = CondemnedSegments {
        commit: number,
        at: Timestamp(5),
        run: RunNumber(3),
        from: SegmentNumber(1),
        till: SegmentNumber(20),
        longs: vec![id(1), id(10), id(77)],
    };
    assert_eq!(after.condemned, [wait]);

    let refused =
        |state: &LogState, event: LogEvent| assert_eq!(state.after(&event, LogCommitNumber(8)), None, "{event:?}");
    refused(&before, condemn(Some(15), &[])); // a long segment reaches over it
    refused(&before, condemn(None, &[30])); // it stands for some
    refused(&before, condemn(None, &[]));
    refused(&after, condemn(Some(19), &[]));
    refused(&after, condemn(Some(20), &[]));
    refused(&after, condemn(None, &[77]));
    refused(&after, LogEvent::Compacted(long(15, 25)));
    refused(&after, LogEvent::Compacted(LongSegment { id: id(77), ..long(20, 25) }));
    let earlier_bases = LogBegin { bases_since: Timestamp(19), ..begin(25) };
    let event = LogCondemnation { begins: Some(earlier_bases), leftovers: vec![], at: Timestamp(6), run: RunNumber(3) };
    refused(&after, LogEvent::Condemned(event));

    let later = after.after(&condemn(Some(40), &[]), LogCommitNumber(9)).unwrap();
    assert_eq!((longs(&later), later.condemned.len()), (vec![], 2));
    assert_eq!((later.condemned[1].from, later.condemned[1].longs.as_slice()), (SegmentNumber(20), &[id(30)][..]));
    let deleted = later.after(&LogEvent::Deleted { till: LogCommitNumber(8) }, LogCommitNumber(10)).unwrap();
    assert_eq!((deleted.condemned.len(), deleted.first()), (1, SegmentNumber(40)));
    refused(&deleted, LogEvent::Deleted { till: LogCommitNumber(8) });
    assert!(after.after(&LogEvent::Compacted(long(20, 29)), number).is_some());
}

#[test]
fn marks_ascend_and_one_that_is_needed_again_is_none() {
    let mark = |first: u64, at: i64| LogMark { begins: begin(first), at: Timestamp(at) };
    let number = LogCommitNumber(8);
    let marked = |state: &LogState, first: u64, at: i64| state.after(&LogEvent::Marked(mark(first, at)), number);
    let first = marked(&state(&[]), 5, 1).unwrap();
    let second = marked(&first, 9, 2).unwrap();
    assert_eq!(second.marks, [mark(5, 1), mark(9, 2)]);
    assert_eq!((marked(&second, 9, 3), marked(&state(&[]), 1, 3)), (None, None));
    assert_eq!(marked(&second, 7, 3).unwrap().marks, [mark(5, 1), mark(7, 3)]);
    assert_eq!(marked(&second, 5, 3).unwrap().marks, [mark(5, 1)]);
    assert_eq!(marked(&second, 1, 3).unwrap().marks, []);
    let condemned = second.after(&condemn(Some(5), &[]), number).unwrap();
    assert_eq!((condemned.first(), condemned.marks.as_slice()), (SegmentNumber(5), &[mark(9, 2)][..]));
    assert_eq!(condemned.without_pruning().marks, []);
}
