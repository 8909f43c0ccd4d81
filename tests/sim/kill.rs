//! Killed at every operation of the store, with that operation done and not done.

use std::sync::Arc;

use lifeboat_store::Store;
use lifeboat_testkit::crash_runner::{Live, Scene, bury, sample};
use lifeboat_testkit::fault_store::{Failure, FaultStore};

/// How many operations the command asks of the store when nobody kills it.
async fn count_operations(scene: &Scene) -> usize {
    scene.reset_host();
    let store = FaultStore::new(scene.memory());
    let faults = store.faults();
    scene.run(Arc::new(store)).await.unwrap_or_else(|error| panic!("{}: {error}", scene.name));
    faults.count()
}

/// Kills the command at one operation, checks what is there, runs it again and checks the end.
async fn kill_at(scene: &Scene, operation: usize, takes_effect: bool) -> bool {
    let what = if takes_effect { "after" } else { "before" };
    scene.reset_host();
    let memory = scene.memory();
    let store = FaultStore::new(memory.clone());
    let faults = store.faults();
    faults.at(operation, if takes_effect { Failure::KillAfter } else { Failure::KillBefore });
    let killed = scene.run(Arc::new(store)).await;
    let call = faults.calls().get(operation - 1).map(|call| format!("{:?} {}", call.operation, call.name));
    let context = format!("{}, killed {what} operation {operation} {}", scene.name, call.unwrap_or_default());
    if !faults.is_killed() {
        return false;
    }
    assert!(killed.is_err(), "{context}: it says that it is done");
    let store: Arc<dyn Store> = memory;
    bury(&scene.engine(store.clone()).await).await;
    scene.check_killed(store.clone(), &context).await;
    scene.check_again(store, &context).await;
    true
}

async fn kill_everywhere(scene: Scene) {
    let count = count_operations(&scene).await;
    let points = sample(count, count);
    let mut killed = 0;
    for operation in &points {
        for takes_effect in [false, true] {
            killed += usize::from(kill_at(&scene, *operation, takes_effect).await);
        }
    }
    println!("{}: {count} operations, killed {killed} times", scene.name);
    assert!(killed > points.len(), "{}: only {killed} kills at {} operations", scene.name, points.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_backup_killed_at_any_operation_is_whole_or_absent_and_finishes_when_run_again() {
    kill_everywhere(Scene::first_backup().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_backup_killed_at_any_operation_loses_no_point_and_finishes_when_run_again() {
    kill_everywhere(Scene::incremental_backup().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_backup_killed_at_any_operation_loses_no_point_and_finishes_when_run_again() {
    for remembers in [false, true] {
        let mut scene = Scene::unchanged_backup().await;
        scene.remembers = remembers;
        kill_everywhere(scene).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_a_deleted_site_killed_at_any_operation_finishes_when_run_again() {
    kill_everywhere(Scene::restore(Live::Deleted).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_a_damaged_site_killed_at_any_operation_finishes_and_can_be_undone_to_the_first_state() {
    kill_everywhere(Scene::restore(Live::Damaged).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_killed_at_any_operation_finishes_when_run_again() {
    kill_everywhere(Scene::undo(Live::Damaged).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_undo_of_a_deleted_sites_restore_killed_at_any_operation_finishes_when_run_again() {
    kill_everywhere(Scene::undo(Live::Deleted).await).await;
}
