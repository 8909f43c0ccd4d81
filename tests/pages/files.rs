//! Files that come, go, are put in place of others, or are no databases at all.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use lifeboat_engine::Moment;
use lifeboat_model::Timestamp;
use lifeboat_testkit::world::{backup_all, noise};

use crate::history;
use crate::world::{World, request};

async fn pause() -> Timestamp {
    tokio::time::sleep(Duration::from_millis(20)).await;
    let now = Timestamp::now();
    tokio::time::sleep(Duration::from_millis(20)).await;
    now
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_that_comes_needs_no_snapshot_and_one_that_goes_is_gone_from_then_on() {
    let world = World::new().await;
    world.catch_up().await;
    drop(world.begin("a", "WAL", (1, 6)));
    world.catch_up().await;
    world.expect_as_live("a", "born").await;
    let born = pause().await;
    let connection = history::open(&world.path("a"), "DELETE");
    history::step(&connection, 1, 7);
    world.catch_up().await;
    drop(connection);
    let changed = pause().await;
    std::fs::remove_file(world.path("a")).unwrap();
    world.catch_up().await;
    let gone = pause().await;
    drop(world.begin("a", "DELETE", (2, 3)));
    world.catch_up().await;
    world.expect_as_live("a", "born again").await;
    for (moment, want) in [(born, Some(6)), (changed, Some(7)), (gone, None)] {
        let (replayed, replica) = world.replay("a", Moment::Time(moment)).await.unwrap();
        assert_eq!(replayed.base, None);
        assert_eq!(replayed.state.map(|_| history::content(&replica.open()).0), want, "{replayed:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_put_in_place_of_another_and_one_of_another_page_size_are_the_next_version() {
    let world = World::new().await;
    let mut connection = world.begin("a", "WAL", (1, 6));
    world.catch_up().await;
    backup_all(&world.engine().await).await.unwrap();
    connection.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA page_size = 1024; VACUUM").unwrap();
    history::step(&connection, 1, 7);
    world.catch_up().await;
    world.expect_as_live("a", "another page size").await;
    drop(connection);
    let inode = std::fs::metadata(world.path("a")).unwrap().ino();
    let other = world.files.site_dir("a").join("other.db");
    connection = history::open(&other, "WAL");
    history::begin(&connection);
    (1..=9).for_each(|number| history::step(&connection, 5, number));
    drop(connection);
    std::fs::rename(&other, world.path("a")).unwrap();
    assert_ne!(std::fs::metadata(world.path("a")).unwrap().ino(), inode);
    world.catch_up().await;
    world.expect_as_live("a", "replaced").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_no_database_is_said_and_stops_no_other() {
    let world = World::new().await;
    let connection = world.begin("good", "WAL", (1, 6));
    world.catch_up().await;
    backup_all(&world.engine().await).await.unwrap();
    std::fs::create_dir_all(world.files.site_dir("bad")).unwrap();
    std::fs::write(world.path("bad"), noise(3, 20_000)).unwrap();
    std::fs::create_dir_all(world.path("folder")).unwrap();
    history::step(&connection, 1, 7);
    let report = world.catch_up().await;
    let troubled: Vec<&str> = report.troubles.iter().map(|(site, _)| site.as_str()).collect();
    assert_eq!(troubled, ["bad"], "{:?}", report.troubles);
    world.expect_as_live("good", "beside a bad one").await;
    std::fs::remove_file(world.path("bad")).unwrap();
    drop(world.begin("bad", "DELETE", (4, 3)));
    assert!(world.catch_up().await.troubles.is_empty());
    world.expect_as_live("bad", "mended").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_writer_leaves_nothing_of_its_transaction_in_the_log() {
    for mode in ["DELETE", "WAL"] {
        let world = World::new().await;
        let connection = world.begin("model", mode, (1, 6));
        world.catch_up().await;
        connection.execute_batch("PRAGMA cache_size = 5; BEGIN IMMEDIATE; DELETE FROM note WHERE id < 4").unwrap();
        for _ in 0..50 {
            connection.execute("INSERT INTO note (body) VALUES (randomblob(3000))", []).unwrap();
        }
        // What lies on the disk now is what a killed process leaves.
        std::fs::create_dir_all(world.files.site_dir("killed")).unwrap();
        for suffix in ["", "-wal", "-journal"] {
            let name = format!("notes.db{suffix}");
            let from = world.files.site_dir("model").join(&name);
            if from.exists() {
                std::fs::copy(from, world.files.site_dir("killed").join(&name)).unwrap();
            }
        }
        connection.execute_batch("ROLLBACK").unwrap();
        world.catch_up().await;
        let (replayed, replica) = world.replay("killed", Moment::End).await.unwrap();
        replica.expect_sound(mode);
        let want = history::contents(1, 6);
        assert_eq!(history::content(&replica.open()), (6, want[6]), "{mode}: {replayed:?}");
    }
}

// Explains invariant: vanished-twice
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn files_that_vanish_together_are_held_and_a_missing_root_is_a_failed_source() {
    let world = World::new().await;
    let sites = ["a", "b", "c", "d", "e"];
    sites.iter().for_each(|site| drop(world.begin(site, "DELETE", (1, 3))));
    world.catch_up().await;
    backup_all(&world.engine().await).await.unwrap();
    for site in &sites[1..] {
        std::fs::rename(world.files.site_dir(site), world.files.root.join(site)).unwrap();
    }
    let report = world.catch_up().await;
    assert_eq!(report.troubles.len(), 4, "{:?}", report.troubles);
    let (replayed, _) = world.replay("b", Moment::End).await.unwrap();
    assert!(replayed.state.is_some(), "a lost mount is no deletion");
    for site in &sites[1..] {
        std::fs::rename(world.files.root.join(site), world.files.site_dir(site)).unwrap();
    }
    assert!(world.catch_up().await.troubles.is_empty());
    std::fs::rename(world.files.root.join("srv"), world.files.root.join("gone")).unwrap();
    let error = world.try_catch_up(&world.engine().await, &request()).await.unwrap_err();
    assert!(error.to_string().contains("the source has failed"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_writer_that_does_not_let_go_of_its_file_holds_up_no_other() {
    let world = World::new().await;
    let busy = world.begin("busy", "DELETE", (1, 3));
    let good = world.begin("good", "WAL", (2, 3));
    world.catch_up().await;
    backup_all(&world.engine().await).await.unwrap();
    history::step(&good, 2, 4);
    busy.execute_batch("BEGIN EXCLUSIVE; DELETE FROM note WHERE id < 3; UPDATE counter SET n = 99").unwrap();
    let (engine, other) = (world.engine().await, world.engine().await);
    let request = request();
    let capture = world.try_catch_up(&engine, &request);
    let release = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        // Seen before the other one could be read.
        let log = lifeboat_repo::ChangeLog::open(&other.repository, &crate::world::notes()).await.unwrap();
        let newest = log.newest().unwrap().segment.unwrap();
        let footer = log.footer(&newest).await.unwrap();
        let sites: Vec<String> = footer.blocks.iter().map(|block| block.site.to_string()).collect();
        busy.execute_batch("COMMIT").unwrap();
        sites
    };
    let (report, sites) = tokio::join!(capture, release);
    assert_eq!(sites, ["good"]);
    assert!(report.unwrap().troubles.is_empty());
    world.expect_as_live("busy", "let go").await;
    world.expect_as_live("good", "beside a busy one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_capture_that_begins_again_reads_no_file_that_was_not_written() {
    let world = World::new().await;
    drop(world.begin("a", "WAL", (1, 6)));
    drop(world.begin("b", "DELETE", (2, 6)));
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(world.catch_up().await.full_reads, 2);
    let report = world.catch_up().await;
    assert_eq!((report.full_reads, report.versions, report.begun), (0, 0, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_large_file_in_rollback_mode_is_copied_aside_and_is_several_segments() {
    let world = World::new().await;
    world.catch_up().await;
    let connection = world.begin("a", "DELETE", (1, 3));
    connection.execute_batch("CREATE TABLE big AS SELECT randomblob(70000000) AS body").unwrap();
    let report = world.catch_up().await;
    assert!(report.segments > 7, "{report:?}");
    // Just written, and never with a log: it is read while applications may write, so from a copy.
    history::step(&connection, 1, 4);
    let report = world.catch_up().await;
    assert_eq!(report.versions, 1);
    assert!(report.pages < 200, "{report:?}");
    world.expect_as_live("a", "large").await;
}
