use super::*;
use crate::{
    CommitEvent, Hold, HoldId, HoldReason, KeyNumber, ManifestRef, Mark, PointState, RestoreId, RestoreIntent, SiteId,
    WriterIdentity,
};

const MARK: Forgotten = Forgotten { at: Timestamp(100), till: Timestamp(200) };

fn id(number: u8) -> ObjectId {
    ObjectId([number; 16])
}

fn index(number: u8) -> IndexRef {
    IndexRef { id: id(number), len: 1, chunks: 1 }
}

fn snapshot(number: u8, manifest: u8) -> SnapshotRecord {
    SnapshotRecord {
        id: SnapshotId([number; 8]),
        generation: Generation(0),
        manifest: ManifestRef { id: id(manifest), len: 10, head_offset: 0, head_len: 10 },
        mark: Mark::Good,
        mark_reason: None,
        state: PointState::ReadBack,
        cut_from: Timestamp(i64::from(number)),
        cut_till: Timestamp(i64::from(number)),
        parent: None,
        entries: 1,
        logical_bytes: 1,
        added_bytes: 1,
        parts: Vec::new(),
        restore: None,
        moment: None,
        is_scan: false,
        forgotten: None,
    }
}

fn publish(number: u8, manifest: u8, with: Option<u8>) -> CommitEvent {
    CommitEvent::Published { snapshot: Box::new(snapshot(number, manifest)), index: with.map(index) }
}

fn forget(numbers: &[u8]) -> CommitEvent {
    CommitEvent::Forgot { snapshots: ids(numbers), forgotten: MARK, reason: "asked".into() }
}

fn ids(numbers: &[u8]) -> Vec<SnapshotId> {
    numbers.iter().map(|number| SnapshotId([*number; 8])).collect()
}

/// `stays`: the index segments afterwards.
fn condemn(snapshots: &[u8], manifests: &[u8], indexes: &[u8], stays: &[u8]) -> CommitEvent {
    let objects = SiteObjects {
        manifests: manifests.iter().map(|number| id(*number)).collect(),
        indexes: indexes.iter().map(|number| id(*number)).collect(),
        packs: vec![id(90)],
    };
    CommitEvent::Condemned(Box::new(Condemnation {
        snapshots: ids(snapshots),
        objects,
        indexes: stays.iter().map(|number| index(*number)).collect(),
        at: Timestamp(300),
        run: RunNumber(4),
    }))
}

fn hold() -> CommitEvent {
    CommitEvent::HoldPlaced(Hold {
        id: HoldId([7; 8]),
        reason: HoldReason::Asked,
        note: "legal".into(),
        placed_at: Timestamp(0),
    })
}

fn restore(number: u8) -> CommitEvent {
    CommitEvent::RestoreOpened(RestoreIntent {
        restore: RestoreId([9; 8]),
        snapshot: SnapshotId([number; 8]),
        parts: Vec::new(),
        opened_at: Timestamp(0),
        owner: WriterIdentity { host: "h".into(), machine: "m".into(), boot: "b".into(), pid: 1, started: 1 },
        takes_over: None,
        moment: None,
        keeps_later: false,
    })
}

fn apply_all(events: &[CommitEvent]) -> Result<SiteState, StateError> {
    let first = SiteState::new(SiteId::new("acme").expect("a plain id"), KeyNumber(1));
    events.iter().zip(1..).try_fold(first, |state, (event, n)| state.apply(event, Generation(n)))
}

// Explains invariant: condemned-for-good
#[test]
fn what_is_condemned_is_named_by_no_later_commit_and_nothing_of_a_held_site_is() {
    let history = [publish(1, 11, Some(21)), publish(2, 12, None), forget(&[1])];
    let check = |events: &[CommitEvent], want: Result<(), &str>| {
        let got = apply_all(&[&history[..], events].concat());
        match want {
            Ok(()) => assert!(got.is_ok(), "{events:?}: {got:?}"),
            Err(part) => {
                let said = got.as_ref().err().map(ToString::to_string).unwrap_or_default();
                assert!(said.contains(part), "{events:?}: {got:?}");
            }
        }
    };
    let whole = || condemn(&[1], &[11], &[21], &[22]);
    check(&[whole()], Ok(()));
    // Named again: by its manifest, by its index, by an index that is said to stay.
    check(&[whole(), publish(3, 11, None)], Err("condemned"));
    check(&[whole(), publish(3, 13, Some(21))], Err("condemned"));
    check(&[condemn(&[1], &[11], &[21], &[21])], Err("condemned"));
    check(&[whole(), publish(3, 13, Some(23))], Ok(()));
    check(&[whole(), CommitEvent::IndexCompacted { index: index(21) }], Err("condemned"));
    // A point that is not forgotten, one of another's manifest, an index that would be lost track of.
    check(&[condemn(&[2], &[12], &[21], &[])], Err("not forgotten"));
    check(&[condemn(&[], &[12], &[], &[21])], Err("condemned"));
    check(&[condemn(&[1], &[], &[], &[21])], Err("not condemned"));
    check(&[condemn(&[1], &[11], &[], &[])], Err("not condemned"));
    // Held, or being restored: not even what is forgotten.
    check(&[hold(), whole()], Err("held"));
    check(&[restore(2), whole()], Err("restore"));
    check(&[whole(), restore(1)], Err("no such snapshot"));
    check(&[whole(), restore(2)], Ok(()));
    // The deletion of what was condemned is the end of it.
    check(&[whole(), CommitEvent::Deleted { till: Generation(4) }], Ok(()));
    check(&[whole(), restore(2), CommitEvent::Deleted { till: Generation(4) }], Err("restore"));
}

