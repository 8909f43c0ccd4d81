//! What is known of the row before, by the table's replica identity.

use lifeboat_model::{Fault, Faulty};
use lifeboat_source::postgres::capture::Captured;

use crate::support::{WAIT, capture};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, site text NOT NULL, slug text NOT NULL, body text);
    INSERT INTO t VALUES (1, 'a', 's', 'x'), (2, 'a', 't', 'y');";
const WORK: &str = "UPDATE t SET body = 'z' WHERE id = 1; UPDATE t SET id = 3 WHERE id = 1;
    UPDATE t SET site = 'b' WHERE id = 3; DELETE FROM t WHERE id = 2";

fn check(test: &str, identity: &str, want: [&str; 4]) {
    let Some(mut capture) = capture(test, &format!("{TABLE}{identity}")) else { return };
    assert_eq!(capture.changes(WORK), want);
}

#[test]
fn by_default_the_key_is_known() {
    let want = [
        "update public.t id=1 site=a slug=s body=z",
        "update public.t id=3 site=a slug=s body=z before id=1",
        "update public.t id=3 site=b slug=s body=z",
        "delete public.t id=2",
    ];
    check("by_default_the_key_is_known", "", want);
}

#[test]
fn by_an_index_with_the_tenant_the_tenant_is_known_too() {
    let identity = "CREATE UNIQUE INDEX i ON t (site, id); ALTER TABLE t REPLICA IDENTITY USING INDEX i";
    let want = [
        "update public.t id=1 site=a slug=s body=z",
        "update public.t id=3 site=a slug=s body=z before id=1 was site=a",
        "update public.t id=3 site=b slug=s body=z was site=a",
        "delete public.t id=2 was site=a",
    ];
    check("by_an_index_with_the_tenant_the_tenant_is_known_too", identity, want);
}

#[test]
fn by_an_index_without_the_primary_key_a_row_is_known_by_the_index() {
    let identity = "CREATE UNIQUE INDEX i ON t (site, slug); ALTER TABLE t REPLICA IDENTITY USING INDEX i";
    let want = [
        "update public.t id=1 site=a slug=s body=z",
        "update public.t id=3 site=a slug=s body=z",
        "update public.t id=3 site=b slug=s body=z before site=a slug=s",
        "delete public.t site=a slug=t",
    ];
    check("by_an_index_without_the_primary_key_a_row_is_known_by_the_index", identity, want);
}

#[test]
fn with_the_full_row_everything_is_known() {
    let want = [
        "update public.t id=1 site=a slug=s body=z was site=a was slug=s was body=x",
        "update public.t id=3 site=a slug=s body=z before id=1 was site=a was slug=s was body=z",
        "update public.t id=3 site=b slug=s body=z was site=a was slug=s was body=z",
        "delete public.t id=2 was site=a was slug=t was body=y",
    ];
    check("with_the_full_row_everything_is_known", "ALTER TABLE t REPLICA IDENTITY FULL", want);
}

#[test]
fn without_a_key_the_full_row_is_what_it_is_known_by() {
    let sql = "CREATE TABLE t (site text NOT NULL, n int); ALTER TABLE t REPLICA IDENTITY FULL;
        INSERT INTO t VALUES ('a', 1), ('a', NULL)";
    let Some(mut capture) = capture("without_a_key_the_full_row_is_what_it_is_known_by", sql) else { return };
    let lines = capture.changes("UPDATE t SET n = 2 WHERE n = 1; DELETE FROM t WHERE n IS NULL");
    assert_eq!(lines, ["update public.t site=a n=2 before site=a n=1", "delete public.t site=a n=NULL"]);
}

#[test]
fn without_an_identity_inserts_alone_are_shown_and_writes_still_work() {
    let test = "without_an_identity_inserts_alone_are_shown_and_writes_still_work";
    let sql = format!("{TABLE} ALTER TABLE t REPLICA IDENTITY NOTHING");
    let Some(mut capture) = capture(test, &sql) else { return };
    // Published for updates this would be refused: nobody's application must notice that it is followed.
    assert_eq!(
        capture.changes(&format!("{WORK}; INSERT INTO t VALUES (9, 'a', 'q', 'q')")),
        ["insert public.t id=9 site=a slug=q body=q"]
    );
}

#[test]
fn a_partition_that_tells_other_columns_than_its_root_is_an_error_and_no_row_of_nulls() {
    let test = "a_partition_that_tells_other_columns_than_its_root_is_an_error_and_no_row_of_nulls";
    let sql = "CREATE TABLE e (site text, id int, slug text NOT NULL, PRIMARY KEY (site, id)) PARTITION BY LIST (site);
        CREATE TABLE e_a PARTITION OF e FOR VALUES IN ('a'); CREATE UNIQUE INDEX i ON e_a (slug);
        INSERT INTO e VALUES ('a', 1, 's')";
    let Some(mut capture) = capture(test, sql) else { return };
    // After the publications were set up, which would have left it out.
    capture.run("ALTER TABLE e_a REPLICA IDENTITY USING INDEX i; DELETE FROM e");
    let error = loop {
        match capture.stream().next(WAIT) {
            Ok(Captured::Change { change, .. }) => panic!("{change:?}"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.fault(), Fault::Operator, "{error}");
    assert!(error.hint().unwrap().contains("REPLICA IDENTITY"), "{error}");
}
