//! Tables that are altered, emptied or swapped after the snapshot, or while a restore is at work.

use lifeboat_testkit::postgres::{Postgres, run_sql};

use crate::odd_data::SMALL;
use crate::proxy::{Proxy, Trap, Verdict};
use crate::shop::{Said, Shop};

const RESTORE: [&str; 3] = ["restore", "a", "--yes"];
/// Everything of a site, in the columns that the snapshot had.
const DIGEST: &str = "SELECT md5(string_agg(n.id || n.body, ';' ORDER BY n.id)) FROM notes n WHERE site_id = 'a'";

/// Two sites with notes, in partitions, backed up.
fn shop(server: &Postgres) -> Shop {
    let url = server.fresh_database().unwrap();
    let tables = "
        CREATE TABLE sites (id text PRIMARY KEY, name text);
        CREATE TABLE notes (id int, site_id text REFERENCES sites ON DELETE CASCADE, body text, PRIMARY KEY (id))
            PARTITION BY RANGE (id);
        CREATE TABLE low PARTITION OF notes FOR VALUES FROM (0) TO (100);
        CREATE TABLE high PARTITION OF notes FOR VALUES FROM (100) TO (200);
        CREATE TABLE tags (id int PRIMARY KEY, site_id text REFERENCES sites, tag text);
        INSERT INTO sites VALUES ('a', 'x'), ('b', 'y');
        INSERT INTO tags VALUES (1, 'a', 'red');
        INSERT INTO notes SELECT n, CASE WHEN n % 2 = 0 THEN 'a' ELSE 'b' END, 'note ' || n FROM generate_series(0, 199) n";
    run_sql(&url, tables).unwrap();
    let shop = Shop::of(&url, SMALL);
    shop.ok(&["backup", "--all"]);
    shop
}

#[test]
fn a_table_altered_since_the_snapshot_takes_its_rows_back_or_says_why_not() {
    let Some(server) = Postgres::shared_or_skip("a_table_altered_since") else { return };
    let swap = "ALTER TABLE notes DETACH PARTITION high; CREATE TABLE other (LIKE notes INCLUDING ALL);
                ALTER TABLE notes ATTACH PARTITION other FOR VALUES FROM (100) TO (200); DROP TABLE high";
    let cases = [
        ("TRUNCATE notes", 0, ""),
        (swap, 0, ""),
        ("ALTER TABLE notes ADD COLUMN extra int NOT NULL DEFAULT 7; DELETE FROM notes WHERE site_id = 'a'", 0, ""),
        ("ALTER TABLE notes ALTER COLUMN body TYPE varchar(500); DELETE FROM notes WHERE site_id = 'a'", 0, ""),
        ("TRUNCATE notes; ALTER TABLE notes ADD COLUMN must int NOT NULL", 10, "must have a value and has no default"),
        ("ALTER TABLE notes DROP COLUMN body", 10, "body"),
        ("ALTER TABLE notes ALTER COLUMN body TYPE int USING 1", 10, "body"),
        ("DROP TABLE notes", 10, "notes"),
        ("ALTER TABLE notes RENAME TO remarks", 10, "notes"),
    ];
    for (change, code, says) in cases {
        let shop = shop(server);
        let before = shop.text(DIGEST);
        let others = "SELECT md5(string_agg(t::text, ';' ORDER BY id)) FROM sites t WHERE id = 'b'";
        let bystander = shop.text(others);
        shop.sql(change);
        let said = shop.run(&RESTORE);
        assert_eq!(said.code, code, "{change}: {}\n{}", said.out, said.err);
        said.check(code, &[says]);
        if code == 0 {
            assert_eq!(shop.text(DIGEST), before, "{change}");
        }
        assert_eq!((shop.text(others), shop.staging()), (bystander, String::new()), "{change}");
    }
}

#[test]
fn a_table_altered_while_a_restore_is_at_work_ends_it_with_nothing_changed_and_the_next_one_finishes() {
    let Some(server) = Postgres::shared_or_skip("a_table_altered_while") else { return };
    let proxy = Proxy::start(server.port());
    let swap = "ALTER TABLE notes DETACH PARTITION high; CREATE TABLE other (LIKE high INCLUDING ALL);
                INSERT INTO other SELECT * FROM high; DROP TABLE high;
                ALTER TABLE notes ATTACH PARTITION other FOR VALUES FROM (100) TO (200)";
    let cases = [
        ("TRUNCATE notes", 0),
        ("ALTER TABLE notes ADD COLUMN extra int DEFAULT 7", 0),
        ("ALTER TABLE notes ALTER COLUMN body TYPE varchar(500)", 0),
        (swap, 0),
        ("DROP TABLE notes", 10),
    ];
    for (change, again) in cases {
        let shop = shop(server);
        let before = shop.text(DIGEST);
        shop.sql("UPDATE notes SET body = 'oops' WHERE site_id = 'a' AND id > 50");
        let said = held_before(&shop, &proxy, "pg_advisory_lock", || shop.sql(change));
        let is_gone = change.starts_with("DROP");
        if said.code == 0 {
            assert_eq!(shop.text(DIGEST), before, "{change}");
        } else {
            assert!(said.err.contains("hint: "), "{change}: {}", said.err);
            let count = "SELECT count(*) FROM notes WHERE site_id = 'a' AND body <> 'oops' AND id > 50";
            assert!(is_gone || shop.text(count) == "0", "{change}: {}", said.err);
        }
        assert!(!said.err.contains("stopped in the middle"), "{change}: {}", said.err);
        shop.run(&RESTORE).check(again, &[]);
        assert!(is_gone || shop.text(DIGEST) == before, "{change}");
        assert_eq!(shop.staging(), "", "{change}");
    }
}

/// Runs a restore that is held before a statement while something is done.
fn held_before(shop: &Shop, proxy: &Proxy, statement: &str, deed: impl FnOnce()) -> Said {
    proxy.set(Some(Trap::before(statement)));
    let mut child = shop.start(&proxy.url(&shop.url), &RESTORE);
    proxy.wait(|| child.try_wait().unwrap().is_some()).expect("it comes there");
    deed();
    proxy.release(Verdict::GoOn);
    Said::of(child.wait_with_output().unwrap())
}
