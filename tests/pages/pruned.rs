//! Files whose first versions are kept no more: those that rest since, those that are gone, and those that go on.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::{
    BackupRequest, Certainty, LogNeeds, Moment, Policy, SiteBackup, SiteOutcome, backup, prune_log, windows,
};
use lifeboat_model::{EpochId, Fault, Faulty, RunNumber, SegmentNumber, Timestamp};
use lifeboat_repo::{ChangeLog, PruneRules, TrustedNow};
use lifeboat_testkit::memory::MapMemory;
use lifeboat_testkit::world::{backup_all, site_id};

use crate::history;
use crate::world::{World, notes};

const DAY: i64 = 86_400_000_000;

impl World {
    /// Condemns what is before the snapshots since a time, and deletes it.
    async fn prune(&self, since: Timestamp) {
        let engine = self.engine().await;
        let rules = PruneRules { grace: Duration::from_secs(86_400), unnamed: Duration::from_secs(86_400) };
        let needs = LogNeeds { since, doubt: Duration::ZERO, bases: vec![], undelete: Duration::ZERO };
        for (day, run) in [(0, 1), (2, 2)] {
            let now = Timestamp(Timestamp::now().0 + day * DAY);
            let clock = TrustedNow { now, later: now, run: RunNumber(run) };
            prune_log(&engine, &notes(), &needs, (&rules, &clock), true).await.unwrap();
        }
    }

    async fn first_kept(&self) -> SegmentNumber {
        let log = ChangeLog::open(&self.engine().await.repository, &notes()).await.unwrap();
        log.kept(EpochId(1)).await.unwrap().first()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_that_rests_is_its_snapshot_and_what_goes_on_is_every_version_since() {
    let world = World::new().await;
    let busy = world.begin("busy", "WAL", (1, 5));
    let resting = world.begin("resting", "WAL", (2, 5));
    // So many that one which goes is no failed source.
    for site in ["other-1", "other-2", "other-3", "other-4"] {
        drop(world.begin(site, "DELETE", (4, 2)));
    }
    drop(world.begin("gone", "DELETE", (3, 5)));
    let files = world.files.site_dir("gone").join("files");
    std::fs::create_dir_all(&files).unwrap();
    std::fs::write(files.join("readme"), "it stays").unwrap();
    world.catch_up().await;
    backup_all(&world.engine().await).await.unwrap();
    let long_ago = world.copy_of_index();
    std::fs::remove_file(world.path("gone")).unwrap();
    for number in 6..=12 {
        history::step(&busy, 1, number);
        world.catch_up().await;
        world.catch_up().await;
    }
    let early = Timestamp::now();
    history::step(&busy, 1, 13);
    world.catch_up().await;
    tokio::time::sleep(Duration::from_millis(50)).await;

    let since = Timestamp::now();
    let anew = BackupRequest { anew: true, ..BackupRequest::default() };
    let report = backup(&world.engine().await, &anew).await.unwrap();
    let is_published = |site: &SiteBackup| matches!(site.outcome, SiteOutcome::Published(_));
    assert!(report.sites.len() == 7 && report.sites.iter().all(is_published), "{report:?}");
    world.catch_up().await;
    history::step(&busy, 1, 14);
    world.catch_up().await;
    let moment = Timestamp::now();
    let then = lifeboat_source::sqlite::digest(&world.path("busy")).unwrap();
    history::step(&busy, 1, 15);
    world.catch_up().await;
    world.prune(since).await;
    let first = world.first_kept().await;
    assert!(first > SegmentNumber(5), "{first}");

    for site in ["busy", "resting"] {
        world.expect_as_live(site, "behind a pruned log").await;
        let refused = world.replay(site, Moment::Time(early)).await.map(drop).unwrap_err();
        assert_eq!(refused.fault(), Fault::Operator, "{refused}");
    }
    let (replayed, replica) = world.replay("busy", Moment::Time(moment)).await.unwrap();
    assert!(replayed.version.is_some() && lifeboat_source::sqlite::digest(&replica.path).unwrap() == then);
    let (replayed, _) = world.replay("gone", Moment::Time(moment)).await.unwrap();
    assert_eq!((replayed.state, replayed.base), (None, None));

    // What was resting is written again, on top of what this host knows of it.
    history::step(&resting, 2, 6);
    assert_eq!(world.catch_up().await.begun, None);
    world.expect_as_live("resting", "written again").await;
    assert_eq!(world.versions(&site_id("resting")).await.len(), 1);

    // A host that has slept for longer than segments are kept begins anew.
    world.sleep_since(&long_ago);
    assert!(world.catch_up().await.begun.is_some());
    backup_all(&world.engine().await).await.unwrap();
    world.expect_as_live("busy", "in a new epoch").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_site_that_rests_a_base_is_taken_anew_before_it_is_old_where_it_is_captured() {
    let world = World::new().await;
    drop(world.begin("resting", "DELETE", (2, 5)));
    let memory = Arc::new(MapMemory::default());
    let published = async |age_max: Duration| {
        let mut engine = world.engine().await;
        engine.memory = memory.clone();
        engine.policy = Box::new(move |_| Policy { base_age_max: age_max, ..Policy::default() });
        let report = backup_all(&engine).await.unwrap();
        matches!(report.sites[0].outcome, SiteOutcome::Published(_))
    };
    let (none, week) = (Duration::ZERO, Duration::from_secs(7 * 86_400));
    assert!(published(none).await, "the first one");
    assert!(!published(none).await, "nothing is captured");
    world.catch_up().await;
    assert!(!published(week).await);
    assert!(published(none).await && published(none).await);
    assert!(!published(week).await);
    world.expect_as_live("resting", "on a base that was taken anew").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_that_the_log_has_not_come_to_hides_none_of_the_moments_before_it() {
    let world = World::new().await;
    let busy = world.begin("busy", "WAL", (1, 5));
    backup_all(&world.engine().await).await.unwrap();
    world.catch_up().await;
    history::step(&busy, 1, 6);
    world.catch_up().await;
    let told = async || {
        let (engine, id) = (world.engine().await, site_id("busy"));
        let site = engine.site(&id).await.unwrap();
        let parts = windows(&engine, &site, &[notes()], Certainty::Ends).await.unwrap();
        parts[0].windows.first().map(|window| (window.from, window.till))
    };
    let before = told().await;
    assert!(before.is_some());
    backup_all(&world.engine().await).await.unwrap();
    assert_eq!(told().await, before);
}
