//! Which tables are published, and what is found to be changed by hand.

use lifeboat_source::postgres::capture::{Difference, capture_name, differences, set_up, take_down};
use lifeboat_testkit::postgres::{Postgres, query_text, run_sql};

use crate::support::{capture, covered};

const TABLES: &str = "CREATE TABLE good (id int PRIMARY KEY, site text);
    CREATE TABLE keyless (site text); CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY, site text);
    CREATE TABLE roots (site text, id int, PRIMARY KEY (site, id)) PARTITION BY LIST (site);
    CREATE TABLE roots_a PARTITION OF roots FOR VALUES IN ('a');
    CREATE TABLE mixed (site text, id int, PRIMARY KEY (site, id)) PARTITION BY LIST (site);
    CREATE TABLE mixed_a PARTITION OF mixed FOR VALUES IN ('a'); ALTER TABLE mixed_a REPLICA IDENTITY NOTHING;";

// Explains invariant: no-write-refused
#[test]
fn no_table_is_published_on_which_the_server_would_refuse_a_write() {
    let test = "no_table_is_published_on_which_the_server_would_refuse_a_write";
    let Some(capture) = capture(test, TABLES) else { return };
    let covered = covered(&mut capture.server.connect().unwrap());
    let names: Vec<String> = covered.followed.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["public.good", "public.roots"]);
    let inserts: Vec<String> = covered.inserts.keys().map(ToString::to_string).collect();
    assert_eq!(inserts, ["public.keyless", "public.mixed"]);
    let left: Vec<String> = covered.snapshots_only.iter().map(|left| left.table.to_string()).collect();
    assert_eq!(left, ["public.fleeting", "public.keyless", "public.mixed"]);
    assert!(covered.snapshots_only[0].reason.contains("unlogged"));
    for table in ["good", "keyless", "fleeting", "roots", "mixed"] {
        let columns = if table == "keyless" { "site" } else { "site, id" };
        let values = if table == "keyless" { "'a'" } else { "'a', 1" };
        capture.run(&format!(
            "INSERT INTO {table} ({columns}) VALUES ({values}); UPDATE {table} SET site = 'a'; DELETE FROM {table}"
        ));
    }
}

#[test]
fn what_somebody_changed_by_hand_is_named_and_mended() {
    let test = "what_somebody_changed_by_hand_is_named_and_mended";
    let Some(cluster) = Postgres::shared_or_skip(test) else { return };
    let url = cluster.fresh_database().unwrap();
    run_sql(&url, TABLES).unwrap();
    let mut session = lifeboat_source::postgres::Server::new("app", &url).unwrap().connect().unwrap();
    let name = capture_name("by hand");
    let wanted = covered(&mut session);
    assert_eq!(set_up(&mut session, &name, &wanted).unwrap().len(), 2, "both were missing");
    assert_eq!(differences(&mut session, &name, &wanted).unwrap(), []);
    let quoted = format!("\"{name}\"");
    let mut check = |sql: &str, want: &[&str]| {
        run_sql(&url, &sql.replace("THE", &quoted)).unwrap();
        let found: Vec<String> = differences(&mut session, &name, &wanted).unwrap().iter().map(said).collect();
        assert_eq!(found, want, "{sql}");
        let mended: Vec<String> = set_up(&mut session, &name, &wanted).unwrap().iter().map(said).collect();
        assert_eq!(mended, want);
        assert_eq!(differences(&mut session, &name, &wanted).unwrap(), [], "{sql}");
    };
    check("ALTER PUBLICATION THE DROP TABLE good", &["a table is missing public.good"]);
    check("ALTER PUBLICATION THE ADD TABLE keyless", &["a table is too much public.keyless"]);
    check("ALTER PUBLICATION THE SET (publish = 'insert')", &["other operations are published insert"]);
    check("ALTER PUBLICATION THE SET (publish_via_partition_root = false)", &["partitions go by their own names"]);
    check("DROP PUBLICATION THE", &["there is none"]);
    check("DROP PUBLICATION THE; CREATE PUBLICATION THE FOR ALL TABLES", &["it is for all tables"]);
    let filter = "ALTER PUBLICATION THE SET TABLE ONLY good WHERE (id > 0), roots";
    check(filter, &["a table is not shown whole public.good"]);
    check("ALTER PUBLICATION THE ADD TABLES IN SCHEMA public", &["it is for all tables of a schema public"]);
    run_sql(&url, "CREATE TABLE new (id int PRIMARY KEY, site text)").unwrap();
    let wanted = covered(&mut session);
    let found: Vec<String> = differences(&mut session, &name, &wanted).unwrap().iter().map(said).collect();
    assert_eq!(found, ["a table is missing public.new"]);
    take_down(&mut session, &name).unwrap();
    assert_eq!(query_text(&url, "SELECT pubname FROM pg_publication").unwrap().len(), 0);
}

/// The words, and what they are about, without the publication's name.
fn said(difference: &Difference) -> String {
    let text = difference.to_string();
    let (words, facts) = text.split_once(": publication=`").unwrap();
    let fact = facts.split('`').nth(2).map(|fact| format!(" {fact}")).unwrap_or_default();
    format!("{words}{fact}")
}
