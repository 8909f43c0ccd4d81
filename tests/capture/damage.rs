//! A script deletes a third of the sites while others work: which, and since when, is answered first.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::{DamageRequest, find_damage};
use lifeboat_format::SecretKey;
use lifeboat_model::{Lsn, Timestamp, TransactionId};
use lifeboat_store::OpenOptions;
use lifeboat_testkit::postgres::{ClusterOptions, Postgres, pooled_fleet, query_text, run_sql, site_name};
use lifeboat_testkit::world::backup_all;
use serde_json::Value;

use crate::index::Index;
use crate::load::{Seed, transaction};
use crate::world::{capture_when_free, engine_over, request};

const SITES: u32 = 30;
const HIT: u32 = 10;

/// In one transaction a site, as somebody's cleanup does, with a word about what it is.
fn run_script(url: &str) {
    for number in 1..=HIT {
        let sql = format!(
            "BEGIN; SELECT pg_logical_emit_message(true, 'deploy', 'cleanup-old-sites.sql');
             DELETE FROM sites WHERE id = '{}'; COMMIT",
            site_name(number * 3)
        );
        // Others hold locks in another order.
        let done = (0..50).any(|_| run_sql(url, &sql).is_ok());
        assert!(done, "{sql}");
    }
}

fn work(url: &str, sites: u32, seed: u64) {
    std::thread::scope(|scope| {
        for worker in 0..2 {
            scope.spawn(move || {
                let mut seed = Seed(seed + worker);
                for number in 0..60 {
                    // What meets the script loses, and is tried no more.
                    let _ = run_sql(url, &transaction(&mut seed, sites.into(), number * 2 + worker));
                }
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_script_that_deletes_a_third_of_the_sites_is_found_first_with_each_site_and_the_moment_before() {
    const TEST: &str = "a_script_that_deletes_a_third_of_the_sites_is_found_first_with_each_site_and_the_moment_before";
    let Some(server) = Postgres::start_or_skip(TEST, &ClusterOptions::default()) else { return };
    let url = server.fresh_database().unwrap();
    pooled_fleet(&url, SITES, 600).unwrap();
    let place = tempfile::tempdir().unwrap();
    let lifeboat = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        let ran = command.args(args).current_dir(place.path()).env_remove("LIFEBOAT_CONFIG").output().unwrap();
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    };
    lifeboat(&["init"]);
    let said = lifeboat(&["find-damage"]);
    assert!(said.starts_with("Nobody has looked since"), "{said}");

    let key = std::fs::read_to_string(place.path().join("lifeboat.key")).unwrap();
    let master = SecretKey::parse_base64(key.trim()).unwrap();
    let address = format!("file://{}/lifeboat-repository", place.path().display());
    let store = lifeboat_store::open(&address, &OpenOptions::default()).await.unwrap().store;
    let engine = engine_over(&url, Arc::clone(&store), &master).await;
    let mut index = Index::default();
    let request = request(Duration::from_millis(300), 20_000);
    capture_when_free(&engine, &request, &mut index).await.unwrap();
    backup_all(&engine).await.unwrap(); // what changes go on top of
    let before = newest_transaction(&url);
    std::thread::scope(|scope| {
        scope.spawn(|| work(&url, SITES, 7));
        scope.spawn(|| run_script(&url));
    });
    work(&url, SITES, 70);
    capture_when_free(&engine, &request, &mut index).await.unwrap();

    let lines: Vec<Value> =
        lifeboat(&["find-damage", "--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = &lines[0];
    assert_eq!((first["event"].as_str(), first["incident"].as_u64()), (Some("incident"), Some(1)), "{first}");
    assert_eq!((first["sites"].as_u64(), first["transactions"].as_u64()), (Some(10), Some(10)), "{first}");
    assert_eq!(first["notes"][0]["text"], "cleanup-old-sites.sql", "{first}");
    let mut sites: Vec<&str> = lines[1..=HIT as usize].iter().filter_map(|line| line["site"].as_str()).collect();
    sites.sort_unstable();
    assert_eq!(sites, (1..=HIT).map(|number| site_name(number * 3)).collect::<Vec<_>>());
    for line in &lines[1..=HIT as usize] {
        let id = line["transaction"].as_u64().unwrap();
        assert_eq!(line["at"], format!("before-xid:{id}"));
        assert!(id > before && line["deleted"].as_u64() > Some(100), "{line}");
        assert!(Timestamp::parse(line["last_good"].as_str().unwrap()).is_ok());
    }
    let text = lifeboat(&["find-damage", "--since", "1h", "--source", "app"]);
    assert!(text.starts_with("1. app: 10 sites lost "), "{text}");
    assert!(text.contains("deploy: cleanup-old-sites.sql"), "{text}");

    // What all of this is read from is whole, and a check looks at it too.
    let checked = lifeboat(&["check", "--read-data"]);
    assert!(checked.contains("change log of app: 1 epochs, ") && checked.ends_with("all whole.\n"), "{checked}");

    // Footers are kept on this host, and nothing is lost with them.
    let footers = || {
        let catalog = rusqlite::Connection::open(place.path().join("lifeboat.catalog/catalog.sqlite")).unwrap();
        catalog.query_row("SELECT count(*) FROM footer", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let kept = footers();
    assert!(kept > 2, "{kept}");
    lifeboat(&["catalog", "rebuild"]);
    assert_eq!(footers(), 0);
    assert_eq!(lifeboat(&["find-damage", "--since", "1h", "--source", "app"]), text);
    assert_eq!(footers(), kept);

    // Each moment is one at which the site's rows are all there, and after which they are not.
    let all = DamageRequest { since: Timestamp(0), source: None };
    let report = find_damage(&engine, &all).await.unwrap();
    assert_eq!(report.incidents[0].unrouted, 0, "whose each row was is known to the last");
    let ids: Vec<TransactionId> = report.incidents[0].sites.iter().map(|site| site.last_good.before.id).collect();
    assert!(ids.iter().all(|id| id.0 > before) && report.incidents[0].first.commit > Lsn(0));

    // What takes something from every site at once is worse than any number of rows.
    run_sql(&url, "BEGIN; TRUNCATE worklog; ALTER TABLE comments DROP COLUMN body; DROP TABLE attachments; COMMIT")
        .unwrap();
    let report = capture_when_free(&engine, &request, &mut index).await.unwrap();
    assert_eq!(report.begun, None, "a dropped table breaks no epoch");
    let report = find_damage(&engine, &all).await.unwrap();
    let worst = &report.incidents[0];
    assert_eq!((&worst.emptied[..], worst.sites.len()), (&["public.worklog".to_owned()][..], 0), "{worst:?}");
    assert_eq!(worst.dropped, ["public.attachments", "public.comments.body"], "{worst:?}");
}

fn newest_transaction(url: &str) -> u64 {
    let answer = query_text(url, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text").unwrap();
    answer[0][0].as_deref().unwrap().parse::<u64>().unwrap() - 1
}
