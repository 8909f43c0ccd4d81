//! Base and log beside an independent snapshot of the same moment.

use lifeboat_model::EpochId;
use lifeboat_testkit::world::backup_all;

use crate::world::World;

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
