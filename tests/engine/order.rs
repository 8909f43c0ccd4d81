//! The order in which things become durable: the promises a crash is measured against.

use std::sync::Arc;

use lifeboat_store::{Error, MemoryStore, ObjectName, Operation, Store};
use lifeboat_testkit::fault_store::{Call, Damage, Failure, FaultStore, Faults};
use lifeboat_testkit::world::{World, backup_all, restore_latest};

async fn world() -> (Arc<dyn Store>, Arc<Faults>, World) {
    let store = FaultStore::new(MemoryStore::new());
    let faults = store.faults();
    let store: Arc<dyn Store> = Arc::new(store);
    let world = World::new(store.clone()).await;
    world.make_site("acme", 1, 2000);
    (store, faults, world)
}

fn place(calls: &[Call], operation: Operation, part: &str) -> Vec<usize> {
    let hit = |call: &Call| call.operation == operation && call.name.contains(part);
    (0..calls.len()).filter(|at| hit(&calls[*at])).collect()
}

// Explains invariant: commit-last
#[tokio::test(flavor = "multi_thread")]
async fn everything_a_commit_names_was_created_and_read_back_before_it() {
    let (store, faults, world) = world().await;
    let engine = world.engine(store).await.unwrap();
    let from = faults.count();
    backup_all(&engine).await.unwrap();
    let calls = faults.calls().split_off(from);
    let commit = place(&calls, Operation::Create, "/commit/")[0];
    for kind in ["/pack/", "/index/", "/manifest/"] {
        let created = place(&calls, Operation::Create, kind);
        let read = place(&calls, Operation::Get, kind);
        assert!(!created.is_empty() && created.iter().all(|at| *at < commit), "{kind}");
        assert!(read.len() >= created.len() && read.iter().all(|at| *at < commit), "{kind}");
    }
    let packs = place(&calls, Operation::Get, "/pack/");
    assert!(packs.iter().max() < place(&calls, Operation::Create, "/manifest/").iter().min());
}

// Explains invariant: undo-first
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_cannot_keep_its_undo_changes_nothing() {
    let (store, faults, world) = world().await;
    let engine = world.engine(store).await.unwrap();
    backup_all(&engine).await.unwrap();
    std::fs::write(world.site_dir("acme").join("files/a.txt"), b"damaged").unwrap();
    world.write_rows("acme", 7, 3);
    let damaged = world.picture("acme");
    // Find which operation creates the undo's commit: the second commit of a restore.
    let from = faults.count();
    let probe = restore_latest(&engine, "acme").await.unwrap();
    let calls = faults.calls().split_off(from);
    let undo_commit = place(&calls, Operation::Create, "/commit/")[1];
    lifeboat_testkit::world::undo(&engine, "acme", probe.restore).await.unwrap();
    assert_eq!(world.picture("acme"), damaged);
    // The store is well again right after: nothing else keeps the restore from going on.
    let full = Error::Full { detail: "no space left on device".into() };
    faults.at_next(undo_commit + 1, Failure::Error(full));
    assert!(restore_latest(&engine, "acme").await.is_err());
    assert_eq!(world.picture("acme"), damaged);
    assert!(restore_latest(&engine, "acme").await.is_ok());
    assert_ne!(world.picture("acme"), damaged);
}

// Explains invariant: verified-or-not-done
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_chunk_ends_the_restore_with_the_live_site_untouched() {
    let (store, faults, world) = world().await;
    let engine = world.engine(store.clone()).await.unwrap();
    backup_all(&engine).await.unwrap();
    std::fs::remove_file(world.site_dir("acme").join("files/deep/er/noise")).unwrap();
    world.write_rows("acme", 7, 3);
    let live = world.picture("acme");
    let packs = faults.calls().into_iter().filter(|call| call.name.contains("/pack/")).map(|call| call.name);
    for pack in packs {
        faults.damage(&ObjectName::new(pack).unwrap(), Damage::Flip { at: 200_000, mask: 1 });
    }
    let error = restore_latest(&engine, "acme").await.unwrap_err();
    assert_eq!(lifeboat_model::Faulty::fault(&error), lifeboat_model::Fault::Damage, "{error}");
    assert!(error.to_string().contains("entry=`files/deep/er/noise`"), "{error}");
    assert_eq!(world.picture("acme"), live);
}
