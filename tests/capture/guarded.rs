//! Captures that go on: a store that is down, a server that is stopped, a slot that keeps too much.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lifeboat_control::capturing::{Capturing, News, SourceEnd};
use lifeboat_engine::{CaptureNews, CaptureRequest, Engine};
use lifeboat_model::{EpochReason, Fault, Faulty, SourceName};
use lifeboat_testkit::fault_store::{Failure, FaultStore, Faults};
use lifeboat_testkit::postgres::{query_text, run_sql};
use lifeboat_testkit::world::backup_all;

use crate::index::SharedIndex;
use crate::world::{World, app};

/// A store that is down fails so many requests at most in a test.
const REQUESTS_MAX: usize = 3_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// A capture that goes on in the background, and what it told.
struct Running {
    engine: Arc<Engine>,
    faults: Arc<Faults>,
    told: Arc<Mutex<Vec<News>>>,
    task: tokio::task::JoinHandle<Vec<SourceEnd>>,
}

impl Running {
    async fn start(world: &World, index: &SharedIndex, slot_limit_bytes: u64) -> Self {
        let store = FaultStore::new(world.store.clone());
        let faults = store.faults();
        let engine = Arc::new(world.engine_over(Arc::new(store)).await);
        let told: Arc<Mutex<Vec<News>>> = Arc::default();
        let (index, tells) = (index.clone(), told.clone());
        let capturing = Capturing {
            engine: engine.clone(),
            files: Vec::new(),
            open_pages: Box::new(|_| Err(lifeboat_engine::Error::Bug("no files are captured".into()))),
            requests: vec![CaptureRequest { flush_every: Duration::from_millis(200), ..CaptureRequest::of(app()) }],
            slot_limit_bytes,
            open_index: Box::new(move |_| Ok(index.open())),
            scans: Vec::new(),
            note_scan: Box::new(|_, _| ()),
            tell: Box::new(move |_: &SourceName, news| tells.lock().unwrap().push(news)),
        };
        let task = tokio::spawn(async move { capturing.go_on().await.rows });
        Self { engine, faults, told, task }
    }

    fn store_is_down(&self) {
        let error = lifeboat_store::Error::Unavailable { detail: "down".into(), after: None };
        (1..=REQUESTS_MAX).for_each(|number| self.faults.at_next(number, Failure::Error(error.clone())));
    }

    async fn wait_for(&mut self, what: &str, is_there: impl Fn(&News) -> bool) {
        let began = Instant::now();
        while !self.told.lock().unwrap().iter().any(&is_there) {
            assert!(began.elapsed() < PATIENCE, "no {what}: {:?}", self.told.lock().unwrap());
            if self.task.is_finished() {
                panic!("it ended before {what}: {:?}", (&mut self.task).await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What is told from here on is counted anew.
    fn forget(&self) -> Vec<News> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    async fn stop(self) {
        self.engine.cancel.store(true, Ordering::Relaxed);
        let ends = tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
        assert!(ends.iter().all(|end| end.error.is_none()), "{ends:?}");
    }
}

fn slots(world: &World) -> usize {
    query_text(&world.url, "SELECT slot_name FROM pg_replication_slots").unwrap().len()
}

fn is_sealed(news: &News) -> bool {
    matches!(news, News::Capture(CaptureNews::Sealed { .. }))
}

fn has_bases(news: &News) -> bool {
    matches!(news, News::BasesTaken(taken) if taken.good > 0 && taken.failed.is_empty())
}

// Explains invariant: disk-before-log
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slot_that_keeps_too_much_is_given_up_though_the_store_is_down() {
    const TEST: &str = "a_slot_that_keeps_too_much_is_given_up_though_the_store_is_down";
    let Some(world) = World::new(TEST).await else { return };
    let index = SharedIndex::default();
    let mut running = Running::start(&world, &index, 24 << 20).await;
    running.wait_for("bases", has_bases).await;
    running.store_is_down();
    run_sql(&world.url, "UPDATE issues SET title = title || '!'").unwrap();
    running.wait_for("waiting", |news| matches!(news, News::Waiting(..))).await;
    // Somebody else's log fills the disk as well.
    let noise = "SELECT pg_logical_emit_message(false, 'noise', repeat('x', 1000000)) FROM generate_series(1, 40)";
    run_sql(&world.server.url("postgres"), noise).unwrap();
    running.wait_for("alarm", |news| matches!(news, News::GaveUp(_))).await;
    let began = Instant::now();
    while slots(&world) > 0 {
        assert!(began.elapsed() < PATIENCE, "the slot stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running.forget();
    running.faults.heal();
    let is_new = |news: &News| match news {
        News::Capture(CaptureNews::Begun { why, note, gap_from, .. }) => {
            assert_eq!(*why, EpochReason::SlotLost);
            assert!(note.contains("given up") && gap_from.is_some(), "{note}");
            true
        }
        _ => false,
    };
    running.wait_for("a new epoch", is_new).await;
    running.wait_for("bases", has_bases).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_and_a_server_that_come_back_have_lost_nothing_and_were_told_once() {
    const TEST: &str = "a_store_and_a_server_that_come_back_have_lost_nothing_and_were_told_once";
    let Some(world) = World::new(TEST).await else { return };
    let index = SharedIndex::default();
    let mut running = Running::start(&world, &index, 16 << 30).await;
    running.wait_for("bases", has_bases).await;
    running.store_is_down();
    world.work(7, 30);
    running.wait_for("waiting", |news| matches!(news, News::Waiting(..))).await;
    tokio::time::sleep(Duration::from_secs(4)).await; // tried again a few times
    let waits = running.forget().iter().filter(|news| matches!(news, News::Waiting(..))).count();
    assert_eq!(waits, 1, "told once");
    running.faults.heal();
    running.wait_for("following", |news| matches!(news, News::Capture(CaptureNews::Following { .. }))).await;
    world.server.restart("fast").unwrap();
    running.wait_for("waiting", |news| matches!(news, News::Waiting(..))).await;
    world.work(8, 30);
    running.forget();
    running.wait_for("a segment", is_sealed).await;
    running.stop().await;
    // What a short capture does after it: nothing is missing, and no new epoch was needed.
    let mut last = index.open();
    let request = CaptureRequest { until_caught_up: true, ..CaptureRequest::of(app()) };
    let report = loop {
        match lifeboat_engine::capture(&world.engine, &request, last.as_mut(), &|_| ()).await {
            Err(error) if error.fault() == Fault::Fenced => tokio::time::sleep(Duration::from_millis(100)).await,
            other => break other.unwrap(),
        }
    };
    assert_eq!((report.begun, report.unrouted), (None, 0));
    let replayed = world.all_replayed().await;
    backup_all(&world.engine).await.unwrap();
    world.expect_as_snapshots(&replayed, "after both").await;
}
