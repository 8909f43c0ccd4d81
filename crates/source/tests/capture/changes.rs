//! What is captured of each kind of change.

use std::time::{Duration, Instant};

use lifeboat_model::{Lsn, TransactionId};
use lifeboat_source::postgres::capture::Captured;
use lifeboat_testkit::postgres::{ClusterOptions, Postgres, query_text};

use crate::support::{WAIT, capture, capture_at};

const ISSUES: &str = "CREATE TABLE issues (id int PRIMARY KEY, site text NOT NULL, body text);";

#[test]
fn a_transaction_is_given_whole_with_its_number_its_time_and_its_end() {
    let test = "a_transaction_is_given_whole_with_its_number_its_time_and_its_end";
    let Some(mut capture) = capture(test, ISSUES) else { return };
    let sql = "BEGIN; INSERT INTO issues VALUES (1, 'a', 'x'); INSERT INTO issues VALUES (2, 'b', NULL);
        CREATE TABLE other AS SELECT pg_current_xact_id()::text AS id; COMMIT";
    capture.run(sql);
    let events = capture.events();
    let Captured::Begin(head) = &events[0] else { panic!("{events:?}") };
    let number = query_text(&capture.url, "SELECT id FROM other").unwrap().concat();
    assert_eq!(head.id.to_string(), number[0].clone().unwrap());
    assert!(head.committed_at.0 > 1_700_000_000_000_000);
    let sequences: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            Captured::Change { sequence, .. } | Captured::Structure { sequence, .. } => Some(*sequence),
            _ => None,
        })
        .collect();
    assert_eq!(sequences, [0, 1, 2]);
    let Some(Captured::Commit { end }) = events.last() else { panic!("{events:?}") };
    assert!(*end > head.commit);
}

#[test]
fn rows_that_were_rolled_back_are_not_given() {
    let Some(mut capture) = capture("rows_that_were_rolled_back_are_not_given", ISSUES) else { return };
    let lines = capture.changes(
        "BEGIN; INSERT INTO issues VALUES (1, 'a', 'x'); ROLLBACK;
         BEGIN; INSERT INTO issues VALUES (2, 'a', 'x'); SAVEPOINT s; INSERT INTO issues VALUES (3, 'a', 'x');
            ROLLBACK TO s; SAVEPOINT t; UPDATE issues SET body = 'y'; RELEASE t; COMMIT",
    );
    assert_eq!(lines, ["insert public.issues id=2 site=a body=x", "update public.issues id=2 site=a body=y"]);
}

#[test]
fn a_cascade_gives_each_row_and_a_truncation_each_table() {
    let sql = "CREATE TABLE issues (id int PRIMARY KEY, site text NOT NULL);
        CREATE TABLE comments (id int PRIMARY KEY, site text NOT NULL, issue int REFERENCES issues ON DELETE CASCADE);
        INSERT INTO issues VALUES (1, 'a'); INSERT INTO comments VALUES (10, 'a', 1), (11, 'a', 1)";
    let Some(mut capture) = capture("a_cascade_gives_each_row_and_a_truncation_each_table", sql) else { return };
    let lines = capture.changes("DELETE FROM issues");
    assert_eq!(lines, ["delete public.issues id=1", "delete public.comments id=10", "delete public.comments id=11"]);
    let lines = capture.changes("TRUNCATE issues CASCADE");
    assert_eq!(lines, ["truncate public.issues public.comments"]);
}

#[test]
fn a_large_value_that_is_not_changed_is_not_sent() {
    let sql = format!(
        "{ISSUES} ALTER TABLE issues ALTER body SET STORAGE EXTERNAL;
        INSERT INTO issues VALUES (1, 'a', repeat('x', 10000))"
    );
    let Some(mut capture) = capture("a_large_value_that_is_not_changed_is_not_sent", &sql) else { return };
    assert_eq!(capture.changes("UPDATE issues SET site = 'b'"), ["update public.issues id=1 site=b body=~"]);
    let key = capture.changes("UPDATE issues SET id = 2");
    assert_eq!(key, ["update public.issues id=2 site=b body=~ before id=1"]);
    // The whole old row has it.
    capture.run("ALTER TABLE issues REPLICA IDENTITY FULL");
    let lines = capture.changes("UPDATE issues SET site = 'c'");
    let want = format!("update public.issues id=2 site=c body={0} was site=b was body={0}", "x".repeat(10000));
    assert!(lines.last() == Some(&want), "{}", lines.len());
}

