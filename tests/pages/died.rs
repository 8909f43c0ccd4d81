//! A capture that dies at any request to its store, and another that goes on.

use std::collections::BTreeSet;
use std::sync::Arc;

use lifeboat_engine::{Moment, PagesRequest};
use lifeboat_model::{Fault, Faulty};
use lifeboat_testkit::fault_store::{Failure, FaultStore};
use lifeboat_testkit::world::{backup_all, site_id};

use crate::history;
use crate::world::{World, at, request};

const SITES: [(&str, &str); 3] = [("a", "WAL"), ("b", "DELETE"), ("c", "WAL")];

impl World {
    /// Captures in small segments until the store fails; whether that ended it.
    async fn dies_at(&self, request_number: usize, failure: Failure) -> bool {
        let store = FaultStore::new(self.store.clone());
        let faults = store.faults();
        let engine = self.engine_over(Arc::new(store)).await;
        faults.at_next(request_number, failure);
        // So small that a version is in several segments.
        let request = PagesRequest { flush_bytes: 300_000, ..request() };
        match self.try_catch_up(&engine, &request).await {
            Ok(_) => false,
            Err(error) => {
                assert!(matches!(error.fault(), Fault::Cancelled | Fault::Retry), "{error}");
                true
            }
        }
    }
}

/// Deaths at every request, and each version then is one of the history.
async fn dies_and_goes_on(failure: Failure) {
    let world = World::new().await;
    let connections = SITES.map(|(site, mode)| world.begin(site, mode, (7, 5)));
    world.catch_up().await;
    backup_all(&world.engine().await).await.unwrap();
    let (mut number, mut deaths) = (5, 0);
    for request_number in 1..40 {
        for connection in &connections {
            number += u64::from(std::ptr::eq(connection, &connections[0]));
            history::step(connection, 7, number);
            connection.execute_batch(&format!("PRAGMA user_version = {number}")).unwrap();
            // Most rounds have a version that does not fit into one segment.
            let big = format!("CREATE TABLE big AS SELECT randomblob({}) AS body; DROP TABLE big", 900_000);
            connection.execute_batch(&big).unwrap();
        }
        deaths += u32::from(world.dies_at(request_number, failure.clone()).await);
    }
    assert!(deaths > 10, "{deaths}");
    let report = world.catch_up().await;
    assert_eq!(report.begun, None, "the hashes belonged to the log all the time");
    let contents = history::contents(7, number);
    for (site, _) in SITES {
        world.expect_as_live(site, &format!("{failure:?}")).await;
        let versions = world.versions(&site_id(site)).await;
        let places: BTreeSet<_> = versions.iter().map(|version| version.commit).collect();
        assert_eq!(places.len(), versions.len(), "a version twice");
        for version in versions.iter().rev().step_by(3) {
            let (replayed, replica) = world.replay(site, at(version.commit)).await.unwrap();
            let (count, content) = history::content(&replica.open());
            assert_eq!(content, contents[count as usize], "{failure:?}, {site}, {count}: {replayed:?}");
        }
    }
}

// Explains invariant: hashes-after-log
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_went_back_while_the_capture_was_dead_goes_back_in_the_log_too() {
    let world = World::new().await;
    drop(world.begin("a", "DELETE", (7, 5)));
    world.catch_up().await;
    backup_all(&world.engine().await).await.unwrap();
    let copy = world.files.root.join("copy.db");
    let mut deaths = 0;
    for request_number in 1..16 {
        std::fs::copy(world.path("a"), &copy).unwrap();
        history::step(&history::open(&world.path("a"), "DELETE"), 7, 6);
        deaths += u32::from(world.dies_at(request_number, Failure::KillAfter).await);
        // The log may have the step, and the hashes not: against them nothing has changed.
        std::fs::rename(&copy, world.path("a")).unwrap();
        world.catch_up().await;
        world.expect_as_live("a", &format!("killed after request {request_number}")).await;
    }
    assert!(deaths > 5, "{deaths}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_capture_killed_before_any_request_goes_on_from_its_log() {
    dies_and_goes_on(Failure::KillBefore).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_capture_killed_after_any_request_goes_on_from_its_log() {
    dies_and_goes_on(Failure::KillAfter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_capture_goes_on_after_an_unclear_failure() {
    dies_and_goes_on(Failure::Unclear).await;
}

// Explains invariant: proven-pages
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_its_hashes_a_new_epoch_begins_and_joins_the_snapshots_by_content() {
    let world = World::new().await;
    let connection = world.begin("a", "WAL", (3, 8));
    world.catch_up().await;
    backup_all(&world.engine().await).await.unwrap();
    history::step(&connection, 3, 9);
    world.catch_up().await;
    let before = world.versions(&site_id("a")).await.last().unwrap().commit;
    world.lose_index();
    let report = world.catch_up().await;
    assert!(report.begun.is_some_and(|(_, note)| note.contains("hashes")));
    let error = world.replay("a", Moment::End).await.err().unwrap();
    assert!(error.hint().unwrap().contains("lifeboat backup a"), "{:?}", error.hint());
    backup_all(&world.engine().await).await.unwrap();
    history::step(&connection, 3, 10);
    world.catch_up().await;
    world.expect_as_live("a", "in the new epoch").await;
    let (_, replica) = world.replay("a", at(before)).await.unwrap();
    assert_eq!(history::content(&replica.open()).0, 9, "in the epoch before");
}
