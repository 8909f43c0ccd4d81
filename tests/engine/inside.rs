//! A database inside a files part: one directory that two parts write into.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lifeboat_engine::{AnySource, Approval, Engine, Fleet, RestorePoint, RestoreTarget, plan_restore, restore};
use lifeboat_model::{PointInTime, SourceName};
use lifeboat_source::PathTemplate;
use lifeboat_source::files::{Exclusion, FilesSource};
use lifeboat_source::sqlite::SqliteSource;
use lifeboat_store::{MemoryStore, Store};
use lifeboat_testkit::world::{World, backup_all, picture_of, restore_latest, restore_request, site_id, undo};

/// The world's sites as one files part each, `srv/<site>`, with the database in `files/deep` of it.
async fn world() -> (World, Engine) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let world = World::new(store.clone()).await;
    let mut engine = world.engine(store).await.unwrap();
    let srv = world.site_dir("");
    let template = |text: &str| {
        PathTemplate::parse(&format!("{}/{text}", srv.display().to_string().trim_end_matches('/'))).unwrap()
    };
    let name = |text: &str| SourceName::new(text).unwrap();
    let notes = template("{site}/files/deep/notes.db");
    let files = FilesSource::new(name("files"), template("{site}"), vec![Exclusion::Database(notes.clone())]);
    engine.fleet =
        Fleet::new(vec![AnySource::Files(files), AnySource::Sqlite(SqliteSource::new(name("notes"), notes))]);
    for site in ["acme", "beta"] {
        world.make_site(site, 1, 300);
        let dir = world.site_dir(site);
        std::fs::rename(dir.join("notes.db"), dir.join("files/deep/notes.db")).unwrap();
    }
    (world, engine)
}

/// Every path of the site but the database, and the database's rows.
fn picture(site: &Path) -> BTreeMap<String, String> {
    let mut picture = picture_of(&site.join("files"), &site.join("files/deep/notes.db"));
    picture.remove("files/deep/notes.db"); // SQLite's own header counts its writes
    picture
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_site_with_its_database_inside_comes_back_at_once() {
    let (world, engine) = world().await;
    backup_all(&engine).await.unwrap();
    let before = picture(&world.site_dir("acme"));
    std::fs::remove_dir_all(world.site_dir("acme")).unwrap();
    let receipt = restore_latest(&engine, "acme").await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert_eq!(picture(&world.site_dir("acme")), before);
    let second = undo(&engine, "acme", receipt.restore).await.unwrap();
    assert!(!world.site_dir("acme").exists());
    undo(&engine, "acme", second.restore).await.unwrap();
    assert_eq!(picture(&world.site_dir("acme")), before);
    assert_eq!(std::fs::read_dir(world.site_dir("")).unwrap().count(), 2, "staging was left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_written_leaves_the_time_of_its_directory() {
    let (world, engine) = world().await;
    let deep = world.site_dir("acme").join("files/deep");
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    std::fs::File::open(&deep).unwrap().set_modified(long_ago).unwrap();
    backup_all(&engine).await.unwrap();
    let before = picture(&world.site_dir("acme"));
    for is_removed in [true, false] {
        let database = deep.join("notes.db");
        match is_removed {
            true => std::fs::remove_file(&database).unwrap(),
            false => rusqlite::Connection::open(&database).unwrap().execute_batch("DELETE FROM note").unwrap(),
        }
        let mut changed = picture(&world.site_dir("acme"));
        let receipt = restore_latest(&engine, "acme").await.unwrap();
        assert!(receipt.all_passed(), "{:?}", receipt.checks);
        assert_eq!(picture(&world.site_dir("acme")), before, "{is_removed}");
        undo(&engine, "acme", receipt.restore).await.unwrap();
        // A picture opens the database, which may touch the directory of one in another mode.
        let mut undone = picture(&world.site_dir("acme"));
        assert_eq!(changed.remove("notes.db"), undone.remove("notes.db"), "{is_removed}");
        assert_eq!(changed, undone, "{is_removed}");
        restore_latest(&engine, "acme").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_writes_where_nothing_is_and_nowhere_else() {
    let (world, engine) = world().await;
    backup_all(&engine).await.unwrap();
    let beside = |name: &str| {
        let mut request = restore_request("acme", RestorePoint::At(PointInTime::Latest));
        request.target = RestoreTarget::Beside(site_id(name));
        request
    };
    let (acme, beta) = (picture(&world.site_dir("acme")), picture(&world.site_dir("beta")));
    let refused = plan_restore(&engine, &beside("beta")).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("something else already")));
    assert_eq!(picture(&world.site_dir("beta")), beta);
    // The second time stands for the same command after a kill: what is there already is kept.
    for _ in 0..2 {
        let planned = plan_restore(&engine, &beside("copy")).await.unwrap();
        let receipt = restore(&engine, &beside("copy"), planned, &Approval::Yes).await.unwrap();
        assert!(receipt.all_passed(), "{:?}", receipt.checks);
        assert_eq!(picture(&world.site_dir("copy")), acme);
        std::fs::remove_file(world.site_dir("copy").join("files/deep/notes.db")).unwrap();
    }
    std::fs::write(world.site_dir("copy").join("files/mine"), "not the snapshot's").unwrap();
    assert!(plan_restore(&engine, &beside("copy")).await.is_err());

    let export = world.site_dir("").parent().unwrap().join("export");
    let mut request = restore_request("acme", RestorePoint::At(PointInTime::Latest));
    request.target = RestoreTarget::Export(export.clone());
    std::fs::create_dir(&export).unwrap();
    std::fs::write(export.join("mine"), "somebody's").unwrap();
    assert!(plan_restore(&engine, &request).await.is_err());
    std::fs::remove_file(export.join("mine")).unwrap();
    assert!(plan_restore(&engine, &request).await.is_ok());
}
