//! A server that stops, dies, or has time-outs of its own.

use std::process::Stdio;
use std::time::{Duration, Instant};

use lifeboat_model::{Fault, Faulty};
use lifeboat_source::Error;
use lifeboat_source::postgres::capture::Captured;
use lifeboat_testkit::postgres::{ClusterOptions, Postgres, run_sql};

use crate::support::{Capture, WAIT, capture, capture_at};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, site text NOT NULL);";

fn own(test: &str, settings: &[&str]) -> Option<(Postgres, Capture)> {
    let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
    let cluster = Postgres::start_or_skip(test, &ClusterOptions { settings, ..Default::default() })?;
    let url = cluster.fresh_database().unwrap();
    run_sql(&url, TABLE).unwrap();
    let capture = capture_at(&url);
    Some((cluster, capture))
}

/// What the stream ends with.
fn end(capture: &mut Capture) -> Error {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < WAIT, "it does not end");
        if let Err(error) = capture.stream().next(Duration::from_millis(200)) {
            return error;
        }
    }
}

#[test]
fn a_server_that_dies_is_a_passing_error_and_nothing_is_lost() {
    let Some((cluster, mut capture)) = own("a_server_that_dies_is_a_passing_error_and_nothing_is_lost", &[]) else {
        return;
    };
    capture.run("INSERT INTO t VALUES (1, 'a')");
    assert_eq!(capture.lines(), ["insert public.t id=1 site=a"]);
    cluster.restart("immediate").unwrap();
    let error = end(&mut capture);
    assert_eq!(error.fault(), Fault::Retry, "{error}");
    capture.run("INSERT INTO t VALUES (2, 'a')");
    capture.again(capture.followed.confirmed);
    let lines: Vec<_> = capture.lines().into_iter().filter(|line| line.starts_with("insert")).collect();
    assert_eq!(lines, ["insert public.t id=1 site=a", "insert public.t id=2 site=a"]);
}

#[test]
fn a_server_that_is_stopped_does_not_wait_for_what_is_not_confirmed() {
    let test = "a_server_that_is_stopped_does_not_wait_for_what_is_not_confirmed";
    let Some((cluster, mut capture)) = own(test, &[]) else { return };
    capture.run("INSERT INTO t VALUES (1, 'a')");
    capture.events(); // none of it is confirmed
    let mut stop = cluster.command("pg_ctl");
    stop.args(["stop", "-s", "-w", "-t", "50", "-m", "fast", "-D"]).arg(cluster.dir().join("data"));
    let began = Instant::now();
    assert!(stop.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let error = end(&mut capture);
    assert_eq!(error.fault(), Fault::Retry, "{error}");
}

#[test]
fn a_session_that_somebody_ends_is_a_passing_error() {
    let Some(mut capture) = capture("a_session_that_somebody_ends_is_a_passing_error", TABLE) else { return };
    capture.run(&format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{}'",
        capture.followed.slot
    ));
    let error = end(&mut capture);
    assert_eq!(error.fault(), Fault::Retry, "{error}");
}

#[test]
fn time_outs_that_an_administrator_has_set_end_nothing() {
    let settings = [
        "wal_sender_timeout = '1s'",
        "idle_session_timeout = '1s'",
        "statement_timeout = '1s'",
        "idle_in_transaction_session_timeout = '1s'",
    ];
    let Some((cluster, mut capture)) = own("time_outs_that_an_administrator_has_set_end_nothing", &settings) else {
        return;
    };
    // Nobody reads for a while: the caller is busy with something else.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(capture.changes("INSERT INTO t VALUES (1, 'a')"), ["insert public.t id=1 site=a"]);
    let idle = capture.stream().next(Duration::from_secs(3)).unwrap();
    assert!(matches!(idle, Captured::Idle { .. }), "{idle:?}");
    drop(capture);
    drop(cluster);
}

#[test]
fn a_publication_dropped_under_the_stream_is_said_to_be() {
    let Some(mut capture) = capture("a_publication_dropped_under_the_stream_is_said_to_be", TABLE) else { return };
    capture.run(&format!("DROP PUBLICATION {}; INSERT INTO t VALUES (1, 'a')", capture.followed.slot));
    let error = end(&mut capture);
    assert!(error.hint().unwrap().contains("dropped the publication"), "{error}");
    assert_eq!(error.fault(), Fault::Operator);
}
