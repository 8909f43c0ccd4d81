use super::*;

fn state() -> SiteState {
    SiteState::new(SiteId::new("acme").expect("a plain id"), KeyNumber(1))
}

fn snapshot(number: u8, mark: Mark, cut_till: i64) -> CommitEvent {
    let record = SnapshotRecord {
        id: SnapshotId([number; 8]),
        generation: Generation(0),
        manifest: ManifestRef { id: ObjectId([number; 16]), len: 10, head_offset: 0, head_len: 10 },
        mark,
        mark_reason: None,
        state: PointState::Written,
        cut_from: Timestamp(cut_till - 1),
        cut_till: Timestamp(cut_till),
        parent: None,
        entries: 1,
        logical_bytes: 1,
        added_bytes: 1,
        parts: Vec::new(),
        restore: None,
        moment: None,
        is_scan: false,
        forgotten: None,
    };
    CommitEvent::Published { snapshot: Box::new(record), index: None }
}

fn intent(number: u8, takes_over: Option<u8>) -> RestoreIntent {
    RestoreIntent {
        restore: RestoreId([number; 8]),
        snapshot: SnapshotId([1; 8]),
        parts: Vec::new(),
        opened_at: Timestamp(0),
        owner: WriterIdentity { host: "h".into(), machine: "m".into(), boot: "b".into(), pid: 1, started: 1 },
        takes_over: takes_over.map(|number| RestoreId([number; 8])),
        moment: None,
        keeps_later: false,
    }
}

fn apply_all(events: &[CommitEvent]) -> Result<SiteState, StateError> {
    events.iter().zip(1..).try_fold(state(), |state, (event, n)| state.apply(event, Generation(n)))
}

#[test]
fn latest_is_the_newest_good_point_only() {
    let state = apply_all(&[
        snapshot(1, Mark::Good, 10),
        snapshot(2, Mark::Good, 20),
        snapshot(3, Mark::Suspect, 30),
        snapshot(4, Mark::Incomplete, 40),
        snapshot(5, Mark::Undo, 50),
    ])
    .expect("a plain history");
    assert_eq!(state.latest().map(|s| s.id), Some(SnapshotId([2; 8])));
    assert_eq!(state.latest_at(Timestamp(19)).map(|s| s.id), Some(SnapshotId([1; 8])));
    assert_eq!(state.latest_at(Timestamp(20)).map(|s| s.id), Some(SnapshotId([2; 8])));
    assert_eq!(state.latest_at(Timestamp(9)), None);
    assert_eq!(state.snapshot(SnapshotId([3; 8])).map(|s| s.generation), Some(Generation(3)));
}

#[test]
fn a_second_restore_is_refused_unless_it_takes_over() {
    let first = || [snapshot(1, Mark::Good, 10), CommitEvent::RestoreOpened(intent(1, None))];
    let opened = |second| apply_all(&[&first()[..], &[CommitEvent::RestoreOpened(second)]].concat());
    assert!(matches!(opened(intent(2, None)), Err(StateError::RestoreOpen(open)) if open.restore == RestoreId([1; 8])));
    assert!(opened(intent(2, Some(3))).is_err());
    assert_eq!(opened(intent(2, Some(1))).map(|s| s.intent.map(|i| i.restore)), Ok(Some(RestoreId([2; 8]))));
    assert!(opened(intent(1, None)).is_ok(), "the same restore goes on after a crash");
    let closed = opened(intent(2, Some(1))).and_then(|s| {
        s.apply(
            &CommitEvent::RestoreClosed { restore: RestoreId([1; 8]), outcome: RestoreOutcome::Completed },
            Generation(4),
        )
    });
    assert_eq!(closed, Err(StateError::NotTheOpenRestore(RestoreId([1; 8]))), "the one taken over cannot close");
}

#[test]
fn a_snapshot_during_a_restore_is_never_good() {
    let opened = || CommitEvent::RestoreOpened(intent(1, None));
    let during = |mark| apply_all(&[snapshot(1, Mark::Good, 5), opened(), snapshot(2, mark, 10)]);
    assert_eq!(during(Mark::Good), Err(StateError::GoodDuringRestore(SnapshotId([2; 8]))));
    assert!(during(Mark::Incomplete).is_ok());
    assert!(during(Mark::Undo).is_ok());
}

#[test]
fn a_scan_is_never_good_whatever_anybody_thinks_of_it() {
    let scan = |mark| match snapshot(1, mark, 10) {
        CommitEvent::Published { snapshot, index } => {
            CommitEvent::Published { snapshot: Box::new(SnapshotRecord { is_scan: true, ..*snapshot }), index }
        }
        other => other,
    };
    let bad = StateError::GoodScan(SnapshotId([1; 8]));
    for mark in [Mark::Good, Mark::Suspect, Mark::Undo] {
        assert_eq!(apply_all(&[scan(mark)]), Err(bad.clone()));
        let marked = CommitEvent::Marked { snapshot: SnapshotId([1; 8]), mark, reason: "x".into() };
        assert_eq!(apply_all(&[scan(Mark::Incomplete), marked]), Err(bad.clone()));
    }
    let state = apply_all(&[snapshot(2, Mark::Good, 5), scan(Mark::Incomplete)]);
    assert_eq!(state.map(|state| state.latest().map(|latest| latest.id)), Ok(Some(SnapshotId([2; 8]))));
}

#[test]
fn a_point_state_only_rises() {
    let state = apply_all(&[
        snapshot(1, Mark::Good, 10),
        CommitEvent::StateChanged { snapshot: SnapshotId([1; 8]), state: PointState::Proven, drill: None },
        CommitEvent::StateChanged { snapshot: SnapshotId([1; 8]), state: PointState::ReadBack, drill: None },
    ]);
    assert_eq!(state.map(|s| s.snapshots[0].state), Ok(PointState::Proven));
}
