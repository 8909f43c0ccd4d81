//! Changes of structure, seen in their place.

use lifeboat_source::postgres::capture::{StructureNotes, forget_structure, note_structure};
use lifeboat_testkit::postgres::run_sql;

use crate::support::capture;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, site text NOT NULL, n int);";

#[test]
fn each_change_of_structure_stands_between_the_rows_before_and_after_it() {
    let test = "each_change_of_structure_stands_between_the_rows_before_and_after_it";
    let Some(mut capture) = capture(test, TABLE) else { return };
    let lines = capture.changes(
        "BEGIN; INSERT INTO t VALUES (1, 'a', 1); ALTER TABLE t RENAME n TO \"N\"; INSERT INTO t VALUES (2, 'a', 2);
            ALTER TABLE t ADD x text DEFAULT 'd'; INSERT INTO t VALUES (3, 'a', 3); COMMIT;
         ALTER TABLE t DROP x; ALTER TABLE t ALTER \"N\" TYPE bigint; INSERT INTO t VALUES (4, 'a', 4);
         CREATE TEMP TABLE nobody (a int)",
    );
    let want = [
        "insert public.t id=1 site=a n=1",
        "altered public.t ALTER TABLE: 1=id 2=site 3=N",
        "differs public.t",
        "insert public.t id=2 site=a N=2",
        "altered public.t ALTER TABLE: 1=id 2=site 3=N 4=x",
        "differs public.t",
        "insert public.t id=3 site=a N=3 x=d",
        "dropped public.t.x ALTER TABLE",
        "altered public.t ALTER TABLE: 1=id 2=site 3=N",
        "rewritten public.t ALTER TABLE",
        "altered public.t ALTER TABLE: 1=id 2=site 3=N",
        "differs public.t",
        "insert public.t id=4 site=a N=4",
    ];
    assert_eq!(lines, want);
}

#[test]
fn a_partition_that_is_dropped_or_detached_is_seen() {
    let sql = "CREATE TABLE e (site text, id int, PRIMARY KEY (site, id)) PARTITION BY LIST (site);
        CREATE TABLE e_a PARTITION OF e FOR VALUES IN ('a'); CREATE TABLE e_b PARTITION OF e FOR VALUES IN ('b');
        INSERT INTO e VALUES ('a', 1), ('b', 2)";
    let Some(mut capture) = capture("a_partition_that_is_dropped_or_detached_is_seen", sql) else { return };
    assert_eq!(capture.changes("DROP TABLE e_a"), ["dropped public.e_a DROP TABLE"]);
    assert_eq!(capture.changes("ALTER TABLE e DETACH PARTITION e_b"), ["altered public.e ALTER TABLE: 1=site 2=id"]);
}

#[test]
fn without_event_triggers_the_next_row_tells_of_it() {
    let Some(mut capture) = capture("without_event_triggers_the_next_row_tells_of_it", TABLE) else { return };
    forget_structure(&mut capture.server.connect().unwrap()).unwrap();
    let lines = capture
        .changes("INSERT INTO t VALUES (1, 'a', 1); ALTER TABLE t ADD x text; INSERT INTO t VALUES (2, 'a', 2, '')");
    let want = ["insert public.t id=1 site=a n=1", "differs public.t", "insert public.t id=2 site=a n=2 x="];
    assert_eq!(lines[lines.len() - 3..], want);
}

#[test]
fn only_a_superuser_may_set_the_event_triggers_up() {
    let Some(capture) = capture("only_a_superuser_may_set_the_event_triggers_up", TABLE) else { return };
    capture.run("CREATE ROLE ddl_plain LOGIN; GRANT CREATE ON DATABASE postgres TO ddl_plain");
    let plain = capture.url.replace("postgres@", "ddl_plain@");
    let connect = || lifeboat_source::postgres::Server::new("app", &plain).unwrap().connect().unwrap();
    assert_eq!(note_structure(&mut connect()).unwrap(), StructureNotes::Noted, "a superuser did before");
    forget_structure(&mut capture.server.connect().unwrap()).unwrap();
    assert_eq!(note_structure(&mut connect()).unwrap(), StructureNotes::NotAllowed);
    run_sql(&capture.url, "ALTER TABLE t ADD y text").unwrap();
}
