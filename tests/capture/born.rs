//! A site that is born and deleted between two backups, and one that is born again after it was erased.

use lifeboat_engine::this_process;
use lifeboat_model::{CommitEvent, Mark, PointInTime, Timestamp, TransactionId};
use lifeboat_repo::{ChangeLog, Repository};
use lifeboat_testkit::postgres::{query_text, run_sql};
use lifeboat_testkit::world::{backup_all, site_id};

use crate::world::{World, app, expect_same, read_snapshot, rows_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_site_that_was_born_and_deleted_between_two_backups_is_restorable() {
    const TEST: &str = "a_site_that_was_born_and_deleted_between_two_backups_is_restorable";
    let Some(mut world) = World::new(TEST).await else { return };
    world.catch_up().await;
    backup_all(&world.engine).await.unwrap();
    expect_born(&mut world, "newborn").await;
}

/// A site is born, works, and is deleted, with no backup in between: it is restorable all the same.
pub async fn expect_born(world: &mut World, name: &str) {
    let born = format!(
        "INSERT INTO sites (id, name, plan_id, country) SELECT '{name}', 'New', plan_id, country FROM sites LIMIT 1;
        INSERT INTO labels (site_id, number, name) SELECT '{name}', n, 'label ' || n FROM generate_series(1, 30) n"
    );
    run_sql(&world.url, &born).unwrap();
    world.catch_up().await;
    run_sql(&world.url, &format!("UPDATE labels SET name = upper(name) WHERE site_id = '{name}'")).unwrap();
    let gone =
        format!("BEGIN; DELETE FROM labels WHERE site_id = '{name}'; DELETE FROM sites WHERE id = '{name}'; COMMIT");
    run_sql(&world.url, &gone).unwrap();
    let newest =
        query_text(&world.url, "SELECT (pg_snapshot_xmax(pg_current_snapshot())::text::int8 - 1)::text").unwrap();
    world.catch_up().await;
    let id = TransactionId(newest[0][0].as_deref().unwrap().parse().unwrap());
    let site = site_id(name);
    let rows = world.rows_at(&site, &PointInTime::Before(id)).await;
    assert_eq!((rows["public.labels"].0, rows["public.sites"].0), (30, 1), "{rows:?}");
    let state = world.engine.site(&site).await.unwrap();
    assert_eq!(state.state().snapshots.len(), 1);
    assert_eq!(state.state().snapshots[0].mark, Mark::Suspect, "it is never the latest good point");
    assert!(state.state().latest().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_who_was_erased_and_comes_back_is_restorable_though_the_capture_never_stopped() {
    const TEST: &str = "one_who_was_erased_and_comes_back_is_restorable_though_the_capture_never_stopped";
    let Some(mut world) = World::new(TEST).await else { return };
    world.catch_up().await;
    backup_all(&world.engine).await.unwrap();
    let url = world.url.clone();
    let born = |what: &str| {
        let sql = format!(
            "INSERT INTO sites (id, name, plan_id, country) SELECT 'hal', 'Hal', plan_id, country FROM sites LIMIT 1;
            INSERT INTO labels (site_id, number, name) SELECT 'hal', n, '{what} ' || n FROM generate_series(1, 30) n"
        );
        run_sql(&url, &sql).unwrap();
    };
    born("before");
    world.catch_up().await;
    run_sql(&world.url, "DELETE FROM labels WHERE site_id = 'hal'; DELETE FROM sites WHERE id = 'hal'").unwrap();
    world.catch_up().await;
    // By another process: this one has the key still.
    let other = Repository::open(world.store.clone(), &world.master).await.unwrap();
    let id = site_id("hal");
    let mut site = other.site(&id, None).await.unwrap().unwrap();
    for hold in site.state().holds.clone() {
        site.commit(&this_process(), |_, _| Ok(CommitEvent::HoldReleased { hold: hold.id })).await.unwrap();
    }
    let clock = other.trusted_now(Timestamp::now()).await.unwrap();
    site.erase("asked", &clock, &this_process()).await.unwrap();

    born("after");
    world.catch_up().await;
    backup_all(&world.engine).await.unwrap();
    run_sql(&world.url, "UPDATE labels SET name = upper(name) WHERE site_id = 'hal' AND number <= 10").unwrap();
    world.catch_up().await;
    // By a third one, which has no key but those in the store.
    let fresh = world.engine_over(world.store.clone()).await;
    let log = ChangeLog::open(&fresh.repository, &app()).await.unwrap();
    let end = PointInTime::Position(log.appender().await.unwrap().unwrap().complete_till());
    let replayed = rows_of(&fresh, &id, &end).await;
    assert_eq!(replayed["public.labels"].0, 30);
    backup_all(&fresh).await.unwrap();
    expect_same(&replayed, &read_snapshot(&fresh, &id, &PointInTime::Latest).await, "after the erasure");
}