#[test]
fn values_are_what_copy_writes_before_it_escapes_them() {
    let sql = r#"CREATE SCHEMA "Odd ""Schema"; CREATE TYPE "Odd ""Schema"."Mood" AS ENUM ('so so', 'fine');
        CREATE DOMAIN small AS numeric(6, 2) CHECK (VALUE < 100); CREATE TYPE pair AS (a int, b text);
        CREATE TABLE "Odd ""Schema"."Ta.ble" (id bigint PRIMARY KEY, site text NOT NULL, "Mood" "Odd ""Schema"."Mood",
            n small, moods "Odd ""Schema"."Mood"[], p pair, twice bigint GENERATED ALWAYS AS (id * 2) STORED,
            f float8, at timestamptz, raw bytea, span interval, j jsonb, day date, t varchar(20))"#;
    let Some(mut capture) = capture("values_are_what_copy_writes_before_it_escapes_them", sql) else { return };
    // Whatever an administrator has set.
    let database = capture.url.rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
    for setting in [
        "DateStyle = 'SQL, DMY'",
        "IntervalStyle = 'iso_8601'",
        "extra_float_digits = 0",
        "bytea_output = 'escape'",
        "TimeZone = 'Asia/Tokyo'",
    ] {
        capture.run(&format!("ALTER DATABASE {database} SET {setting}"));
    }
    let from = capture.followed.confirmed;
    capture.again(from);
    let row = r#"INSERT INTO "Odd ""Schema"."Ta.ble" VALUES (7, 'a', 'so so', 1.5, '{fine,NULL}', '(1,"x y")', DEFAULT,
        0.1::float8 + 0.2, '2022-04-05 07:38:00.5+00', '\x00ff', '1 day 2 hours', '{"a": [1]}', '2022-04-05', E'a\tb\\')"#;
    capture.run(row);
    let events = capture.events();
    let table = events.iter().find_map(|event| match event {
        Captured::Change { table, .. } => Some(table.clone()),
        _ => None,
    });
    let table = table.unwrap();
    assert_eq!(table.name, r#""Odd ""Schema"."Ta.ble""#);
    let types: Vec<&str> = table.columns.iter().map(|column| column.type_name.as_str()).collect();
    let mood = r#""Odd ""Schema"."Mood""#;
    let want = [
        "bigint",
        "text",
        mood,
        "public.small",
        &format!("{mood}[]"),
        "public.pair",
        "double precision",
        "timestamp with time zone",
        "bytea",
        "interval",
        "jsonb",
        "date",
        "character varying(20)",
    ];
    assert_eq!(types, want);
    let lines: Vec<String> = events.iter().filter_map(crate::support::line).collect();
    let want = "id=7 site=a Mood=so so n=1.50 moods={fine,NULL} p=(1,\"x y\") f=0.30000000000000004 \
                at=2022-04-05 07:38:00.5+00 raw=\\x00ff span=1 day 02:00:00 j={\"a\": [1]} day=2022-04-05 t=a\tb\\";
    assert_eq!(lines, [format!("insert {} {want}", table.name)]);
}

#[test]
fn rows_of_partitions_are_their_root_s_wherever_they_are_written() {
    let sql = "CREATE TABLE events (site text NOT NULL, id int, year int NOT NULL, PRIMARY KEY (site, id, year))
            PARTITION BY RANGE (year);
        CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (2020) TO (2021);
        CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (2021) TO (2030) PARTITION BY LIST (site);
        CREATE TABLE events_2a PARTITION OF events_2 FOR VALUES IN ('a')";
    let Some(mut capture) = capture("rows_of_partitions_are_their_root_s_wherever_they_are_written", sql) else {
        return;
    };
    let lines = capture.changes(
        "INSERT INTO events VALUES ('a', 1, 2020); INSERT INTO events_2a VALUES ('a', 2, 2022);
         UPDATE events SET year = 2023 WHERE id = 1; DELETE FROM events_2 WHERE id = 2",
    );
    let want = [
        "insert public.events site=a id=1 year=2020",
        "insert public.events site=a id=2 year=2022",
        "delete public.events site=a id=1 year=2020",
        "insert public.events site=a id=1 year=2023",
        "delete public.events site=a id=2 year=2022",
    ];
    assert_eq!(lines, want);
    assert_eq!(capture.changes("TRUNCATE events"), ["truncate public.events"]);
}

#[test]
fn a_prepared_transaction_is_given_when_it_is_committed() {
    let options = ClusterOptions { settings: vec!["max_prepared_transactions = 3".into()], ..Default::default() };
    let test = "a_prepared_transaction_is_given_when_it_is_committed";
    let Some(cluster) = Postgres::start_or_skip(test, &options) else { return };
    let url = cluster.fresh_database().unwrap();
    lifeboat_testkit::postgres::run_sql(&url, ISSUES).unwrap();
    let mut capture = capture_at(&url);
    let lines = capture.changes("BEGIN; INSERT INTO issues VALUES (1, 'a', 'x'); PREPARE TRANSACTION 'p'");
    assert_eq!(lines, [""; 0]);
    assert_eq!(capture.changes("COMMIT PREPARED 'p'"), ["insert public.issues id=1 site=a body=x"]);
    capture.run("BEGIN; INSERT INTO issues VALUES (2, 'a', 'x'); PREPARE TRANSACTION 'q'");
    assert_eq!(capture.changes("ROLLBACK PREPARED 'q'"), [""; 0]);
}

