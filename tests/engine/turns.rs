//! A fleet that is backed up in turns: what one run says of those whose turn it is not.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lifeboat_engine::{BackupReport, BackupRequest, Engine, SiteOutcome, backup};
use lifeboat_model::{RunOutcome, SiteId};
use lifeboat_store::{MemoryStore, Store};
use lifeboat_testkit::world::{World, backup_all, site_id};

async fn turn(engine: &Engine, sites: &[&str]) -> BackupReport {
    let sites: Vec<SiteId> = sites.iter().map(|site| site_id(site)).collect();
    backup(engine, &BackupRequest { sites, is_a_turn: true, ..BackupRequest::default() }).await.unwrap()
}

fn told(report: &BackupReport) -> Vec<String> {
    let told = |outcome: &SiteOutcome| match outcome {
        SiteOutcome::Published(_) => "published",
        SiteOutcome::Unchanged(_) => "unchanged",
        SiteOutcome::Vanished { .. } => "vanished",
        SiteOutcome::Failed(_) => "failed",
    };
    report.sites.iter().map(|site| format!("{} {}", site.site, told(&site.outcome))).collect()
}

/// What the newest run says of each site.
async fn newest(engine: &Engine) -> Vec<(String, RunOutcome)> {
    let run = engine.repository.newest_runs(1).await.unwrap().remove(0);
    run.sites.into_iter().map(|site| (site.site.to_string(), site.outcome)).collect()
}

async fn world(sites: u64) -> (World, Engine) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let world = World::new(store.clone()).await;
    (0..sites).for_each(|number| world.make_site(&format!("s{number}"), number, 10));
    let engine = world.engine(store).await.unwrap();
    (world, engine)
}

#[tokio::test(flavor = "multi_thread")]
async fn in_each_turn_whoever_is_gone_is_found_once_and_held() {
    let (world, engine) = world(8).await;
    assert_eq!(told(&turn(&engine, &["s0", "s1"]).await), ["s0 published", "s1 published"]);
    assert_eq!(newest(&engine).await.len(), 2);
    backup_all(&engine).await.unwrap();
    std::fs::remove_dir_all(world.site_dir("s7")).unwrap();
    // Not its turn: found all the same, and its points are held.
    assert_eq!(told(&turn(&engine, &["s0"]).await), ["s0 unchanged", "s7 vanished"]);
    assert_eq!(engine.site(&site_id("s7")).await.unwrap().state().holds.len(), 1);
    let seen = newest(&engine).await;
    assert!(seen.len() == 8 && seen[7] == ("s7".into(), RunOutcome::Vanished), "{seen:?}");
    // Told once; then when its turn comes. Whom nobody ever knew is no mistake.
    assert_eq!(told(&turn(&engine, &["s1"]).await), ["s1 unchanged"]);
    assert_eq!(told(&turn(&engine, &["s7"]).await), ["s7 vanished"]);
    assert_eq!(newest(&engine).await.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_source_down_nobody_is_said_to_be_gone_and_the_run_repeats_what_was_known() {
    let (world, engine) = world(4).await;
    backup_all(&engine).await.unwrap();
    let (there, aside) = (world.site_dir("s0").parent().unwrap().to_owned(), world.site_dir("s0").join("../../aside"));
    std::fs::rename(&there, &aside).unwrap();
    let report = turn(&engine, &["s0", "s1"]).await;
    assert!(report.sites.is_empty() && report.sources.iter().all(|source| source.failure.is_some()), "{report:?}");
    assert!(newest(&engine).await.iter().all(|(_, outcome)| *outcome == RunOutcome::Published));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_stopped_says_nothing_of_sites_that_it_did_not_reach() {
    let (_world, engine) = world(6).await;
    backup_all(&engine).await.unwrap();
    engine.cancel.store(true, Ordering::Relaxed);
    let report = backup_all(&engine).await.unwrap();
    assert!(told(&report).iter().all(|told| told.ends_with("failed")), "{report:?}");
    let seen = newest(&engine).await;
    assert!(seen.len() == 6 && seen.iter().all(|(_, outcome)| *outcome == RunOutcome::Published), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_in_turns_lose_nothing_that_the_other_one_saw() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let world = World::new(store.clone()).await;
    (0..3).for_each(|number| world.make_site(&format!("s{number}"), number, 10));
    let (one, other) = (world.engine(store.clone()).await.unwrap(), world.engine(store).await.unwrap());
    turn(&one, &["s0"]).await;
    turn(&other, &["s1"]).await;
    // The first one remembers its own run as the newest: the number that it wants is taken.
    assert_eq!(turn(&one, &["s2"]).await.run.0, 3);
    let run = one.repository.newest_runs(1).await.unwrap().remove(0);
    let seen: Vec<String> = run.sites.iter().map(|site| site.site.to_string()).collect();
    assert_eq!(seen, ["s0", "s1", "s2"]);
}
