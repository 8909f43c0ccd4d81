//! Base and log beside an independent snapshot of the same moment.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifeboat_engine::{CaptureNews, capture, prove_log};
use lifeboat_model::{EpochId, Timestamp};
use lifeboat_testkit::postgres::{run_sql, site_name};
use lifeboat_testkit::world::{backup_all, site_id};

use crate::world::{World, app, request};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_a_mixed_load_base_and_log_are_what_an_independent_snapshot_says() {
    for seed in 1..=3 {
        let Some(mut world) = World::new("under_a_mixed_load_base_and_log_are_what_an_independent_snapshot_says").await
        else {
            return;
        };
        let begun = world.catch_up().await;
        assert_eq!((begun.epoch, begun.begun.is_some()), (EpochId(1), true));
        // Changes before the bases, while they are not there yet, and behind them.
        world.work(seed, 20);
        backup_all(&world.engine).await.unwrap();
        let mut changes = 0;
        for round in 0..3 {
            world.work(seed * 10 + round, 60);
            let report = world.catch_up().await;
            assert_eq!((report.begun, report.unrouted), (None, 0), "round {round}");
            changes += report.changes;
        }
        assert!(changes > 200, "{changes}");
        let replayed = world.all_replayed().await;
        // The oracle is taken now; nothing has changed since the last segment.
        backup_all(&world.engine).await.unwrap();
        world.expect_as_snapshots(&replayed, &format!("seed {seed}")).await;
        // On top of the new bases nothing is left to be done.
        world.expect_as_snapshots(&world.all_replayed().await, "on the new bases").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_log_that_is_behind_claims_no_moment_that_it_has_not_come_to() {
    let Some(mut world) = World::new("a_log_that_is_behind_claims_no_moment_that_it_has_not_come_to").await else {
        return;
    };
    world.catch_up().await;
    world.work(3, 40);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let all_is_committed = Timestamp::now();
    let sealed: Arc<Mutex<Vec<Timestamp>>> = Arc::default();
    let tells = sealed.clone();
    let tell = move |news| {
        if let CaptureNews::Sealed { sealed_at, .. } = news {
            tells.lock().unwrap().push(sealed_at);
        }
    };
    let request = request(Duration::from_secs(60), 3_000);
    capture(&world.engine, &request, &mut world.index, &tell).await.unwrap();
    let sealed = sealed.lock().unwrap().clone();
    assert!(sealed.len() > 3 && sealed.is_sorted(), "{sealed:?}");
    // Each but the last was written now, and knows of nothing later than its own commits.
    assert!(sealed[..sealed.len() - 1].iter().all(|at| *at < all_is_committed), "{sealed:?}");
    assert!(sealed[sealed.len() - 1] >= all_is_committed, "{sealed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_table_whose_deletions_nobody_sees_stays_as_its_snapshot_has_it() {
    let Some(mut world) = World::new("a_table_whose_deletions_nobody_sees_stays_as_its_snapshot_has_it").await else {
        return;
    };
    let make = "CREATE TABLE marks (site_id text NOT NULL REFERENCES sites, n int);
        INSERT INTO marks SELECT id, n FROM sites, generate_series(1, 5) n";
    run_sql(&world.url, make).unwrap();
    world.catch_up().await;
    backup_all(&world.engine).await.unwrap();
    let work = "INSERT INTO marks SELECT id, 6 FROM sites; DELETE FROM marks WHERE n < 3; UPDATE labels SET name = 'x'";
    run_sql(&world.url, work).unwrap();
    world.catch_up().await;
    for (site, rows) in world.all_replayed().await {
        assert_eq!(rows["public.marks"].0, 5, "{site}: neither what came nor what went");
    }
    let proof = prove_log(&world.engine, &site_id(&site_name(1)), &app()).await.unwrap().unwrap();
    assert_eq!((proof.differing, proof.unproven), (Vec::new(), vec!["public.marks".to_owned()]));
}
