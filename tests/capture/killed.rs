//! The program itself, as an operator runs it: killed under load, two at once, stopped, and looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lifeboat_engine::{BackupRequest, SiteBackup, backup};
use lifeboat_format::SecretKey;
use lifeboat_store::{DirectoryStore, Store};
use lifeboat_testkit::postgres::{grow_site, query_text, run_sql, site_name};

use crate::host::Host;
use crate::load::{Seed, transaction};
use crate::world::{SITES, World};

const PATIENCE: Duration = Duration::from_secs(60);

/// Sites that share their tables.
const SOURCE: &str =
    "tenancy = \"column\"\ntenant_column = \"site_id\"\nroot = \"sites\"\nshared = [\"countries\", \"plans\"]";

fn kills() -> u32 {
    if std::env::var_os("LIFEBOAT_TEST_FULL").is_some() { 50 } else { 6 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_capture_that_is_killed_under_load_again_and_again_loses_nothing() {
    const TEST: &str = "a_capture_that_is_killed_under_load_again_and_again_loses_nothing";
    let Some(mut world) = World::new(TEST).await else { return };
    let host = Host::new(&world.url, SOURCE);
    let (done, code) = host.told(&["capture", "--until-caught-up"]);
    assert_eq!((code, done["bases"].as_u64()), (0, Some(u64::from(SITES))), "{done}");
    let (stop, url) = (Arc::new(AtomicBool::new(false)), world.url.clone());
    let stopped = stop.clone();
    let load = std::thread::spawn(move || {
        let (mut seed, mut number) = (Seed(41), 0);
        while !stopped.load(Ordering::Relaxed) {
            number += 1;
            let _ = run_sql(&url, &transaction(&mut seed, SITES.into(), number)); // the server may be down
            if number % 60 == 0 {
                let _ = grow_site(&url, 1 + seed.below(SITES.into()) as u32, 60); // what is deleted comes again
            }
        }
        number
    });
    let mut random = Seed(5);
    for kill in 0..kills() {
        let mut capture = host.start();
        host.wait_for("\"event\":\"following\"");
        tokio::time::sleep(Duration::from_millis(100 + random.below(2_500))).await;
        capture.kill();
        if kill == kills() / 2 {
            world.server.restart("fast").unwrap();
        }
    }
    stop.store(true, Ordering::Relaxed);
    assert!(load.join().unwrap() > 100);
    let (done, code) = host.told(&["capture", "--until-caught-up"]);
    assert_eq!(code, 0, "{done}");
    let source = &done["sources"][0];
    assert_eq!((source["epoch"].as_u64(), source["unrouted"].as_u64()), (Some(1), Some(0)), "{done}");
    let key = std::fs::read_to_string(host.path("lifeboat.key")).unwrap();
    let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(&host.path("lifeboat-repository")).unwrap());
    world.look_at(store, &SecretKey::parse_base64(&key).unwrap()).await;
    let replayed = world.all_replayed().await;
    // However much was deleted: the snapshot is the oracle.
    let request = BackupRequest { accept_loss: true, ..BackupRequest::default() };
    assert!(backup(&world.engine, &request).await.unwrap().sites.iter().all(SiteBackup::is_good));
    world.expect_as_snapshots(&replayed, "after the last kill").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_goes_on_until_it_is_told_to_stop_and_a_second_one_is_fenced() {
    const TEST: &str = "one_goes_on_until_it_is_told_to_stop_and_a_second_one_is_fenced";
    let Some(world) = World::new(TEST).await else { return };
    let host = Host::new(&world.url, SOURCE);
    let (done, code) = host.told(&["status"]);
    assert_eq!((code, done["captured"]["troubled"].as_u64()), (4, Some(1)), "never captured: {done}");
    let capture = host.start();
    host.wait_for("\"taken\":6");
    host.wait_for("\"event\":\"segment\"");
    let (refused, code) = host.told(&["capture", "--until-caught-up"]);
    assert_eq!(code, 12, "{refused}");
    assert!(host.is_whole());
    // A site that is new has its base without a word from anybody; here at the latest when it is started anew.
    run_sql(&world.url, "INSERT INTO sites SELECT 'new', name, plan_id, country, created FROM sites LIMIT 1").unwrap();
    assert_eq!(capture.stop(), 0);
    let capture = host.start();
    host.wait_for("\"taken\":1");
    assert_eq!(capture.stop(), 0);
    assert!(host.is_whole());
    let (points, _) = host.told(&["points", &site_name(1)]);
    assert!(points["captured_till"].is_string(), "{points}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slot_that_was_dropped_is_a_gap_that_everybody_is_told_of() {
    const TEST: &str = "a_slot_that_was_dropped_is_a_gap_that_everybody_is_told_of";
    let Some(world) = World::new(TEST).await else { return };
    let host = Host::new(&world.url, SOURCE);
    let (done, code) = host.told(&["capture", "--until-caught-up"]);
    assert_eq!(code, 0, "{done}");
    let drop_it = "SELECT pg_drop_replication_slot('lifeboat_app')";
    let began = Instant::now();
    while query_text(&world.url, drop_it).is_err() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    let (done, code) = host.told(&["status"]);
    assert_eq!((code, done["captured"]["troubled"].as_u64()), (4, Some(1)), "{done}");
    let metrics = host.path("lifeboat.prom");
    let said = host.run(&["status", "--json", "--metrics", metrics.to_str().unwrap()]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("\"id\":\"slot_lost/source:app\""), "{said}");
    let metrics = std::fs::read_to_string(metrics).unwrap();
    assert!(metrics.contains("lifeboat_source_slot_lost{source=\"app\"} 1\n"), "{metrics}");
    let output = host.run(&["capture", "--until-caught-up"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("a gap: what changed between"), "{said}");
    let points = String::from_utf8(host.run(&["points", &site_name(2)]).stdout).unwrap();
    assert!(points.contains("app: a gap from") && points.contains("slot lost"), "{points}");
    assert_eq!(points.matches("app: every moment from").count(), 2, "{points}");
    assert!(host.is_whole());
}
