//! Two commands at once: one is held before each of its operations in turn, while another one runs
//! from its beginning to its end.

use std::future::Future;
use std::sync::Arc;

use lifeboat_engine::{Approval, Error, SiteOutcome, backup, plan_restore, restore};
use lifeboat_model::{Fault, Faulty, Mark, Receipt, SiteState, SnapshotRecord};
use lifeboat_store::{MemoryStore, Store};
use lifeboat_testkit::crash_runner::{Live, SITE, Scene, bury, sample};
use lifeboat_testkit::fault_store::{Failure, FaultStore};
use lifeboat_testkit::oracle::{assert_same, check_whole, export_picture, leftovers, state_of};
use lifeboat_testkit::pausing_store::PausingStore;
use lifeboat_testkit::world::{restore_request, site_id};

/// What a restore says, and how it was asked for.
async fn restore_latest(scene: &Scene, store: Arc<dyn Store>, take_over: bool) -> Result<Receipt, Error> {
    let engine = scene.engine(store).await;
    let mut request = restore_request(SITE, lifeboat_engine::RestorePoint::At(lifeboat_model::PointInTime::Latest));
    request.take_over = take_over;
    let planned = plan_restore(&engine, &request).await?;
    restore(&engine, &request, planned, &Approval::Yes).await
}

/// The snapshot that a backup published of the site.
async fn back_up(scene: &Scene, store: Arc<dyn Store>) -> Result<Option<SnapshotRecord>, Error> {
    let engine = scene.engine(store).await;
    let request = lifeboat_engine::BackupRequest { sites: vec![site_id(SITE)], ..Default::default() };
    for site in backup(&engine, &request).await?.sites {
        match site.outcome {
            SiteOutcome::Published(record) => return Ok(Some(*record)),
            SiteOutcome::Failed(error) => return Err(error),
            SiteOutcome::Unchanged(_) | SiteOutcome::Vanished { .. } => {}
        }
    }
    Ok(None)
}

fn runtime() -> tokio::runtime::Runtime {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    built.expect("a runtime")
}

/// Operations of the first command when it is alone.
fn count_of<T>(scene: &Scene, first: impl AsyncFn(Arc<dyn Store>) -> Result<T, Error>) -> usize {
    scene.reset_host();
    let store = FaultStore::new(scene.memory());
    let faults = store.faults();
    if let Err(error) = runtime().block_on(first(Arc::new(store))) {
        panic!("{}: {error}", scene.name);
    }
    faults.count()
}

/// What both commands said, when the second one ran while the first one was held.
struct Raced<A, B> {
    first: Result<A, Error>,
    second: Result<B, Error>,
    /// The site's state when the first was held.
    held: SiteState,
    store: Arc<MemoryStore>,
    context: String,
}

/// Runs the second command before the operation `number` of the first, which has a thread and a
/// runtime of its own; `None` when the first one came to no such operation.
fn race<A: Send, B>(
    scene: &Scene,
    number: usize,
    first: impl AsyncFn(Arc<dyn Store>) -> Result<A, Error> + Sync,
    second: impl AsyncFn(Arc<dyn Store>) -> Result<B, Error>,
) -> Option<Raced<A, B>> {
    scene.reset_host();
    let store = scene.memory();
    let pausing = PausingStore::new(store.clone(), number);
    let pause = pausing.pause();
    let pausing: Arc<dyn Store> = Arc::new(pausing);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let ended = runtime().block_on(first(pausing));
            pause.ended();
            ended
        });
        let ran = runtime().block_on(async {
            if !pause.reached().await {
                return None;
            }
            let held = state_of(&scene.engine(store.clone()).await, SITE).await;
            let second = second(store.clone()).await;
            pause.go_on();
            Some((held, second))
        });
        let first = running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (held, second) = ran?;
        let context = format!("{}, another command before operation {number}", scene.name);
        let held = held.unwrap_or_else(|| panic!("{context}: no commit"));
        Some(Raced { first, second, held, store: store.clone(), context })
    })
}

fn fault_of<T>(result: &Result<T, Error>) -> Option<Fault> {
    result.as_ref().err().map(Faulty::fault)
}

/// After both: nothing is open, nothing damaged, nothing left behind, the neighbour as it was.
fn check_end(scene: &Scene, store: &Arc<MemoryStore>, context: &str) {
    runtime().block_on(async {
        let engine = scene.engine(store.clone()).await;
        let state = state_of(&engine, SITE).await.unwrap_or_else(|| panic!("{context}: no commit"));
        assert!(state.intent.is_none(), "{context}: {:?}", state.intent);
        check_whole(&engine, context).await;
    });
    let left = leftovers(&scene.world.root.join("srv"));
    assert!(left.is_empty(), "{context}: left behind: {left:?}");
    scene.check_neighbour(context);
}

