//! Sites that vanish and shrink while they are captured: told of at once, and their points are held.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifeboat_engine::{CaptureNews, capture};
use lifeboat_model::HoldReason;
use lifeboat_testkit::postgres::run_sql;
use lifeboat_testkit::world::{backup_all, site_id};

use crate::world::{World, request};

async fn catch_up(world: &mut World) -> Vec<(String, HoldReason)> {
    let lost: Arc<Mutex<Vec<(String, HoldReason)>>> = Arc::default();
    let tells = lost.clone();
    let tell = move |news| {
        if let CaptureNews::Lost { site, reason, .. } = news {
            tells.lock().unwrap().push((site.to_string(), reason));
        }
    };
    capture(&world.engine, &request(Duration::from_millis(300), 20_000), &mut world.index, &tell).await.unwrap();
    let mut lost = lost.lock().unwrap().clone();
    lost.sort_by(|a, b| a.0.cmp(&b.0));
    lost
}

async fn holds(world: &World, site: &str) -> Vec<HoldReason> {
    let site = world.engine.site(&site_id(site)).await.unwrap();
    site.state().holds.iter().map(|hold| hold.reason).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_site_that_vanishes_or_shrinks_while_it_is_captured_is_told_of_and_its_points_are_held() {
    const TEST: &str = "a_site_that_vanishes_or_shrinks_while_it_is_captured_is_told_of_and_its_points_are_held";
    let Some(mut world) = World::new(TEST).await else { return };
    world.catch_up().await;
    backup_all(&world.engine).await.unwrap();
    let work = "DELETE FROM comments WHERE id % 50 = 3; UPDATE labels SET name = name || '.';
        DELETE FROM issues WHERE site_id = 'site-00003'; DELETE FROM sites WHERE id = 'site-00002';
        BEGIN; CREATE TEMP TABLE kept AS SELECT * FROM labels WHERE site_id = 'site-00004';
        DELETE FROM labels WHERE site_id = 'site-00004'; INSERT INTO labels SELECT * FROM kept; COMMIT";
    run_sql(&world.url, work).unwrap();
    let want = [("site-00002", HoldReason::Vanished), ("site-00003", HoldReason::Shrank)];
    assert_eq!(catch_up(&mut world).await, want.map(|(site, reason)| (site.to_owned(), reason)));
    for (site, reason) in want {
        assert_eq!(holds(&world, site).await, [reason], "{site}");
    }
    for site in ["site-00001", "site-00004", "site-00005"] {
        assert!(holds(&world, site).await.is_empty(), "{site}");
    }
    // What it did is held once, and what goes on is no news.
    run_sql(&world.url, "UPDATE labels SET name = name || '.'; DELETE FROM worklog WHERE site_id = 'site-00003'")
        .unwrap();
    catch_up(&mut world).await;
    assert_eq!(holds(&world, "site-00003").await, [HoldReason::Shrank]);
}
