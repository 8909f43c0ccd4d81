//! A capture that dies at any request to its store, and another that goes on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::CaptureIndex;
use lifeboat_model::{ChangePlace, Fault, Faulty, Lsn, SegmentNumber};
use lifeboat_repo::ChangeLog;
use lifeboat_testkit::fault_store::{Failure, FaultStore};
use lifeboat_testkit::postgres::{query_text, run_sql, site_name};
use lifeboat_testkit::world::{backup_all, site_id};

use crate::world::{SITES, World, app, capture_when_free, request};

/// Of requests, counted from the first of a capture.
const DEATHS: [usize; 9] = [1, 4, 7, 10, 14, 19, 25, 32, 40];

impl World {
    /// Rows that a later deletion names by nothing but their key: only the index tells whose they were.
    fn comment_everywhere(&self) {
        for number in 1..=SITES {
            let sql = format!(
                "INSERT INTO comments (issue_id, body, created) SELECT id, 'new', now() FROM issues \
                 WHERE site_id = '{}' LIMIT 3",
                site_name(number)
            );
            run_sql(&self.url, &sql).unwrap();
        }
    }

    /// Captures in small segments until the store fails; whether that ended it.
    async fn dies_at(&mut self, request_number: usize, failure: Failure) -> bool {
        let store = FaultStore::new(self.store.clone());
        let faults = store.faults();
        let engine = self.engine_over(Arc::new(store)).await;
        faults.at_next(request_number, failure);
        let request = request(Duration::from_millis(20), 4_000);
        let ended = capture_when_free(&engine, &request, &mut self.index).await;
        self.index.crash();
        match ended {
            Ok(_) => false,
            Err(error) => {
                assert!(matches!(error.fault(), Fault::Cancelled | Fault::Retry), "{error}");
                true
            }
        }
    }

    /// What the server may forget is in the log, and the index has it.
    async fn expect_confirmed_is_durable(&mut self, when: &str) {
        let sql = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'lifeboat_app'";
        let answer = query_text(&self.url, sql).unwrap();
        let confirmed = Lsn::parse(answer[0][0].as_deref().unwrap()).unwrap();
        let log = ChangeLog::open(&self.engine.repository, &app()).await.unwrap();
        let in_log = log.appender().await.unwrap().unwrap().complete_till();
        let in_index = self.index.place().unwrap().unwrap().position;
        assert!(confirmed.0 <= in_log.0 + 1, "{when}: confirmed {confirmed}, in the log {in_log}");
        assert!(confirmed.0 <= in_index.0 + 1, "{when}: confirmed {confirmed}, in the index {in_index}");
    }

    /// Each change once, and of each it is known whose it is.
    pub async fn expect_nothing_twice_and_nothing_lost(&self, when: &str) {
        let log = ChangeLog::open(&self.engine.repository, &app()).await.unwrap();
        let newest = log.newest().unwrap();
        let last = newest.segment.unwrap();
        let segments = log.segments(newest.epoch, SegmentNumber(1)..=last.number).await.unwrap();
        for segment in &segments {
            let footer = log.footer(segment).await.unwrap();
            assert!(footer.unrouted.is_none(), "{when}: changes are nobody's");
        }
        for number in 1..=SITES {
            let (site, mut places) = (site_id(&site_name(number)), BTreeSet::new());
            let read = log.read_site(&site, segments.clone(), |head, change| {
                let place = ChangePlace { commit: head.commit, sequence: change.sequence };
                assert!(places.insert(place), "{when}: {site} has a change twice");
                Ok::<(), std::convert::Infallible>(())
            });
            read.await.unwrap().unwrap();
        }
    }
}

// Explains invariant: no-gap-no-duplicate
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_capture_that_dies_at_any_request_and_goes_on_has_every_change_once() {
    const TEST: &str = "a_capture_that_dies_at_any_request_and_goes_on_has_every_change_once";
    for failure in [Failure::KillBefore, Failure::KillAfter, Failure::Unclear] {
        let Some(mut world) = World::new(TEST).await else { return };
        world.catch_up().await;
        backup_all(&world.engine).await.unwrap();
        let mut deaths = 0;
        for (round, at) in DEATHS.into_iter().enumerate() {
            world.comment_everywhere();
            world.work(100 + round as u64, 15);
            world.comment_everywhere();
            deaths += usize::from(world.dies_at(at, failure.clone()).await);
            if round % 3 == 2 {
                run_sql(&world.url, "DELETE FROM comments WHERE body LIKE 'new%'").unwrap();
                let report = world.catch_up().await;
                assert_eq!((report.begun, report.unrouted), (None, 0), "{failure:?} at {at}");
            }
        }
        assert!(deaths >= DEATHS.len() / 2, "{failure:?}: {deaths} deaths");
        let when = format!("{failure:?}");
        world.expect_nothing_twice_and_nothing_lost(&when).await;
        let replayed = world.all_replayed().await;
        backup_all(&world.engine).await.unwrap();
        world.expect_as_snapshots(&replayed, &when).await;
    }
}

// Explains invariant: durable-before-confirmed
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_server_may_forget_is_in_the_log_and_in_the_index_wherever_a_capture_dies() {
    const TEST: &str = "what_the_server_may_forget_is_in_the_log_and_in_the_index_wherever_a_capture_dies";
    let Some(mut world) = World::new(TEST).await else { return };
    world.catch_up().await;
    for failure in [Failure::KillBefore, Failure::KillAfter, Failure::Unclear] {
        for (round, at) in DEATHS.into_iter().enumerate() {
            world.work(200 + round as u64, 10);
            world.dies_at(at, failure.clone()).await;
            world.expect_confirmed_is_durable(&format!("{failure:?} at {at}")).await;
        }
        let report = world.catch_up().await;
        assert_eq!((report.begun, report.unrouted), (None, 0), "{failure:?}");
        world.expect_confirmed_is_durable(&format!("after {failure:?}")).await;
    }
}
