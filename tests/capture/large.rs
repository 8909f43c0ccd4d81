//! A row that is too large for any block of the change log.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifeboat_engine::{CaptureNews, Error, capture, list};
use lifeboat_model::{Faulty, PointInTime, SiteId};
use lifeboat_repo::ChangeLog;
use lifeboat_testkit::postgres::{run_sql, site_name};
use lifeboat_testkit::world::{backup_all, site_id};

use crate::world::{World, app, expect_same, read_snapshot, request};

/// Follows until now, and gives the sites for which a base was wished for.
async fn catch_up(world: &mut World) -> Vec<SiteId> {
    let wished: Arc<Mutex<Vec<SiteId>>> = Arc::default();
    let tells = wished.clone();
    let tell = move |news| {
        if let CaptureNews::NeedBase(sites) = news {
            tells.lock().unwrap().extend(sites);
        }
    };
    capture(&world.engine, &request(Duration::from_millis(300), 20_000), &mut world.index, &tell).await.unwrap();
    wished.lock().unwrap().clone()
}

async fn end_of_log(world: &World) -> PointInTime {
    let log = ChangeLog::open(&world.engine.repository, &app()).await.unwrap();
    PointInTime::Position(log.appender().await.unwrap().unwrap().complete_till())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_row_that_no_block_can_hold_is_in_the_next_base_and_holds_nobody_up() {
    const TEST: &str = "a_row_that_no_block_can_hold_is_in_the_next_base_and_holds_nobody_up";
    let Some(mut world) = World::new(TEST).await else { return };
    let (large, other) = (site_id(&site_name(1)), site_id(&site_name(2)));
    world.catch_up().await;
    backup_all(&world.engine).await.unwrap();
    let first = format!("(SELECT min(id) FROM issues WHERE site_id = '{large}')");
    let work = format!(
        "UPDATE issues SET title = title || '!' WHERE site_id IN ('{large}', '{other}');
         UPDATE issues SET body = repeat('x', 70000000) WHERE id = {first}"
    );
    run_sql(&world.url, &work).unwrap();
    assert_eq!(catch_up(&mut world).await, std::slice::from_ref(&large));
    let end = end_of_log(&world).await;
    let refused = list(&world.engine, &large, &end, None, None).await.unwrap_err();
    assert!(matches!(&refused, Error::NoPoint { .. }) && refused.hint().unwrap().contains("too large"), "{refused:?}");
    backup_all(&world.engine).await.unwrap();
    expect_same(
        &world.rows_at(&other, &end).await,
        &read_snapshot(&world.engine, &other, &PointInTime::Latest).await,
        "other",
    );
    // From the base on it is as good as any other.
    let work = format!("UPDATE issues SET title = title || '?' WHERE site_id = '{large}' AND id <> {first}");
    run_sql(&world.url, &work).unwrap();
    assert!(catch_up(&mut world).await.is_empty());
    let end = end_of_log(&world).await;
    let replayed = world.rows_at(&large, &end).await;
    backup_all(&world.engine).await.unwrap();
    expect_same(&replayed, &read_snapshot(&world.engine, &large, &PointInTime::Latest).await, "large");
}
