//! There and back: a site deleted, damaged or changed, and put back with nobody else touched.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use lifeboat_engine::{Approval, Only, RestorePoint, RestoreTarget, plan_restore, restore};
use lifeboat_model::{EntryPath, Mark, PointInTime, PointState, SourceName};
use lifeboat_store::{MemoryStore, Store};
use lifeboat_testkit::world::{World, backup_all, restore_latest, restore_request, run_restore, site_id, undo};

async fn world() -> (Arc<dyn Store>, World) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let world = World::new(store.clone()).await;
    world.make_site("acme", 1, 2000);
    world.make_site("beta", 2, 2000);
    (store, world)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_site_comes_back_identical_and_its_neighbour_is_untouched() {
    let (store, world) = world().await;
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    let (acme, beta) = (world.picture("acme"), world.picture("beta"));
    std::fs::remove_dir_all(world.site_dir("acme")).unwrap();
    let receipt = restore_latest(&engine, "acme").await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    let told = receipt.checks.iter().any(|check| check.name == "files: note" && check.detail.contains("srv/acme`"));
    assert!(told, "nobody knows whose the directory above was: {:?}", receipt.checks);
    assert_eq!(world.picture("acme"), acme);
    assert_eq!(world.picture("beta"), beta);
    let site = engine.site(&site_id("acme")).await.unwrap();
    assert!(site.state().intent.is_none());
    assert_eq!(site.state().latest().map(|record| record.state), Some(PointState::Proven));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_brings_back_what_the_restore_replaced_and_can_be_undone_itself() {
    let (store, world) = world().await;
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    let before = world.picture("acme");
    let files = world.site_dir("acme").join("files");
    std::fs::write(files.join("a.txt"), b"overwritten").unwrap();
    std::fs::remove_file(files.join("deep/er/noise")).unwrap();
    std::fs::write(files.join("extra"), b"not in the snapshot").unwrap();
    std::fs::remove_dir(files.join("empty")).unwrap();
    std::fs::write(files.join("empty"), b"a file where a directory was").unwrap();
    world.write_rows("acme", 99, 3);
    let damaged = world.picture("acme");
    let first = restore_latest(&engine, "acme").await.unwrap();
    assert!(first.all_passed(), "{:?}", first.checks);
    assert_eq!(world.picture("acme"), before);
    assert!(first.undo.is_some());
    let second = undo(&engine, "acme", first.restore).await.unwrap();
    assert!(second.all_passed(), "{:?}", second.checks);
    assert_eq!(world.picture("acme"), damaged);
    undo(&engine, "acme", second.restore).await.unwrap();
    assert_eq!(world.picture("acme"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_makes_the_names_of_one_file_one_again() {
    let (store, world) = world().await;
    let engine = world.engine(store).await.unwrap();
    let files = world.site_dir("acme").join("files");
    for (name, content) in [("first", "one file"), ("second", "another"), ("third", "a third")] {
        std::fs::write(files.join(name), content).unwrap();
    }
    backup_all(&engine).await.unwrap();
    // By now all three are names of the first, which stays as it is.
    for name in ["second", "third"] {
        std::fs::remove_file(files.join(name)).unwrap();
        std::fs::hard_link(files.join("first"), files.join(name)).unwrap();
    }
    let before = world.picture("acme");
    let inode = |name: &str| std::fs::metadata(files.join(name)).unwrap().ino();
    let restored = restore_latest(&engine, "acme").await.unwrap();
    assert!(inode("first") != inode("second") && inode("second") != inode("third"));
    let undone = undo(&engine, "acme", restored.restore).await.unwrap();
    assert!(undone.all_passed(), "{:?}", undone.checks);
    assert_eq!(world.picture("acme"), before);
    assert!(inode("first") == inode("second") && inode("second") == inode("third"));
}

#[tokio::test(flavor = "multi_thread")]
async fn undoing_the_restore_of_a_deleted_site_removes_it_again() {
    let (store, world) = world().await;
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    std::fs::remove_dir_all(world.site_dir("acme").join("files")).unwrap();
    std::fs::remove_file(world.site_dir("acme").join("notes.db")).unwrap();
    let receipt = restore_latest(&engine, "acme").await.unwrap();
    let undone = undo(&engine, "acme", receipt.restore).await.unwrap();
    assert!(undone.all_passed(), "{:?}", undone.checks);
    assert_eq!(std::fs::read_dir(world.site_dir("acme")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_leaves_what_is_right_alone() {
    let (store, world) = world().await;
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    let noise = world.site_dir("acme").join("files/deep/er/noise");
    let inode = std::fs::metadata(&noise).unwrap().ino();
    std::fs::write(world.site_dir("acme").join("files/extra"), b"x").unwrap();
    let receipt = restore_latest(&engine, "acme").await.unwrap();
    assert_eq!(std::fs::metadata(&noise).unwrap().ino(), inode);
    assert_eq!(receipt.parts.iter().map(|part| part.bytes).sum::<u64>(), 0, "{receipt:?}");
    let again = restore_latest(&engine, "acme").await.unwrap();
    assert!(again.undo.is_none(), "nothing to do leaves nothing to undo");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_nothing_differs_though_times_and_inodes_do() {
    let (store, world) = world().await;
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    std::fs::remove_dir_all(world.site_dir("acme")).unwrap();
    restore_latest(&engine, "acme").await.unwrap();
    world.write_rows("acme", 1, 2000);
    restore_latest(&engine, "acme").await.unwrap();
    let at = PointInTime::Latest;
    let (_, lines) = lifeboat_engine::diff(&engine, &site_id("acme"), &at).await.unwrap();
    assert!(lines.is_empty(), "{lines:?}");
    std::fs::write(world.site_dir("acme").join("files/deep/er/noise"), b"changed").unwrap();
    let (_, lines) = lifeboat_engine::diff(&engine, &site_id("acme"), &at).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.path.as_str()).collect::<Vec<_>>(), ["deep/er/noise"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_keeps_the_database_open_sees_the_restored_rows_and_loses_no_write() {
    let (store, world) = world().await;
    let path = world.site_dir("acme").join("notes.db");
    let application = rusqlite::Connection::open(&path).unwrap();
    application.execute_batch("PRAGMA journal_mode=WAL;").unwrap();
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    application.execute_batch("DELETE FROM note").unwrap();
    restore_latest(&engine, "acme").await.unwrap();
    let count = |connection: &rusqlite::Connection| -> i64 {
        connection.query_row("SELECT count(*) FROM note", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(&application), 2000);
    application.execute_batch("INSERT INTO note VALUES (100000, 'after')").unwrap();
    drop(application);
    assert_eq!(count(&rusqlite::Connection::open(&path).unwrap()), 2001);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_entry_comes_back_alone() {
    let (store, world) = world().await;
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    let files = world.site_dir("acme").join("files");
    let good = std::fs::read(files.join("deep/er/noise")).unwrap();
    std::fs::write(files.join("deep/er/noise"), b"bad").unwrap();
    std::fs::write(files.join("a.txt"), b"keep me").unwrap();
    std::fs::write(files.join("deep/extra"), b"keep me too").unwrap();
    let mut request = restore_request("acme", RestorePoint::At(PointInTime::Latest));
    let entry = Some(EntryPath::new("deep/er").unwrap());
    request.only = Some(Only { part: SourceName::new("files").unwrap(), entry, keys: None });
    let receipt = run_restore(&engine, &request).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert_eq!(std::fs::read(files.join("deep/er/noise")).unwrap(), good);
    assert_eq!(std::fs::read(files.join("a.txt")).unwrap(), b"keep me");
    assert_eq!(std::fs::read(files.join("deep/extra")).unwrap(), b"keep me too");
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_and_exported_copies_are_whole_and_the_live_site_is_not_touched() {
    let (store, world) = world().await;
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    let before = world.picture("acme");
    let mut request = restore_request("acme", RestorePoint::At(PointInTime::Latest));
    request.target = RestoreTarget::Beside(site_id("acme-copy"));
    run_restore(&engine, &request).await.unwrap();
    assert_eq!(world.picture("acme-copy"), before);
    assert_eq!(world.picture("acme"), before);
    run_restore(&engine, &request).await.unwrap(); // as after a kill: what is equal stays
    std::fs::write(world.site_dir("acme-copy").join("files/a.txt"), b"somebody's").unwrap();
    let again = run_restore(&engine, &request).await;
    assert!(again.is_err(), "never over something");
    request.target = RestoreTarget::Export(world.root.join("out/deep"));
    let receipt = run_restore(&engine, &request).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert!(world.root.join("out/deep/files/deep/er/noise").exists());
    assert!(world.root.join("out/deep/notes/notes.db").exists());
    assert!(engine.site(&site_id("acme")).await.unwrap().state().snapshots.iter().all(|s| s.mark == Mark::Good));
}

// Explains invariant: plan-first
#[tokio::test(flavor = "multi_thread")]
async fn only_the_approved_plan_runs_and_conflicts_need_more_than_a_yes() {
    let (store, world) = world().await;
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    let request = restore_request("acme", RestorePoint::At(PointInTime::Latest));
    let planned = plan_restore(&engine, &request).await.unwrap();
    let wrong = restore(&engine, &request, planned, &Approval::Hash("0000000000000000".into())).await;
    assert!(wrong.is_err_and(|error| error.to_string().contains("changed")));
    let files = world.site_dir("acme").join("files");
    std::fs::write(files.join("a.txt"), b"bad").unwrap();
    let receipt = restore_latest(&engine, "acme").await.unwrap();
    std::fs::write(files.join("a.txt"), b"written since by somebody").unwrap();
    let refused = undo(&engine, "acme", receipt.restore).await;
    assert!(
        refused.as_ref().is_err_and(|error| error.to_string().contains("changed since the restore")),
        "{refused:?}"
    );
    let request = restore_request("acme", RestorePoint::Undo(receipt.restore));
    let planned = plan_restore(&engine, &request).await.unwrap();
    let hash = planned.plan.hash.clone();
    restore(&engine, &request, planned, &Approval::Hash(hash)).await.unwrap();
    assert_eq!(std::fs::read(files.join("a.txt")).unwrap(), b"bad");
}
