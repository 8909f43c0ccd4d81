//! A real directory, real processes, real `kill -9`: at operations of the store, and at any time.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::{Only, RestorePoint};
use lifeboat_model::{PointInTime, ProgressPhase, SourceName};
use lifeboat_store::{DirectoryStore, Meter, Store};
use lifeboat_testkit::crash_runner::{Live, SITE, Scene, copy_tree, is_full, sample};
use lifeboat_testkit::oracle::leftovers;
use lifeboat_testkit::world::{restore_request, run_restore, undo};

use crate::child::{self, Kill};

/// Operations tried of each command in a normal run, each done and not done.
const OPERATIONS: usize = 6;
/// Kills at other times of each command in a normal run, and in a full one.
const TIMES: u32 = 10;
const TIMES_FULL: u32 = 100;
/// Files that make a switch long enough to be hit.
const FILES: usize = 120;

const SIGKILL: i32 = 9;

/// The scene's repository in a directory, and a copy to start over from.
async fn make_repository(scene: &Scene) -> PathBuf {
    let repository = scene.dir().join("start/repository");
    let store = DirectoryStore::create_root(&repository).expect("a directory");
    for (name, body) in &scene.objects {
        store.create(name, body.clone()).await.expect("an object");
    }
    reset(scene)
}

/// Everything as before the command; gives the repository's place.
fn reset(scene: &Scene) -> PathBuf {
    let repository = scene.dir().join("repository");
    let _ = std::fs::remove_dir_all(&repository);
    copy_tree(&scene.dir().join("start"), scene.dir(), &["repository"]);
    scene.reset_host();
    repository
}

/// Kills the command's process, and checks what is there and that the command finishes.
async fn kill_once(scene: &Scene, kill: Kill) -> bool {
    let context = format!("{}, killed {kill:?}", scene.name);
    let repository = reset(scene);
    let output = child::run(scene, &repository, kill);
    let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(&repository).expect("the repository"));
    if output.status.success() {
        scene.check_done(store, &context).await;
        return false;
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(SIGKILL), "{context}: {stderr}");
    scene.check_killed(store.clone(), &context).await;
    scene.check_again(store, &context).await;
    true
}

/// Kills the command's process when the phase begins.
fn kill_as_begins(scene: &Scene, repository: &Path, phase: ProgressPhase) {
    let output = child::run(scene, repository, Kill::InPhase { phase, after: Duration::ZERO });
    assert_eq!(output.status.signal(), Some(SIGKILL), "{}, killed in {phase:?}", scene.name);
}

async fn kill_at_operations(scene: Scene) {
    let whole = child::run(&scene, &make_repository(&scene).await, Kill::Never);
    let count = child::said(&whole, "operations").unwrap_or_else(|| panic!("{}: {whole:?}", scene.name)) as usize;
    let numbers = sample(count, OPERATIONS);
    let mut kills = 0;
    for number in &numbers {
        for is_done in [false, true] {
            kills += usize::from(kill_once(&scene, Kill::AtOperation { number: *number, is_done }).await);
        }
    }
    println!("{}: {count} operations, its process killed {kills} times at {} of them", scene.name, numbers.len());
    assert!(kills >= numbers.len(), "{}: only {kills} kills", scene.name);
}