fn scene(of: impl Future<Output = Scene>) -> Scene {
    runtime().block_on(of)
}

#[test]
fn of_two_backups_of_one_site_at_once_both_points_stand_and_restore() {
    let scene = scene(Scene::incremental_backup());
    let back_up = async |store: Arc<dyn Store>| back_up(&scene, store).await;
    let count = count_of(&scene, back_up);
    for number in sample(count, count) {
        let Some(raced) = race(&scene, number, back_up, back_up) else { continue };
        let context = raced.context;
        let mut published = 0;
        for record in [raced.first, raced.second] {
            let record = record.unwrap_or_else(|error| panic!("{context}: {error}"));
            published += usize::from(record.is_some());
            assert!(record.is_none_or(|record| record.mark == Mark::Good), "{context}");
        }
        assert!(published >= 1, "{context}");
        runtime().block_on(async {
            let engine = scene.engine(raced.store.clone()).await;
            scene.oracle.check_points(&scene.world, &engine, &context).await;
        });
        check_end(&scene, &raced.store, &context);
    }
    println!("{}: raced by another at each of {count} operations", scene.name);
}

#[test]
fn a_second_restore_is_refused_while_one_is_open() {
    let scene = scene(Scene::restore(Live::Damaged));
    let restore = async |store: Arc<dyn Store>| restore_latest(&scene, store, false).await;
    let count = count_of(&scene, restore);
    let mut refused = 0;
    for number in sample(count, count) {
        let Some(raced) = race(&scene, number, restore, restore) else { continue };
        let context = raced.context;
        if raced.held.intent.is_some() {
            assert_eq!(fault_of(&raced.second), Some(Fault::Fenced), "{context}: {:?}", raced.second);
            refused += 1;
        } else if let Err(error) = raced.second {
            panic!("{context}: the second: {error}");
        }
        // The first one's plan may have been overtaken before it opened; it never does damage.
        match raced.first {
            Ok(receipt) => assert!(receipt.all_passed(), "{context}: {:?}", receipt.checks),
            Err(error) => assert!(raced.held.intent.is_none(), "{context}: the first: {error}"),
        }
        assert_same(&scene.world.picture(SITE), &scene.goal, &context);
        check_end(&scene, &raced.store, &context);
    }
    println!("{}: a second one at each of {count} operations, refused {refused} times", scene.name);
    assert!(refused > count / 3, "refused only {refused} times of {count}");
}

#[test]
fn a_restore_that_was_taken_over_never_switches() {
    let scene = scene(Scene::restore(Live::Damaged));
    let first = async |store: Arc<dyn Store>| restore_latest(&scene, store, false).await;
    let since = scene.world.site_dir(SITE).join("files/since");
    let second = async |store: Arc<dyn Store>| {
        let receipt = restore_latest(&scene, store, true).await;
        // Whoever switches after this removes it as an extra.
        std::fs::write(&since, b"written after the take-over").expect("a file");
        receipt
    };
    let count = count_of(&scene, first);
    let (mut fenced, mut barred) = (0, 0);
    for number in sample(count, count) {
        let Some(raced) = race(&scene, number, first, second) else { continue };
        let context = raced.context;
        let receipt = match raced.second {
            Ok(receipt) => receipt,
            // The first one had the part to itself already, for its switch: it ends that, and nobody is in between. Where
            // only a request beside its work was held, it may have come there after it was taken over: neither switches.
            Err(error) if error.to_string().contains("in the middle of its switch") => {
                match &raced.first {
                    Ok(first) => assert!(first.all_passed(), "{context}: {:?}", first.checks),
                    Err(_) => {
                        assert_eq!(fault_of(&raced.first), Some(Fault::Fenced), "{context}: {:?}", raced.first);
                        assert!(since.exists(), "{context}: it switched after it was taken over");
                    }
                }
                std::fs::remove_file(&since).expect("a file");
                check_end(&scene, &raced.store, &context);
                barred += 1;
                continue;
            }
            Err(error) => panic!("{context}: the one that took over: {error}"),
        };
        assert!(receipt.all_passed(), "{context}: {:?}", receipt.checks);
        if raced.held.intent.is_some() {
            assert_eq!(fault_of(&raced.first), Some(Fault::Fenced), "{context}: {:?}", raced.first);
            assert!(since.exists(), "{context}: it switched after it was taken over");
            fenced += 1;
        }
        if since.exists() {
            std::fs::remove_file(&since).expect("a file");
        }
        let now: Vec<_> = scene.world.picture(SITE).into_iter().filter(|(name, _)| name != "files").collect();
        let goal: Vec<_> = scene.goal.clone().into_iter().filter(|(name, _)| name != "files").collect();
        assert_eq!(now, goal, "{context}");
        check_end(&scene, &raced.store, &context);
    }
    println!("{}: taken over at each of {count} operations, fenced {fenced} times, barred {barred}", scene.name);
    assert!(barred <= 4, "the part was locked for longer than its switch: {barred} of {count}");
    assert!(fenced > count / 3, "fenced only {fenced} times of {count}");
}

