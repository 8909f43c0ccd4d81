//! Bases and an epoch as tables: which may carry which changes.

use lifeboat_model::{
    Epoch, EpochFacts, EpochId, EpochReason, Lsn, ObjectId, SourceKind, SourceName, Timestamp, TransactionHead,
    TransactionId,
};

use super::super::cut::Cut;
use super::BasePlace;

/// Sees everything below 20, but not 12 and 17, which were running.
const EPOCH_SEES: &str = "12:20:12,17";

fn epoch() -> Epoch {
    Epoch {
        id: EpochId(1),
        nonce: ObjectId([0; 16]),
        writer: crate::this_process(),
        facts: EpochFacts {
            source: SourceName::new("app").unwrap(),
            kind: SourceKind::Postgres,
            system_identifier: "7".into(),
            timeline: 1,
            slot: "lifeboat_app".into(),
            database: "app".into(),
            begins: Lsn(0x100),
            snapshot: EPOCH_SEES.into(),
            begun_at: Timestamp(0),
            why: EpochReason::First,
            note: String::new(),
            sound_till: None,
            partly: Vec::new(),
        },
    }
}

fn base(sees: &str) -> BasePlace {
    BasePlace::of(&format!("lsn=0/200, timeline=1, snapshot={sees}"), "postgresql 7").unwrap()
}

#[test]
fn a_position_that_is_not_a_whole_place_is_no_base() {
    let check = |position: &str, machine: &str, want: bool| {
        assert_eq!(BasePlace::of(position, machine).is_some(), want, "{position} on {machine}");
    };
    let position = "lsn=0/200, timeline=1, snapshot=12:20:12,17";
    check(position, "postgresql 7", true);
    check("lsn=16/B374D848, timeline=3, snapshot=12:20:", "postgresql 7", true);
    check(position, "host", false);
    check("", "postgresql 7", false);
    check("lsn=0/200", "postgresql 7", false);
    check("lsn=0/200, timeline=1", "postgresql 7", false);
    check("lsn=0-200, timeline=1, snapshot=12:20:", "postgresql 7", false);
    check("lsn=0/200, timeline=one, snapshot=12:20:", "postgresql 7", false);
    check("lsn=0/200, timeline=1, snapshot=12:20", "postgresql 7", false);
    check("lsn=0/200, timeline=1, snapshot=12:20:x", "postgresql 7", false);
}

// Explains invariant: joined-by-visibility
#[test]
fn a_base_joins_an_epoch_when_it_sees_all_that_came_before_and_takes_what_it_does_not_see() {
    let joins = |sees: &str, want: bool| assert_eq!(base(sees).joins(&epoch()), want, "{sees}");
    joins(EPOCH_SEES, true); // the epoch's own snapshot
    joins("20:20:", true);
    joins("12:30:12,17,25", true); // what runs in it still ran when the epoch began, or began later
    joins("12:19:12,17", false); // taken before: of 19 neither the base nor the log has anything
    joins("12:30:12,15", false); // the epoch sees 15 already, the base does not
    joins("11:20:11,12,17", false);
    let elsewhere = |timeline: &str, machine: &str| {
        BasePlace::of(&format!("lsn=0/200, timeline={timeline}, snapshot=20:20:"), machine).unwrap()
    };
    assert!(elsewhere("1", "postgresql 7").joins(&epoch()));
    assert!(!elsewhere("2", "postgresql 7").joins(&epoch()), "another timeline");
    assert!(!elsewhere("1", "postgresql 8").joins(&epoch()), "another server");

    // The base is at 0/200; where a commit stands beside that says nothing.
    let belongs = |(id, commit): (u64, u64), want: bool| {
        let head = TransactionHead { id: TransactionId(id), commit: Lsn(commit), committed_at: Timestamp(0) };
        assert_eq!(base("12:30:12,17,25").belongs(&head, &Cut { till: Lsn(0x300) }), want, "{id} at {commit:#x}");
    };
    belongs((17, 0x210), true);
    belongs((25, 0x1f0), true); // in the server's log before the base, and visible only after it
    belongs((11, 0x1f0), false);
    belongs((29, 0x210), false); // seen already
    belongs((30, 0x210), true);
    belongs((30, 0x300), true);
    belongs((30, 0x301), false); // after the moment
}
