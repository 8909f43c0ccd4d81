//! Beginning again where the log ends, and what is found to be a gap.

use lifeboat_model::{Fault, Faulty, Lsn};
use lifeboat_source::postgres::capture::{
    CaptureStream, Captured, Followed, ReplicationSession, ServerIdentity, SlotState, drop_slot, slot_facts, slot_state,
};
use lifeboat_testkit::postgres::{ClusterOptions, Postgres, query_text, run_sql};

use crate::support::{Capture, WAIT, begin_soon, capture, capture_at, line};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, site text NOT NULL);";

/// Looks at the slot as one who has the log up to `confirmed`.
fn state(capture: &Capture, confirmed: Lsn) -> SlotState {
    let found = ReplicationSession::connect(&capture.server).unwrap().identify().unwrap();
    let followed = Followed { confirmed, ..capture.followed.clone() };
    slot_state(&mut capture.server.connect().unwrap(), &found, &followed).unwrap()
}

fn ends(events: &[Captured]) -> Vec<Lsn> {
    events.iter().filter_map(|event| if let Captured::Commit { end } = event { Some(*end) } else { None }).collect()
}

/// Waits until the server has taken in that `position` is confirmed.
fn until_confirmed(capture: &Capture, position: Lsn) {
    let mut session = capture.server.connect().unwrap();
    let began = std::time::Instant::now();
    while slot_facts(&mut session, &capture.followed.slot).unwrap().unwrap().confirmed < Some(position) {
        assert!(began.elapsed() < WAIT, "not confirmed");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn what_was_not_confirmed_comes_again_the_same_and_nothing_is_left_out() {
    let test = "what_was_not_confirmed_comes_again_the_same_and_nothing_is_left_out";
    let Some(mut capture) = capture(test, TABLE) else { return };
    for id in 0..5 {
        capture.run(&format!("INSERT INTO t VALUES ({id}, 'a'), ({id} + 100, 'b')"));
    }
    let first = capture.events();
    let ends = ends(&first);
    assert_eq!(ends.len(), 5);
    capture.stream().confirm(ends[1]);
    capture.stream().confirm(ends[0]); // never back
    until_confirmed(&capture, ends[1]);
    capture.stream = None;
    capture.run("INSERT INTO t VALUES (5, 'a')"); // while nobody follows
    capture.again(ends[1]);
    let second = capture.events();
    let after = first.iter().position(|event| *event == Captured::Commit { end: ends[1] }).unwrap() + 1;
    let count = first.len() - after;
    assert_eq!(second[..count], first[after..]);
    let new: Vec<String> = second.iter().filter_map(line).collect();
    assert_eq!(new.last().unwrap(), "insert public.t id=5 site=a");
}

// Explains invariant: confirm-only-durable
#[test]
fn only_what_was_confirmed_is_confirmed() {
    let Some(mut capture) = capture("only_what_was_confirmed_is_confirmed", TABLE) else { return };
    let begun = capture.followed.confirmed;
    capture.run("INSERT INTO t VALUES (1, 'a')");
    capture.events();
    // Nothing is left to hand out, and the server has gone on: it is told so all the same.
    run_sql(&capture.url, "CREATE TABLE elsewhere AS SELECT 1 AS a; CHECKPOINT").unwrap();
    capture.stream().next(std::time::Duration::from_secs(1)).unwrap();
    let confirmed = Lsn(begun.0 + 1); // the least that makes the stream tell the server anything
    capture.stream().confirm(confirmed);
    until_confirmed(&capture, confirmed);
    let facts = slot_facts(&mut capture.server.connect().unwrap(), &capture.followed.slot).unwrap().unwrap();
    assert_eq!(facts.confirmed, Some(confirmed));
    let begun = confirmed;
    assert!(matches!(state(&capture, begun), SlotState::InUse { .. }));
    capture.stream = None;
    while matches!(state(&capture, begun), SlotState::InUse { .. }) {}
    assert!(matches!(state(&capture, begun), SlotState::Ready(_)));
}

#[test]
fn the_exported_snapshot_and_the_stream_meet_without_gap_or_overlap() {
    let test = "the_exported_snapshot_and_the_stream_meet_without_gap_or_overlap";
    let Some(capture) = capture(test, TABLE) else { return };
    capture.run("INSERT INTO t VALUES (1, 'a')");
    let mut session = ReplicationSession::connect(&capture.server).unwrap();
    let name = format!("{}_2", capture.followed.slot);
    let slot = session.create_slot(&name, WAIT).unwrap();
    capture.run("INSERT INTO t VALUES (2, 'a')");
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{}'; SELECT id FROM t",
        slot.snapshot
    );
    assert_eq!(query_text(&capture.url, &sql).unwrap().concat(), [Some("1".to_owned())]);
    let mut stream = CaptureStream::begin(&capture.server, session, &capture.followed.slot, slot.consistent).err();
    assert!(stream.take().is_some(), "that one is followed already");
    drop_slot(&mut capture.server.connect().unwrap(), &name).unwrap();
    assert!(query_text(&capture.url, &sql).is_err(), "the snapshot went with its session");
}

#[test]
fn each_gap_has_its_own_name() {
    let Some(mut capture) = capture("each_gap_has_its_own_name", TABLE) else { return };
    capture.run("INSERT INTO t VALUES (1, 'a')");
    let end = ends(&capture.events())[0];
    capture.stream().confirm(end);
    until_confirmed(&capture, end);
    capture.stream = None;
    while matches!(state(&capture, end), SlotState::InUse { .. }) {}
    assert!(matches!(state(&capture, end), SlotState::Ready(_)));
    assert_eq!(state(&capture, Lsn(end.0 - 1)), SlotState::Ahead { confirmed: end });
    assert!(matches!(state(&capture, Lsn(u64::MAX)), SlotState::PutBack { .. }));
    let ours = capture.followed.clone();
    let is = |followed: &mut Followed, server: ServerIdentity| followed.server = server;
    let other = ServerIdentity { system_identifier: "7".into(), ..ours.server.clone() };
    is(&mut capture.followed, other);
    assert_eq!(state(&capture, end), SlotState::OtherServer { found: ours.server.system_identifier.clone() });
    is(&mut capture.followed, ServerIdentity { timeline: 9, ..ours.server.clone() });
    assert_eq!(state(&capture, end), SlotState::OtherTimeline { found: ours.server.timeline });
    capture.followed = ours;
    let mut session = capture.server.connect().unwrap();
    drop_slot(&mut session, &capture.followed.slot).unwrap();
    drop_slot(&mut session, &capture.followed.slot).unwrap();
    assert_eq!(state(&capture, end), SlotState::Missing);
    let error = begin_soon(&capture.server, &capture.followed.slot, end).err().unwrap();
    assert_eq!(error.fault(), Fault::Operator);
    assert!(error.hint().unwrap().contains("the slot is gone"), "{error}");
    // One of the same name is not the same: what came between was given to nobody.
    capture.run("INSERT INTO t VALUES (2, 'a')");
    let sql = format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", capture.followed.slot);
    capture.run(&sql);
    assert!(matches!(state(&capture, end), SlotState::Ahead { .. }));
    capture.run(
        &sql.replace("pg_create_logical_replication_slot", "pg_drop_replication_slot").replace(", 'pgoutput'", ""),
    );
    capture.run(&sql.replace("logical", "physical").replace(", 'pgoutput'", ""));
    assert!(matches!(state(&capture, end), SlotState::NotOurs { .. }));
}

#[test]
fn a_slot_whose_log_was_thrown_away_is_lost() {
    let settings = ["max_slot_wal_keep_size = '1MB'", "min_wal_size = '32MB'", "max_wal_size = '32MB'"];
    let options = ClusterOptions { settings: settings.map(str::to_owned).to_vec(), ..Default::default() };
    let Some(cluster) = Postgres::start_or_skip("a_slot_whose_log_was_thrown_away_is_lost", &options) else { return };
    let url = cluster.fresh_database().unwrap();
    run_sql(&url, TABLE).unwrap();
    let mut capture = capture_at(&url);
    capture.stream = None;
    let facts = slot_facts(&mut capture.server.connect().unwrap(), &capture.followed.slot).unwrap().unwrap();
    assert_eq!((facts.wal_status.as_str(), facts.keep_size.as_str()), ("reserved", "1MB"));
    assert!(facts.safe_wal_bytes.is_some() && facts.kept_bytes.is_some());
    for _ in 0..4 {
        run_sql(&url, "SELECT pg_switch_wal(); CREATE TABLE x AS SELECT 1 AS a; DROP TABLE x").unwrap();
    }
    run_sql(&url, "CHECKPOINT").unwrap();
    let end = capture.followed.confirmed;
    assert_eq!(state(&capture, end), SlotState::Lost { reason: "max_slot_wal_keep_size=`1MB`".into() });
    let error = begin_soon(&capture.server, &capture.followed.slot, capture.followed.confirmed).err().unwrap();
    assert_eq!(error.fault(), Fault::Operator);
    assert!(error.hint().unwrap().contains("thrown away"), "{error}");
}