#[test]
fn notes_come_in_their_place_and_those_of_no_transaction_even_if_it_is_rolled_back() {
    let test = "notes_come_in_their_place_and_those_of_no_transaction_even_if_it_is_rolled_back";
    let Some(mut capture) = capture(test, ISSUES) else { return };
    let lines = capture.changes(
        "BEGIN; INSERT INTO issues VALUES (1, 'a', 'x'); SELECT pg_logical_emit_message(true, 'why', 'é');
            INSERT INTO issues VALUES (2, 'a', 'x'); COMMIT;
         BEGIN; SELECT pg_logical_emit_message(true, 'why', 'no'); SELECT pg_logical_emit_message(false, 'at once', 'yes');
            ROLLBACK;
         SELECT pg_logical_emit_message(true, 'lifeboat.ddl', 'by hand')",
    );
    let want = [
        "insert public.issues id=1 site=a body=x",
        "note why: é",
        "insert public.issues id=2 site=a body=x",
        "note at once: yes",
        "note lifeboat.ddl: by hand",
    ];
    assert_eq!(lines, want);
}

#[test]
fn transactions_keep_their_numbers_when_those_of_32_bits_begin_again() {
    let test = "transactions_keep_their_numbers_when_those_of_32_bits_begin_again";
    let Some(cluster) = Postgres::start_or_skip(test, &ClusterOptions::default()) else { return };
    // As after four thousand million transactions: an epoch of 3.
    run_resetwal(&cluster);
    let url = cluster.fresh_database().unwrap();
    lifeboat_testkit::postgres::run_sql(&url, ISSUES).unwrap();
    let mut capture = capture_at(&url);
    let id = query_text(
        &url,
        "WITH t AS (INSERT INTO issues VALUES (1, 'a', '') RETURNING 1) SELECT pg_current_xact_id() FROM t",
    );
    let events = capture.events();
    let Captured::Begin(head) = &events[0] else { panic!("{events:?}") };
    assert!(head.id > TransactionId(3 << 32), "{}", head.id);
    assert_eq!(id.unwrap().concat(), [Some(head.id.to_string())]);
}

fn run_resetwal(cluster: &Postgres) {
    let data = cluster.dir().join("data");
    let control = |args: &[&str]| {
        let status =
            cluster.command("pg_ctl").args(args).arg("-D").arg(&data).stdout(std::process::Stdio::null()).status();
        assert!(status.unwrap().success(), "pg_ctl {args:?}");
    };
    control(&["stop", "-s", "-w", "-m", "fast"]);
    let reset = cluster.command("pg_resetwal").args(["-e", "3", "-D"]).arg(&data).output().unwrap();
    assert!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));
    let log = cluster.dir().join("server.log");
    control(&["start", "-s", "-w", "-l", log.to_str().unwrap()]);
}

// Explains invariant: one-by-one
#[test]
fn a_transaction_of_many_rows_waits_at_the_server_until_it_is_read() {
    let test = "a_transaction_of_many_rows_waits_at_the_server_until_it_is_read";
    let Some(mut capture) = capture(test, ISSUES) else { return };
    capture.run("INSERT INTO issues SELECT n, 'a', repeat('x', 500) FROM generate_series(0, 99999) n");
    // Fifty megabytes: the server cannot get rid of them as long as nobody takes them.
    let waits = format!(
        "SELECT wait_event FROM pg_stat_activity JOIN pg_replication_slots ON active_pid = pid WHERE slot_name = '{}'",
        capture.followed.slot
    );
    let is_waiting = || query_text(&capture.url, &waits).unwrap().concat() == [Some("WalSenderWriteData".to_owned())];
    let began = Instant::now();
    while !is_waiting() {
        assert!(began.elapsed() < WAIT, "nothing holds the server back");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(1));
    assert!(is_waiting());
    let mut count = 0;
    loop {
        match capture.stream().next(WAIT).unwrap() {
            Captured::Change { sequence, .. } => {
                assert_eq!(sequence, count);
                count += 1;
            }
            Captured::Commit { end } => break assert!(end > Lsn(0)),
            Captured::Begin(_) | Captured::Idle { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(count, 100_000);
}
