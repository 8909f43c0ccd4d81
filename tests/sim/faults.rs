//! A store that fails at one operation in some way, and works again.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_model::{Fault, Faulty};
use lifeboat_store::{Error, Retry, RetryPolicy, Store};
use lifeboat_testkit::crash_runner::{Live, Scene, bury, sample};
use lifeboat_testkit::fault_store::{Failure, FaultStore};
use lifeboat_testkit::oracle::assert_same;

/// Operations tried of each command and failure in a normal run.
const OPERATIONS: usize = 9;

fn unavailable() -> Failure {
    Failure::Error(Error::Unavailable { detail: "503 SlowDown".into(), after: None })
}

async fn scenes() -> Vec<Scene> {
    vec![Scene::incremental_backup().await, Scene::restore(Live::Damaged).await, Scene::undo(Live::Damaged).await]
}

async fn count_operations(scene: &Scene) -> usize {
    scene.reset_host();
    let store = FaultStore::new(scene.memory());
    let faults = store.faults();
    scene.run(Arc::new(store)).await.unwrap_or_else(|error| panic!("{}: {error}", scene.name));
    faults.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_passing_at_any_operation_is_tried_again_and_changes_nothing() {
    let quick = Duration::from_millis(1);
    let policy = RetryPolicy { delay_first: quick, delay_max: quick, ..RetryPolicy::default() };
    for scene in scenes().await {
        let count = count_operations(&scene).await;
        let mut failures = 0;
        for operation in sample(count, OPERATIONS) {
            for failure in [unavailable(), Failure::Unclear] {
                let context = format!("{}, {failure:?} at operation {operation} of {count}", scene.name);
                scene.reset_host();
                let memory = scene.memory();
                let store = FaultStore::new(memory.clone());
                store.faults().at(operation, failure);
                let ended = scene.run(Arc::new(Retry::new(store, policy))).await;
                ended.unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_same(&scene.world.picture("acme"), &scene.goal, &context);
                scene.check_done(memory, &context).await;
                failures += 1;
            }
        }
        println!("{}: {failures} failures in passing at {count} operations", scene.name);
    }
}

/// One failure without anybody to try again: says what `want` says, loses nothing, and the command
/// then finishes.
async fn fail_once(scene: &Scene, operation: usize, failure: Failure, want: &[Fault]) {
    let context = format!("{}, {failure:?} at operation {operation}", scene.name);
    scene.reset_host();
    let memory = scene.memory();
    let store = FaultStore::new(memory.clone());
    let faults = store.faults();
    faults.at(operation, failure);
    let ended = scene.run(Arc::new(store)).await;
    let memory: Arc<dyn Store> = memory;
    let Err(error) = ended else {
        // What failed was not needed, or something else did as well.
        assert_same(&scene.world.picture("acme"), &scene.goal, &context);
        return scene.check_done(memory, &context).await;
    };
    let call = faults.calls().get(operation - 1).cloned();
    assert!(want.contains(&error.fault()), "{context}, {call:?}: {:?}: {error}", error.fault());
    // This process ends with its error; the next one finds its intent, if it could not be closed.
    bury(&scene.engine(memory.clone()).await).await;
    scene.check_killed(memory.clone(), &context).await;
    scene.check_again(memory, &context).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_at_any_operation_is_said_as_what_it_is_and_loses_nothing() {
    let full = || Failure::Error(Error::Full { detail: "no space left on device".into() });
    let refused = || Failure::Error(Error::Refused { detail: "403 AccessDenied".into(), hint: "look".into() });
    for scene in scenes().await {
        let count = count_operations(&scene).await;
        for operation in sample(count, OPERATIONS) {
            fail_once(&scene, operation, unavailable(), &[Fault::Retry]).await;
            fail_once(&scene, operation, Failure::Unclear, &[Fault::Retry]).await;
            fail_once(&scene, operation, full(), &[Fault::Operator]).await;
            fail_once(&scene, operation, refused(), &[Fault::Operator]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_see_its_objects_at_one_operation_is_never_believed() {
    let truncated = || Failure::Error(Error::Truncated { name: "an-object".into(), wanted: 10, len: 5 });
    for scene in scenes().await {
        let count = count_operations(&scene).await;
        for operation in sample(count, count) {
            // Damage where a commit says otherwise; at the very first objects: no repository, no key.
            let want = [Fault::Damage, Fault::Operator, Fault::Usage, Fault::Fenced];
            fail_once(&scene, operation, Failure::Blind, &want).await;
            fail_once(&scene, operation, truncated(), &want).await;
        }
    }
}