#[test]
fn a_backup_during_a_restore_is_incomplete_and_never_latest() {
    let scene = scene(Scene::restore(Live::Damaged));
    let first = async |store: Arc<dyn Store>| restore_latest(&scene, store, false).await;
    let second = async |store: Arc<dyn Store>| back_up(&scene, store).await;
    let count = count_of(&scene, first);
    let mut incomplete = 0;
    for number in sample(count, count) {
        let Some(raced) = race(&scene, number, first, second) else { continue };
        let context = raced.context;
        let record = raced.second.unwrap_or_else(|error| panic!("{context}: the backup: {error}"));
        if raced.held.intent.is_some() {
            assert!(record.is_some_and(|record| record.mark == Mark::Incomplete), "{context}");
            incomplete += 1;
        }
        let receipt = raced.first.unwrap_or_else(|error| panic!("{context}: the restore: {error}"));
        assert!(receipt.all_passed(), "{context}: {:?}", receipt.checks);
        assert_same(&scene.world.picture(SITE), &scene.goal, &context);
        check_end(&scene, &raced.store, &context);
    }
    println!("{}: a backup at each of {count} operations, incomplete {incomplete} times", scene.name);
    assert!(incomplete > count / 3, "incomplete only {incomplete} times of {count}");
}

#[test]
fn a_backup_that_a_restore_ran_through_is_good_only_if_it_is_of_one_moment() {
    let scene = scene(Scene::restore(Live::Damaged));
    let first = async |store: Arc<dyn Store>| back_up(&scene, store).await;
    let second = async |store: Arc<dyn Store>| restore_latest(&scene, store, false).await;
    let count = count_of(&scene, first);
    let mut good = 0;
    for number in sample(count, count) {
        let Some(raced) = race(&scene, number, first, second) else { continue };
        let context = raced.context;
        let receipt = raced.second.unwrap_or_else(|error| panic!("{context}: the restore: {error}"));
        assert!(receipt.all_passed(), "{context}: {:?}", receipt.checks);
        let record = raced.first.unwrap_or_else(|error| panic!("{context}: the backup: {error}"));
        if let Some(record) = record.filter(|record| record.mark == Mark::Good) {
            let got = runtime().block_on(async {
                let engine = scene.engine(raced.store.clone()).await;
                export_picture(&scene.world, &engine, SITE, record.id, &context).await
            });
            assert!(got == scene.start || got == scene.goal, "{context}: it is of two moments: {got:?}");
            good += 1;
        }
        check_end(&scene, &raced.store, &context);
    }
    println!("{}: a restore at each of a backup's {count} operations, {good} of them good", scene.name);
}

/// The scene with the intent of a killed restore open in its repository.
fn with_dead_intent(mut scene: Scene) -> Scene {
    runtime().block_on(async {
        for operation in 1.. {
            scene.reset_host();
            let memory = scene.memory();
            let store = FaultStore::new(memory.clone());
            store.faults().at(operation, Failure::KillAfter);
            assert!(scene.run(Arc::new(store)).await.is_err(), "{}: no intent was ever open", scene.name);
            let engine = scene.engine(memory.clone()).await;
            if state_of(&engine, SITE).await.is_some_and(|state| state.intent.is_some()) {
                bury(&engine).await;
                scene.objects = memory.objects();
                return;
            }
        }
    });
    scene
}

#[test]
fn of_two_restores_that_go_on_with_a_dead_one_never_both_switch() {
    let scene = with_dead_intent(scene(Scene::restore(Live::Damaged)));
    let restore = async |store: Arc<dyn Store>| restore_latest(&scene, store, false).await;
    let count = count_of(&scene, restore);
    let mut refused = 0;
    for number in sample(count, count) {
        let Some(raced) = race(&scene, number, restore, restore) else { continue };
        let context = raced.context;
        let faults = [fault_of(&raced.first), fault_of(&raced.second)];
        assert!(faults.contains(&None), "{context}: {:?}, {:?}", raced.first, raced.second);
        for fault in faults.into_iter().flatten() {
            assert!(matches!(fault, Fault::Fenced | Fault::Operator), "{context}: {fault:?}");
            refused += 1;
        }
        assert_same(&scene.world.picture(SITE), &scene.goal, &context);
        check_end(&scene, &raced.store, &context);
    }
    println!("{}: two go on with a dead one, at each of {count} operations, refused {refused} times", scene.name);
}