#[test]
fn a_forgotten_point_is_chosen_by_nothing_and_comes_back_to_its_place() {
    let history = [publish(1, 11, None), publish(2, 12, None), publish(3, 13, None)];
    let state = apply_all(&[&history[..], &[forget(&[3, 1])]].concat()).expect("a plain history");
    assert_eq!(state.latest().map(|record| record.id), Some(SnapshotId([2; 8])));
    assert_eq!(state.forgotten.iter().map(|record| record.id).collect::<Vec<_>>(), ids(&[1, 3]));
    assert!(state.forgotten.iter().all(|record| record.forgotten == Some(MARK)));
    assert!(state.snapshot(SnapshotId([1; 8])).is_none() && state.snapshot_or_forgotten(SnapshotId([1; 8])).is_some());
    let before = apply_all(&history).expect("a plain history");
    let back = state.apply(&CommitEvent::Undeleted { snapshots: ids(&[3, 1]) }, Generation(5));
    assert_eq!(back, Ok(before));
    // Twice, or of a point that is not there.
    assert_eq!(state.apply(&forget(&[1]), Generation(5)), Err(StateError::NoSuchSnapshot(SnapshotId([1; 8]))));
    let undelete = CommitEvent::Undeleted { snapshots: ids(&[2]) };
    assert_eq!(state.apply(&undelete, Generation(5)), Err(StateError::NotForgotten(SnapshotId([2; 8]))));
}

#[test]
fn a_point_of_an_open_restore_or_of_a_held_site_is_not_forgotten() {
    let undo = SnapshotRecord { mark: Mark::Undo, restore: Some(RestoreId([9; 8])), ..snapshot(3, 13) };
    let undo = CommitEvent::Published { snapshot: Box::new(undo), index: None };
    let history = [publish(1, 11, None), publish(2, 12, None), restore(2), undo];
    let check = |more: &[CommitEvent], number: u8, want: bool| {
        let got = apply_all(&[&history[..], more, &[forget(&[number])]].concat());
        assert_eq!(got.is_ok(), want, "{number}: {got:?}");
    };
    check(&[], 1, true);
    check(&[], 2, false);
    check(&[], 3, false);
    check(&[hold()], 1, false);
    check(&[hold(), CommitEvent::HoldReleased { hold: HoldId([7; 8]) }], 1, true);
}

#[test]
fn of_an_erased_site_nothing_is_left_but_what_waits_to_be_deleted() {
    let shred = |key: u32, manifests: &[u8], indexes: &[u8]| {
        let objects = SiteObjects {
            manifests: manifests.iter().map(|number| id(*number)).collect(),
            indexes: indexes.iter().map(|number| id(*number)).collect(),
            packs: vec![id(90)],
        };
        let reason = "asked by the customer".into();
        CommitEvent::Shredded(Box::new(Shred {
            key: KeyNumber(key),
            objects,
            at: Timestamp(9),
            run: RunNumber(2),
            reason,
        }))
    };
    let history = [publish(1, 11, Some(21)), publish(2, 12, None), forget(&[1])];
    let after = |more: &[CommitEvent]| apply_all(&[&history[..], more].concat());
    let state = after(&[shred(2, &[11, 12], &[21])]).expect("a plain history");
    assert_eq!((state.key, state.snapshots.len(), state.forgotten.len(), state.indexes.len()), (KeyNumber(2), 0, 0, 0));
    assert_eq!(state.shredded, Some(Shredded { generation: Generation(4), at: Timestamp(9) }));
    assert!(state.is_condemned(&id(12)) && state.is_condemned(&id(90)));
    assert!(after(&[shred(2, &[11, 12], &[21]), publish(1, 31, None)]).is_ok(), "the site lives on");
    assert!(after(&[shred(2, &[11, 12], &[21]), publish(3, 12, None)]).is_err());
    assert_eq!(after(&[shred(1, &[11, 12], &[21])]), Err(StateError::OldKey(KeyNumber(1))));
    assert_eq!(after(&[shred(2, &[12], &[21])]), Err(StateError::LeftBehind(id(11))));
    assert!(after(&[hold(), shred(2, &[11, 12], &[21])]).is_err());
    assert!(after(&[restore(2), shred(2, &[11, 12], &[21])]).is_err());
}
