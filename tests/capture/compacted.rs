//! What was captured in many small segments, read through long ones.

use lifeboat_engine::{DamageRequest, compact_due, find_damage, this_process};
use lifeboat_model::{EpochId, PointInTime, SegmentNumber, Timestamp, TransactionId};
use lifeboat_repo::ChangeLog;
use lifeboat_testkit::postgres::{query_text, run_sql};
use lifeboat_testkit::world::{backup_all, site_id};

use crate::world::{World, app};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rows_moments_and_damage_are_the_same_through_long_segments() {
    const TEST: &str = "rows_moments_and_damage_are_the_same_through_long_segments";
    let Some(mut world) = World::new(TEST).await else { return };
    world.catch_up().await;
    backup_all(&world.engine).await.unwrap();
    let mut moments = Vec::new();
    for round in 0..4 {
        world.work(500 + round, 25);
        let sql = "BEGIN; DELETE FROM worklog WHERE site_id = 'site-00001' AND id % 5 = 1; \
                   SELECT pg_current_xact_id()::text; COMMIT";
        run_sql(&world.url, sql).unwrap();
        let answer = query_text(&world.url, "SELECT max(xmin::text::bigint)::text FROM issues").unwrap();
        moments.push(PointInTime::Before(TransactionId(answer[0][0].as_deref().unwrap().parse().unwrap())));
        world.catch_up().await;
    }
    let all = DamageRequest { since: Timestamp(0), source: None };
    let mut before = Vec::new();
    for moment in &moments {
        before.push(world.rows_at(&site_id("site-00001"), moment).await);
    }
    let damage_before = find_damage(&world.engine, &all).await.unwrap();

    assert!(compact_due(&world.engine, &app()).await.unwrap().is_empty(), "nothing is an hour old");
    let log = ChangeLog::open(&world.engine.repository, &app()).await.unwrap();
    let newest = log.newest().unwrap().segment.unwrap().number.0;
    let parts = [(1, newest / 3), (newest / 3 + 1, newest - 2)];
    for (first, last) in parts {
        let range = SegmentNumber(first)..=SegmentNumber(last);
        log.compact(EpochId(1), range, &this_process()).await.unwrap().unwrap();
    }
    let read = log.segments(EpochId(1), SegmentNumber(1)..=SegmentNumber(newest)).await.unwrap();
    assert_eq!(read.len(), 4, "two long ones, and two that are left");
    for (moment, want) in moments.iter().zip(before) {
        assert_eq!(world.rows_at(&site_id("site-00001"), moment).await, want, "{moment}");
    }
    let damage = find_damage(&world.engine, &all).await.unwrap();
    assert!(!damage.incidents.is_empty());
    assert_eq!(damage.incidents, damage_before.incidents);

    // Capture goes on behind them, and everything is as an independent snapshot says.
    world.work(900, 25);
    let report = world.catch_up().await;
    assert_eq!((report.begun, report.unrouted), (None, 0));
    let replayed = world.all_replayed().await;
    backup_all(&world.engine).await.unwrap();
    world.expect_as_snapshots(&replayed, "through long segments").await;
}
