//! Any sequence of writes, read at any moment, restores to the same rows.

use lifeboat_source::sqlite::digest;
use proptest::prelude::*;
use rusqlite::Connection;

use crate::support::{Fleet, dump, extract};

#[derive(Debug, Clone)]
enum Step {
    Insert { count: u16, len: u16 },
    Update { every: u8, len: u16 },
    Delete { every: u8 },
    Index,
    Vacuum,
    Mode(bool),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..200u16, 0..6_000u16).prop_map(|(count, len)| Step::Insert { count, len }),
        2 => (1..9u8, 0..2_000u16).prop_map(|(every, len)| Step::Update { every, len }),
        2 => (1..5u8).prop_map(|every| Step::Delete { every }),
        1 => Just(Step::Index),
        1 => Just(Step::Vacuum),
        1 => any::<bool>().prop_map(Step::Mode),
        1 => Just(Step::Reopen),
    ]
}

fn apply(connection: &Connection, step: &Step) {
    let sql = match step {
        Step::Insert { count, len } => format!(
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < {count})
             INSERT INTO t(b) SELECT randomblob({len}) FROM r"
        ),
        Step::Update { every, len } => format!("UPDATE t SET b = randomblob({len}) WHERE a % {every} = 0"),
        Step::Delete { every } => format!("DELETE FROM t WHERE a % {every} = 0"),
        Step::Index => "CREATE INDEX IF NOT EXISTS i ON t(b)".into(),
        Step::Vacuum => "VACUUM".into(),
        Step::Mode(true) => "PRAGMA journal_mode = WAL".into(),
        Step::Mode(false) => "PRAGMA journal_mode = DELETE".into(),
        Step::Reopen => return,
    };
    connection.execute_batch(&sql).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn pages_read_and_written_elsewhere_are_the_same_database(
        page_size in prop::sample::select(vec![512u32, 1024, 4096, 65536]),
        auto_vacuum in 0..3u8,
        steps in prop::collection::vec(step(), 1..12),
    ) {
        let fleet = Fleet::new();
        let open = || Connection::open(fleet.path()).unwrap();
        let mut connection = open();
        connection
            .execute_batch(&format!(
                "PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {auto_vacuum}; PRAGMA synchronous = OFF;
                 CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB);"
            ))
            .unwrap();
        for step in &steps {
            apply(&connection, step);
            if matches!(step, Step::Reopen) {
                drop(connection);
                connection = open();
            }
        }
        // The connection stays open: in WAL mode the newest pages are in the log.
        let snapshot = fleet.read().unwrap();
        let copy = extract(&fleet, &snapshot);
        prop_assert_eq!(digest(&copy).unwrap(), digest(&fleet.path()).unwrap());
        prop_assert_eq!(dump(&copy), dump(&fleet.path()));
        drop(connection);
    }
}
