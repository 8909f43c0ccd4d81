//! A customer who came and went between two backups: only the change log has seen her.

use lifeboat_testkit::postgres::{ClusterOptions, Postgres, query_text, run_sql};

use crate::attachments::capture;
use crate::place::Place;

/// A capture has looked, and what it found is durable.
const SOON: std::time::Duration = std::time::Duration::from_secs(4);

const TABLES: &str = "CREATE TABLE sites (id text PRIMARY KEY);
    INSERT INTO sites SELECT 'site-' || n FROM generate_series(1, 9) n;
    CREATE TABLE note (id int PRIMARY KEY, site_id text NOT NULL REFERENCES sites, body text);
    INSERT INTO note SELECT n, 'site-' || n % 9 + 1, 'note ' || n FROM generate_series(1, 90) n";
const COMES: &str = "INSERT INTO sites VALUES ('hal');
    INSERT INTO note SELECT 100 + n, 'hal', 'daisy ' || n FROM generate_series(1, 40) n";
const GOES: &str = "DELETE FROM note WHERE site_id = 'hal'; DELETE FROM sites WHERE id = 'hal'";

#[test]
fn one_who_came_and_went_between_two_backups_comes_back_or_is_meant_to_be_gone() {
    const TEST: &str = "one_who_came_and_went_between_two_backups_comes_back_or_is_meant_to_be_gone";
    let options = ClusterOptions { settings: vec!["wal_level = logical".into()], ..ClusterOptions::default() };
    let Some(cluster) = Postgres::start_or_skip(TEST, &options) else { return };
    let url = cluster.fresh_database().expect("a database");
    run_sql(&url, TABLES).expect("tables");
    let place = Place::new(None, vec![("APP_URL".into(), url.clone())]);
    let config = place.path("lifeboat.toml");
    let text = std::fs::read_to_string(&config).expect("the configuration");
    let (repository, _) = text.split_once("\n[sources.notes]").expect("sources");
    (1..=9).for_each(|number| place.make_site(&format!("site-{number}")));
    let notes =
        format!("[sources.notes]\nkind = \"sqlite\"\npath = \"{}/{{site}}/notes.db\"\n", place.path("srv").display());
    let source = "[sources.app]\nkind = \"postgres\"\nurl = \"env:APP_URL\"\ntenancy = \"column\"\n\
        tenant_column = \"site_id\"\nroot = \"sites\"\n[capture]\nflush = \"1s\"\n[policies.all]\nsites = [\"*\"]\ncapture = true\n";
    std::fs::write(&config, format!("{repository}\n{source}{notes}")).expect("the configuration");
    let captured = || place.ok(&["capture", "--until-caught-up"]);
    let running = capture(&place);
    place.ok(&["backup", "--all"]);
    place.make_site("hal");
    run_sql(&url, COMES).expect("a customer");
    std::thread::sleep(SOON);
    let here = query_text(&url, "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    let here = here.expect("a moment")[0][0].clone().expect("a moment");
    std::thread::sleep(SOON);
    run_sql(&url, GOES).expect("nobody");
    std::fs::remove_dir_all(place.path("srv/hal")).expect("a directory");
    std::thread::sleep(SOON);
    drop(running);

    // Whoever looks is told at once, and led to a moment that is hers.
    let status = place.run(&["status"]);
    assert!(status.code == 4 && status.out.contains("gone from its sources"), "{status:?}");
    assert!(status.out.contains("`lifeboat backup hal --accept-loss`"), "{status:?}");
    let latest = place.run(&["restore", "hal", "--yes"]);
    assert!(latest.code == 10 && latest.err.contains("`lifeboat points hal` lists the moments"), "{latest:?}");
    place.ok(&["points", "hal"]);
    let night = place.run(&["backup", "--all"]);
    assert!(night.code == 3 && night.err.contains("no source lists the site any more"), "{night:?}");
    place.ok(&["restore", "hal", "--at", &here, "--yes"]);
    let rows = query_text(&url, "SELECT count(*)::text FROM note WHERE site_id = 'hal'").expect("rows");
    assert_eq!(rows[0][0].as_deref(), Some("40"));
    assert_eq!(notes_of(&place, "hal"), 300, "of both sources, as they were");
    captured();

    // Gone again, and on purpose: one word settles it, for her alone.
    run_sql(&url, GOES).expect("nobody");
    run_sql(&url, "DELETE FROM note WHERE site_id = 'site-1'; DELETE FROM sites WHERE id = 'site-1'").expect("nobody");
    for gone in ["hal", "site-1"] {
        std::fs::remove_dir_all(place.path(&format!("srv/{gone}"))).expect("a directory");
    }
    captured();
    let accepted = place.ok(&["backup", "hal", "--accept-loss"]);
    assert!(accepted.out.contains("1 vanished (1 accepted)"), "{accepted:?}");
    let status = place.run(&["status", "--json"]);
    let told = |site: &str, kind: &str| {
        let is_it = |line: &&str| line.contains(&format!("\"{site}\"")) && line.contains(kind);
        status.out.lines().filter(|line| line.contains("\"event\":\"alarm\"")).any(|line| is_it(&line))
    };
    assert!(!told("hal", "site_vanished") && told("site-1", "site_vanished"), "{status:?}");
    place.run(&["backup", "--all", "--accept-loss"]);
    place.ok(&["backup", "--all"]);
    place.ok(&["status"]);
}

#[test]
fn so_it_is_with_a_customer_who_has_a_database_file() {
    let place = Place::new(None, Vec::new());
    let config = place.path("lifeboat.toml");
    let text = std::fs::read_to_string(&config).expect("the configuration");
    std::fs::write(&config, format!("{text}\n[policies.all]\nsites = [\"*\"]\ncapture = true\n")).expect("text");
    (1..=9).for_each(|number| place.make_site(&format!("site-{number}")));
    let now = || lifeboat_model::Timestamp::now().to_string();
    let captured = || place.ok(&["capture", "--until-caught-up"]);
    captured();
    place.ok(&["backup", "--all"]);
    place.ok(&["status"]);
    let before = now();
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    place.make_site("hal");
    // More than a segment: it is sealed before the file is at its end.
    let database = rusqlite::Connection::open(place.path("srv/hal/notes.db")).expect("a database");
    database.execute("INSERT INTO note VALUES (1000, hex(randomblob(10000000)))", []).expect("a row");
    drop(database);
    captured();
    let here = now();
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let database = rusqlite::Connection::open(place.path("srv/hal/notes.db")).expect("a database");
    database.execute("DELETE FROM note WHERE id > 10", []).expect("rows");
    drop(database);
    captured();
    std::fs::remove_dir_all(place.path("srv/hal")).expect("a directory");
    captured();

    let status = place.run(&["status"]);
    assert!(status.code == 4 && status.out.contains("gone from its sources"), "{status:?}");
    let points = place.ok(&["points", "hal"]);
    let from = points.out.split_once("notes: every moment from ").expect("a window").1;
    assert!(from.split(' ').next().expect("a time") > before.as_str(), "{points:?}, {before}");
    let night = place.run(&["backup", "--all"]);
    assert!(night.code == 3 && night.err.contains("hal: no source lists the site any more"), "{night:?}");
    place.ok(&["restore", "hal", "--at", &here, "--yes"]);
    assert_eq!(notes_of(&place, "hal"), 301);
    captured();
    place.ok(&["backup", "hal", "--accept-loss"]);
    place.ok(&["status"]);
}

fn notes_of(place: &Place, site: &str) -> i64 {
    let database = rusqlite::Connection::open(place.path(&format!("srv/{site}/notes.db"))).expect("a database");
    database.query_row("SELECT count(*) FROM note", [], |row| row.get(0)).expect("rows")
}
