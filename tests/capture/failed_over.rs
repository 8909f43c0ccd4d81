//! The server is another one than before, though it looks the same: a standby that took over, and an older copy of it.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_format::SecretKey;
use lifeboat_model::EpochReason;
use lifeboat_repo::Repository;
use lifeboat_store::MemoryStore;
use lifeboat_testkit::postgres::{ClusterOptions, Postgres, query_text, run_sql};
use lifeboat_testkit::world::backup_all;

use crate::pruned::hold_a_row;
use crate::world::{World, app, engine_over};

const PATIENCE: Duration = Duration::from_secs(60);

fn wait_until(url: &str, question: &str) {
    let began = Instant::now();
    while query_text(url, question).ok().and_then(|rows| rows[0][0].clone()).as_deref() != Some("true") {
        assert!(began.elapsed() < PATIENCE, "not so: {question}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn pg_ctl(server: &Postgres, args: &[&str]) {
    let mut command = server.command("pg_ctl");
    command.args(args).args(["-s", "-w", "-t", "80", "-D"]).arg(server.dir().join("data"));
    command.arg("-l").arg(server.dir().join("server.log"));
    // The server would hold our pipes open, and we would wait for its end.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{args:?}: {status}");
}

/// After an epoch that a base joins: what is replayed is what the database holds.
async fn expect_same_as_database(world: &mut World, when: &str) {
    backup_all(&world.engine).await.unwrap();
    run_sql(&world.url, "UPDATE issues SET title = title || '!'").unwrap();
    let report = world.catch_up().await;
    assert_eq!((report.begun, report.unrouted), (None, 0), "{when}");
    let replayed = world.all_replayed().await;
    backup_all(&world.engine).await.unwrap();
    world.expect_as_snapshots(&replayed, when).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_standby_that_took_over_is_never_gone_on_with_by_position() {
    const TEST: &str = "a_standby_that_took_over_is_never_gone_on_with_by_position";
    let Some(mut world) = World::new(TEST).await else { return };
    world.catch_up().await;
    let options = ClusterOptions { standby_of: Some(world.server.url("postgres")), ..ClusterOptions::default() };
    let Some(standby) = Postgres::start_or_skip(TEST, &options) else { return };
    world.work(3, 20);
    assert_eq!(world.catch_up().await.begun, None);
    // A slot of the same name is there already: somebody meant well.
    let position = query_text(&world.url, "SELECT pg_current_wal_lsn()::text").unwrap()[0][0].clone().unwrap();
    let database = world.url.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
    let there = standby.url(&database);
    wait_until(&there, &format!("SELECT (pg_last_wal_replay_lsn() >= '{position}')::text"));
    run_sql(&there, "SELECT pg_promote()").unwrap();
    wait_until(&there, "SELECT (NOT pg_is_in_recovery())::text");
    run_sql(&there, "SELECT pg_create_logical_replication_slot('lifeboat_app', 'pgoutput')").unwrap();
    world.is_now_at(&there).await;
    let report = world.catch_up().await;
    let (why, note) = report.begun.unwrap();
    assert_eq!((why, report.gap_from.is_some()), (EpochReason::Failover, true), "{note}");
    assert!(note.contains("another timeline"), "{note}");
    expect_same_as_database(&mut world, "on the standby that took over").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_was_put_back_with_its_slot_is_found_out() {
    const TEST: &str = "a_server_that_was_put_back_with_its_slot_is_found_out";
    let Some(mut world) = World::new(TEST).await else { return };
    world.catch_up().await;
    let (data, copy) = (world.server.dir().join("data"), world.server.dir().join("copy"));
    pg_ctl(&world.server, &["stop", "-m", "fast"]);
    assert!(Command::new("cp").arg("-a").args([&data, &copy]).status().unwrap().success());
    pg_ctl(&world.server, &["start"]);
    world.work(4, 40);
    run_sql(&world.url, "UPDATE issues SET title = title || ', of a history that is gone'").unwrap();
    assert_eq!(world.catch_up().await.begun, None);
    pg_ctl(&world.server, &["stop", "-m", "fast"]);
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&copy, &data).unwrap();
    pg_ctl(&world.server, &["start"]);
    run_sql(&world.url, "INSERT INTO comments (issue_id, body, created) SELECT id, 'since', now() FROM issues LIMIT 5")
        .unwrap();
    let report = world.catch_up().await;
    let (why, note) = report.begun.unwrap();
    assert_eq!(why, EpochReason::Failover, "{note}");
    assert!(note.contains("put back to an earlier time"), "{note}");
    expect_same_as_database(&mut world, "put back").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_source_that_is_followed_is_not_backed_up_from_a_standby() {
    const TEST: &str = "a_source_that_is_followed_is_not_backed_up_from_a_standby";
    let Some(mut world) = World::new(TEST).await else { return };
    world.catch_up().await;
    backup_all(&world.engine).await.unwrap();
    let options = ClusterOptions { standby_of: Some(world.server.url("postgres")), ..ClusterOptions::default() };
    let Some(standby) = Postgres::start_or_skip(TEST, &options) else { return };
    let (holder, held) = hold_a_row(&world.url, 12);
    world.work(5, 20);
    world.catch_up().await;
    let position = query_text(&world.url, "SELECT pg_current_wal_lsn()::text").unwrap()[0][0].clone().unwrap();
    let database = world.url.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
    let there = standby.url(&database);
    wait_until(&there, &format!("SELECT (pg_last_wal_replay_lsn() >= '{position}')::text"));
    let engine = engine_over(&there, world.store.clone(), &world.master).await;
    let backed_up = backup_all(&engine).await.unwrap();
    let (why, hint) = backed_up.sources[0].failure.clone().unwrap();
    assert!(why.contains("is a standby") && hint.contains("from the primary"), "{why}; {hint}");
    // Who knew of no log then took it: it is a snapshot, and no base.
    let (bare, master) = (Arc::new(MemoryStore::new()), SecretKey::generate().unwrap());
    Repository::init(bare.clone(), &master).await.unwrap();
    let elsewhere = engine_over(&there, bare, &master).await;
    let backed_up = backup_all(&elsewhere).await.unwrap();
    let id = &backed_up.sites[1].site;
    let site = elsewhere.site(id).await.unwrap();
    let manifest = site.manifest(&site.state().latest().unwrap().manifest).await.unwrap();
    let position = &manifest.part(&app()).unwrap().1.position;
    assert!(position.0.ends_with("snapshot="), "{position:?}: it lists nothing of transaction {held}");
    tokio::task::spawn_blocking(move || holder.join().unwrap()).await.unwrap();
    world.work(6, 20);
    world.catch_up().await;
    let replayed = world.all_replayed().await;
    backup_all(&world.engine).await.unwrap();
    world.expect_as_snapshots(&replayed, "over a standby's base").await;
}
