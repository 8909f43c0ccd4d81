//! What is known of a moment at which perhaps nobody looked.

use lifeboat_model::{Lsn, SegmentSpan, SpanBounds, Timestamp, TransactionHead, TransactionId};

use super::known_till;

const SECOND: u64 = 1_000_000;

fn span(from: u64, first: Option<u64>, till: u64) -> SegmentSpan {
    let bounds = first.map(|first| {
        let commit = Lsn(first * SECOND);
        SpanBounds::of(&TransactionHead { id: TransactionId(first), commit, committed_at: Timestamp(0) })
    });
    SegmentSpan { from: Lsn(from * SECOND), complete_till: Lsn(till * SECOND), bounds, highest: None }
}

#[test]
fn a_moment_at_which_the_capture_was_away_is_known_till_it_went() {
    // Idle for a minute, away for an hour, and back with a version.
    let spans =
        [span(100, Some(103), 105), span(105, None, 165), span(165, Some(3_800), 3_805), span(3_805, None, 7_400)];
    let check = |wanted: u64, want: u64| {
        let got = known_till(&spans, Lsn(100 * SECOND), Some(Timestamp((wanted * SECOND) as i64)));
        assert_eq!(got.0 as u64 / SECOND, want, "{wanted}");
    };
    for known in [101, 104, 105, 150, 165, 3_800, 3_802, 3_805] {
        check(known, known);
    }
    for away in [166, 2_000, 3_799] {
        check(away, 165);
    }
    // Away without anything new since: only that it looked at the end is known.
    check(5_000, 3_805);
    check(7_400, 7_400);
    // Beyond the last look.
    check(7_401, 7_400);
    assert_eq!(known_till(&spans, Lsn(0), None).0 as u64, 7_400 * SECOND);
    assert_eq!(known_till(&[], Lsn(5 * SECOND), None).0 as u64, 5 * SECOND);
}