/// Kills evenly spread over one phase of the command.
async fn kill_in_phase(scene: Scene, phase: ProgressPhase) {
    let whole = child::run(&scene, &make_repository(&scene).await, Kill::Never);
    let at = |name: &str| child::said(&whole, name).unwrap_or_else(|| panic!("{}: {name}: {whole:?}", scene.name));
    let phase_micros = at("ended") - at(&format!("{phase:?}"));
    let times = if is_full() { TIMES_FULL } else { TIMES };
    let mut kills = 0;
    for time in 0..times {
        let after = Duration::from_micros(phase_micros) * time / times;
        kills += usize::from(kill_once(&scene, Kill::InPhase { phase, after }).await);
    }
    println!("{}: its process killed {kills} times within {phase_micros} us from {phase:?} on", scene.name);
    assert!(kills > 0, "{}: never killed", scene.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backups_process_killed_at_an_operation_loses_no_point_and_finishes_when_run_again() {
    kill_at_operations(Scene::first_backup().await).await;
    kill_at_operations(Scene::incremental_backup().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restores_process_killed_at_an_operation_finishes_and_is_undone_to_the_first_state() {
    kill_at_operations(Scene::restore(Live::Deleted).await).await;
    kill_at_operations(Scene::restore(Live::Damaged).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undos_process_killed_at_an_operation_finishes_when_run_again() {
    kill_at_operations(Scene::undo(Live::Damaged).await).await;
    kill_at_operations(Scene::undo(Live::Deleted).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restores_process_killed_at_any_time_finishes_and_is_undone_to_the_first_state() {
    kill_in_phase(Scene::restore_of(Live::Damaged, FILES).await, ProgressPhase::KeepingUndo).await;
    kill_in_phase(Scene::restore_of(Live::Damaged, FILES).await, ProgressPhase::Switching).await;
    kill_in_phase(Scene::restore_of(Live::Deleted, FILES).await, ProgressPhase::Switching).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undos_process_killed_in_its_switch_finishes_when_run_again() {
    kill_in_phase(Scene::undo_of(Live::Damaged, FILES).await, ProgressPhase::Switching).await;
    kill_in_phase(Scene::undo_of(Live::Deleted, FILES).await, ProgressPhase::Switching).await;
}

/// Not the same command again: another one, which begins a restore of its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_restore_had_staged_is_gone_after_any_other_restore() {
    for live in [Live::Damaged, Live::Deleted] {
        let scene = Scene::restore_of(live, FILES).await;
        make_repository(&scene).await;
        for phase in [ProgressPhase::Verifying, ProgressPhase::Switching] {
            let context = format!("{}, killed in {phase:?}", scene.name);
            let repository = reset(&scene);
            kill_as_begins(&scene, &repository, phase);
            let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(&repository).expect("the repository"));
            let engine = scene.engine(store).await;
            let mut request = restore_request(SITE, RestorePoint::At(PointInTime::Latest));
            request.only = Some(Only { part: SourceName::new("notes").expect("a name"), entry: None, keys: None });
            let receipt = run_restore(&engine, &request).await;
            let receipt = receipt.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(receipt.all_passed(), "{context}: {:?}", receipt.checks);
            let left = leftovers(&scene.world.root.join("srv"));
            assert!(left.is_empty(), "{context}: left behind: {left:?}");
        }
    }
}

/// Bytes that the store gives for the same restore, undisturbed and after a kill when all was staged.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_restore_had_staged_is_not_read_again() {
    for live in [Live::Damaged, Live::Deleted] {
        let scene = Scene::restore_of(live, FILES).await;
        make_repository(&scene).await;
        let mut read = Vec::new();
        for is_killed in [false, true] {
            let repository = reset(&scene);
            if is_killed {
                kill_as_begins(&scene, &repository, ProgressPhase::Verifying);
            }
            let store = Meter::new(DirectoryStore::open(&repository).expect("the repository"));
            let meters = store.meters();
            let engine = scene.engine(Arc::new(store)).await;
            let request = restore_request(SITE, RestorePoint::At(PointInTime::Latest));
            let receipt =
                run_restore(&engine, &request).await.unwrap_or_else(|error| panic!("{}: {error}", scene.name));
            assert!(receipt.all_passed(), "{}: {:?}", scene.name, receipt.checks);
            let left = leftovers(&scene.world.root.join("srv"));
            assert!(left.is_empty(), "{}: left behind: {left:?}", scene.name);
            read.push(meters.snapshot().bytes_in);
        }
        println!("{}: {} bytes read undisturbed, {} after the kill", scene.name, read[0], read[1]);
        assert!(read[1] < read[0] / 2, "{}: {read:?}", scene.name);
    }
}

/// The application writes between a kill and the next run: that is nobody's to lose.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_after_a_kill_is_back_after_the_undo() {
    for live in [Live::Damaged, Live::Deleted] {
        let scene = Scene::restore_of(live, FILES).await;
        make_repository(&scene).await;
        for phase in [ProgressPhase::Staging, ProgressPhase::Verifying] {
            let context = format!("{}, killed in {phase:?}", scene.name);
            let repository = reset(&scene);
            kill_as_begins(&scene, &repository, phase);
            let files = scene.world.site_dir(SITE).join("files");
            std::fs::create_dir_all(&files).expect("a directory");
            std::fs::write(files.join("order"), "an order").expect("a file");
            std::fs::write(files.join("a.txt"), "edited since").expect("a file");
            let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(&repository).expect("the repository"));
            let engine = scene.engine(store).await;
            let request = restore_request(SITE, RestorePoint::At(PointInTime::Latest));
            let receipt = run_restore(&engine, &request).await.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(!files.join("order").exists(), "{context}: the point has no such file");
            let undone =
                undo(&engine, SITE, receipt.restore).await.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(undone.all_passed(), "{context}: {:?}", undone.checks);
            let read = |name: &str| std::fs::read_to_string(files.join(name)).unwrap_or_default();
            assert_eq!((read("order"), read("a.txt")), ("an order".into(), "edited since".into()), "{context}");
        }
    }
}
