//! Facts of segments as capture writes them, and what is kept of them.

use lifeboat_model::{
    ChangePlace, ObjectId, SegmentNumber, SegmentSpan, SiteCount, SiteId, SourceName, TransactionId, Truncation,
};

use super::*;

fn head(commit: u64) -> TransactionHead {
    TransactionHead { id: TransactionId(commit), commit: Lsn(commit), committed_at: Timestamp(commit as i64) }
}

fn footer(complete_till: u64) -> SegmentFooter {
    SegmentFooter {
        source: SourceName::new("app").unwrap(),
        epoch: EpochId(1),
        number: SegmentNumber(1),
        id: ObjectId([0; 16]),
        previous: ObjectId([0; 16]),
        span: SegmentSpan { from: Lsn(0), complete_till: Lsn(complete_till), bounds: None, highest: None },
        sealed_at: Timestamp(complete_till as i64),
        blocks: Vec::new(),
        shared: None,
        unrouted: None,
        followed_by: None,
        shared_kinds: None,
    }
}

/// Transactions of one site and table: commit, deletes, updates.
fn facts(transactions: &[(u64, u64, u64)]) -> SharedFacts {
    let transaction = |(commit, deletes, updates): &(u64, u64, u64)| TransactionFacts {
        head: head(*commit),
        counts: vec![SiteCount {
            site: 0,
            table: 0,
            counts: ChangeCounts { inserts: 7, updates: *updates, deletes: *deletes },
        }],
        unrouted: 0,
    };
    SharedFacts {
        sites: vec![SiteId::new("acme").unwrap()],
        tables: vec!["issues".into()],
        transactions: transactions.iter().map(transaction).collect(),
        ..SharedFacts::default()
    }
}

fn note(commit: u64, prefix: &str, content: &str) -> LogNote {
    let place = ChangePlace { commit: Lsn(commit), sequence: 0 };
    LogNote { place, prefix: prefix.into(), content: content.into() }
}

fn kept(collector: Collector) -> Vec<(u64, u64, u64)> {
    let (suspects, _) = collector.finish();
    suspects.iter().map(|one| (one.head.commit.0, one.counts().deletes, one.counts().updates)).collect()
}

#[test]
fn a_transaction_in_two_segments_is_one_and_what_only_inserted_is_none() {
    let mut collector = Collector::new(Timestamp(0));
    collector.take(EpochId(1), &footer(4), &facts(&[(3, 0, 0), (5, 10, 1)]));
    collector.take(EpochId(1), &footer(6), &facts(&[(5, 4, 0), (6, 0, 2)]));
    collector.end_epoch(EpochId(1));
    assert_eq!(kept(collector), [(5, 14, 1), (6, 0, 2)]);
}

#[test]
fn what_has_no_end_or_is_older_than_asked_is_left_out() {
    let mut collector = Collector::new(Timestamp(4));
    collector.take(EpochId(1), &footer(5), &facts(&[(3, 9, 0), (5, 10, 0), (6, 99, 0)]));
    collector.end_epoch(EpochId(1));
    assert_eq!(kept(collector), [(5, 10, 0)]);
}

#[test]
fn truncations_and_drops_are_found_also_where_the_end_comes_later() {
    let mut collector = Collector::new(Timestamp(0));
    let mut first = facts(&[(4, 0, 0)]);
    first.notes = vec![note(5, "lifeboat.dropped", "issues\nbody"), note(5, "lifeboat.structure", "issues")];
    first.truncations = vec![Truncation {
        place: ChangePlace { commit: Lsn(4), sequence: 0 },
        tables: vec![0],
        cascades: false,
        restarts_sequences: false,
    }];
    collector.take(EpochId(1), &footer(4), &first);
    collector.take(EpochId(1), &footer(5), &facts(&[(5, 0, 0)]));
    collector.end_epoch(EpochId(1));
    let (suspects, notes) = collector.finish();
    assert_eq!(suspects.len(), 2);
    assert_eq!(suspects[0].emptied.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["issues"]);
    assert_eq!(suspects[1].dropped.iter().collect::<Vec<_>>(), ["issues.body"]);
    assert_eq!(suspects[1].altered.iter().collect::<Vec<_>>(), ["issues"]);
    assert!(notes.is_empty(), "what capture notes itself is nobody's word");
}

#[test]
fn a_note_is_shown_as_one_short_line_of_plain_characters() {
    let mut collector = Collector::new(Timestamp(0));
    let mut said = facts(&[(4, 0, 0)]);
    said.notes = vec![note(4, "deploy\u{1b}[2J", &format!("line\none\u{7} {}", "x".repeat(500)))];
    collector.take(EpochId(1), &footer(4), &said);
    let (_, notes) = collector.finish();
    assert_eq!(notes[0].prefix, "deploy [2J");
    assert!(notes[0].text.starts_with("line one") && notes[0].text.ends_with('…'), "{}", notes[0].text);
    assert!(notes[0].text.len() < 220 && !notes[0].text.contains(char::is_control));
}

#[test]
fn of_more_than_memory_may_hold_the_heaviest_are_kept() {
    let mut collector = Collector::new(Timestamp(0));
    collector.counts_max = 100;
    for commit in 1..=10_000 {
        let deletes = if commit % 1_000 == 0 { 5_000 } else { 1 };
        collector.take(EpochId(1), &footer(commit), &facts(&[(commit, deletes, 0)]));
        assert!(collector.suspects.len() <= 100);
    }
    let heavy = kept(collector).into_iter().filter(|(_, deletes, _)| *deletes == 5_000).count();
    assert_eq!(heavy, 10);
}
