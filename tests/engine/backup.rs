//! What a backup publishes, and what it refuses to.

use std::sync::Arc;

use lifeboat_engine::{BackupRequest, RestorePoint, SiteOutcome, backup};
use lifeboat_model::{HoldReason, Mark, PointInTime};
use lifeboat_store::{MemoryStore, Store};
use lifeboat_testkit::memory::MapMemory;
use lifeboat_testkit::world::{World, backup_all, restore_request, run_restore, site_id};

async fn world() -> (Arc<dyn Store>, World) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let world = World::new(store.clone()).await;
    (store, world)
}

/// So many that one may be gone, and its source is well.
fn make_six(world: &World) {
    (0..6).for_each(|number| world.make_site(&format!("s{number}"), number, 10));
}

fn marks(report: &lifeboat_engine::BackupReport) -> Vec<(String, String)> {
    let outcome = |outcome: &SiteOutcome| match outcome {
        SiteOutcome::Published(record) => format!("published {:?}", record.mark),
        SiteOutcome::Unchanged(record) => format!("unchanged {:?}", record.mark),
        SiteOutcome::Vanished { .. } => "vanished".into(),
        SiteOutcome::Failed(error) => format!("failed {error}"),
    };
    report.sites.iter().map(|site| (site.site.to_string(), outcome(&site.outcome))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_site_costs_nothing_but_the_run() {
    let (store, world) = world().await;
    world.make_site("acme", 1, 500);
    world.make_site("beta", 2, 500);
    let engine = world.engine(store.clone()).await.unwrap();
    let first = backup_all(&engine).await.unwrap();
    assert!(marks(&first).iter().all(|(_, what)| what == "published Good"), "{:?}", marks(&first));
    let before = store.list("", None, 10_000).await.unwrap().len();
    let second = backup_all(&engine).await.unwrap();
    assert!(marks(&second).iter().all(|(_, what)| what == "unchanged Good"), "{:?}", marks(&second));
    assert_eq!(store.list("", None, 10_000).await.unwrap().len(), before + 1, "one run and nothing else");
    std::fs::write(world.site_dir("acme").join("files/new"), b"new").unwrap();
    let third = backup_all(&engine).await.unwrap();
    assert_eq!(marks(&third)[0].1, "published Good");
    assert_eq!(marks(&third)[1].1, "unchanged Good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_shrank_is_suspect_and_its_points_are_held() {
    let (store, world) = world().await;
    world.make_site("acme", 1, 500);
    let engine = world.engine(store).await.unwrap();
    let good = backup_all(&engine).await.unwrap();
    std::fs::remove_file(world.site_dir("acme").join("files/deep/er/noise")).unwrap();
    let report = backup_all(&engine).await.unwrap();
    assert_eq!(marks(&report)[0].1, "published Suspect");
    let site = engine.site(&site_id("acme")).await.unwrap();
    let SiteOutcome::Published(first) = &good.sites[0].outcome else { panic!("published") };
    assert_eq!(site.state().latest().map(|record| record.id), Some(first.id), "a suspect is never latest");
    assert_eq!(site.state().holds.len(), 1);
    assert_eq!(site.state().holds[0].reason, HoldReason::Shrank);
    let accepted = backup(&engine, &BackupRequest { accept_loss: true, ..BackupRequest::default() }).await.unwrap();
    assert_eq!(marks(&accepted)[0].1, "unchanged Good");
    assert!(engine.site(&site_id("acme")).await.unwrap().state().holds.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_gone_is_never_published_as_one_of_nothing() {
    let (store, world) = world().await;
    make_six(&world);
    let engine = world.engine_with(store, Arc::new(MapMemory::default())).await.unwrap();
    backup_all(&engine).await.unwrap();
    std::fs::remove_dir_all(world.site_dir("s3")).unwrap();
    let asked = |accept_loss| BackupRequest { sites: vec![site_id("s3")], accept_loss, ..BackupRequest::default() };
    let is_accepted = |report: &lifeboat_engine::BackupReport| match report.sites[0].outcome {
        SiteOutcome::Vanished { is_accepted } => is_accepted,
        _ => panic!("{:?}", marks(report)),
    };
    for (accept_loss, holds) in [(false, 1), (true, 0), (false, 0)] {
        let report = backup(&engine, &asked(accept_loss)).await.unwrap();
        assert_eq!(is_accepted(&report), holds == 0);
        let site = engine.site(&site_id("s3")).await.unwrap();
        assert_eq!((site.state().snapshots.len(), site.state().holds.len()), (1, holds));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_accepts_the_loss_of_one_site_takes_no_source_for_whole() {
    let (store, world) = world().await;
    make_six(&world);
    let engine = world.engine_with(store, Arc::new(MapMemory::default())).await.unwrap();
    backup_all(&engine).await.unwrap();
    // The disk of the files is gone, and one site of both is.
    std::fs::remove_file(world.site_dir("s0").join("notes.db")).unwrap();
    for number in 0..6 {
        std::fs::rename(
            world.site_dir(&format!("s{number}")).join("files"),
            world.site_dir(&format!("s{number}")).join("away"),
        )
        .unwrap();
    }
    for name in ["s0", "s1"] {
        let request = BackupRequest { sites: vec![site_id(name)], accept_loss: true, ..BackupRequest::default() };
        let report = backup(&engine, &request).await.unwrap();
        assert!(report.sources.iter().any(|source| source.failure.is_some()), "{:?}", report.sources);
        let told = marks(&report).remove(0).1;
        match name {
            "s0" => assert!(told.contains("no source that answers lists the site"), "{told}"),
            _ => assert_eq!(told, "published Incomplete"),
        }
        let site = engine.site(&site_id(name)).await.unwrap();
        assert_eq!(site.state().latest().unwrap().entries, site.state().snapshots[0].entries, "{name}");
    }
    let report = backup_all(&engine).await.unwrap();
    assert!(report.sources.iter().any(|source| source.failure.is_some()), "the source has failed still");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_brought_back_and_goes_again_is_another_loss() {
    let (store, world) = world().await;
    make_six(&world);
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    let gone = || std::fs::remove_dir_all(world.site_dir("s3")).unwrap();
    let accept = BackupRequest { sites: vec![site_id("s3")], accept_loss: true, ..BackupRequest::default() };
    let is_told = async || {
        let report = backup_all(&engine).await.unwrap();
        let site = report.sites.iter().find(|site| site.site == site_id("s3")).unwrap();
        matches!(site.outcome, SiteOutcome::Vanished { is_accepted: false })
    };
    gone();
    backup(&engine, &accept).await.unwrap();
    assert!(!is_told().await);
    // By a restore, with no backup after it.
    let request = restore_request("s3", RestorePoint::At(PointInTime::Latest));
    run_restore(&engine, &request).await.unwrap();
    gone();
    assert!(is_told().await);
    // By the application, and only another site is backed up meanwhile. What was held is released by whoever accepts it.
    backup(&engine, &accept).await.unwrap();
    world.make_site("s3", 3, 10);
    let other = BackupRequest { sites: vec![site_id("s1")], ..BackupRequest::default() };
    backup(&engine, &other).await.unwrap();
    gone();
    assert!(is_told().await);
    // Back while it is held: a word on the live site is enough.
    world.make_site("s3", 3, 10);
    backup(&engine, &accept).await.unwrap();
    assert!(engine.site(&site_id("s3")).await.unwrap().state().holds.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_lost_a_fifth_of_its_sites_publishes_nothing() {
    let (store, world) = world().await;
    make_six(&world);
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    for number in 0..2 {
        std::fs::remove_dir_all(world.site_dir(&format!("s{number}"))).unwrap();
    }
    std::fs::write(world.site_dir("s5").join("files/new"), b"new").unwrap();
    let report = backup_all(&engine).await.unwrap();
    assert!(report.sources.iter().all(|source| source.failure.is_some()), "{:?}", report.sources);
    assert!(report.sites.is_empty(), "{:?}", marks(&report));
    let again = backup_all(&engine).await.unwrap();
    assert!(
        again.sources.iter().all(|source| source.failure.is_some()),
        "the failed run is not what the next compares with"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_site_is_reported_and_held() {
    let (store, world) = world().await;
    for number in 0..10 {
        world.make_site(&format!("s{number}"), number, 10);
    }
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    std::fs::remove_dir_all(world.site_dir("s3")).unwrap();
    let report = backup_all(&engine).await.unwrap();
    assert!(marks(&report).contains(&("s3".into(), "vanished".into())), "{:?}", marks(&report));
    let site = engine.site(&site_id("s3")).await.unwrap();
    assert_eq!(site.state().holds.iter().map(|hold| hold.reason).collect::<Vec<_>>(), [HoldReason::Vanished]);
    assert_eq!(site.state().latest().map(|record| record.mark), Some(Mark::Good));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_makes_the_snapshot_incomplete() {
    let (store, world) = world().await;
    world.make_site("acme", 1, 10);
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    std::fs::write(world.site_dir("acme").join("notes.db"), b"SQLite format 3\0 and then garbage").unwrap();
    let report = backup_all(&engine).await.unwrap();
    assert_eq!(marks(&report)[0].1, "published Incomplete");
    let SiteOutcome::Published(record) = &report.sites[0].outcome else { panic!("published") };
    assert!(record.mark_reason.as_ref().is_some_and(|reason| reason.contains("notes")), "{record:?}");
}
