//! What a verb asks of the store: only what is the site's own, and no more when the fleet grows.

use std::sync::Arc;

use lifeboat_format::names;
use lifeboat_model::{CommitEvent, HoldId, HoldReason, Timestamp};
use lifeboat_store::{MemoryStore, Operation, Store};
use lifeboat_testkit::fault_store::{Call, FaultStore};
use lifeboat_testkit::world::{World, backup_all, restore_latest, site_id};

/// Restores one of `sites` sites that was deleted, and gives every request from opening the
/// repository on.
async fn requests_of_a_restore(sites: usize) -> Vec<Call> {
    let store = FaultStore::new(MemoryStore::new());
    let faults = store.faults();
    let store: Arc<dyn Store> = Arc::new(store);
    let world = World::new(store.clone()).await;
    world.make_site("acme", 1, 2000);
    world.make_site("beta", 2, 10);
    let mut engine = world.engine(store.clone()).await.unwrap();
    engine.ingest.workers = 1; // each worker fills a pack of its own: one makes their number the same
    backup_all(&engine).await.unwrap();
    for number in 2..sites {
        // A site is there for the store as soon as it has a key and a commit.
        let mut other = engine.repository.site_for_backup(&site_id(&format!("other-{number}")), None).await.unwrap();
        let hold = lifeboat_model::Hold {
            id: HoldId([1; 8]),
            reason: HoldReason::Asked,
            note: String::new(),
            placed_at: Timestamp(0),
        };
        other.commit(&lifeboat_engine::this_process(), |_, _| Ok(CommitEvent::HoldPlaced(hold.clone()))).await.unwrap();
    }
    std::fs::remove_dir_all(world.site_dir("acme")).unwrap();
    let from = faults.count();
    let engine = world.engine(store).await.unwrap();
    let handle = engine.repository.handle_of(&site_id("acme"));
    assert!(restore_latest(&engine, "acme").await.unwrap().all_passed());
    let calls = faults.calls().split_off(from);
    let own = [names::site_prefix(&handle), names::site_keys_prefix(&handle), names::ROOT_KEYS_PREFIX.to_owned()];
    for call in &calls {
        let is_own = call.name == names::CONFIG || own.iter().any(|prefix| call.name.starts_with(prefix));
        assert!(is_own, "a restore asked for what is not the site's own: {call:?}");
    }
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_asks_only_for_its_own_and_as_little_among_many_sites_as_among_two() {
    let many = if std::env::var_os("LIFEBOAT_TEST_FULL").is_some() { 2000 } else { 300 };
    let (few, many) = (requests_of_a_restore(2).await, requests_of_a_restore(many).await);
    assert_eq!(few.len(), many.len(), "{few:#?}\n{many:#?}");
    let data = few.iter().position(|call| call.name.contains("/pack/")).unwrap();
    println!("{} requests, {} before the first pack", few.len(), data);
    let undo =
        few.iter().position(|call| call.operation == Operation::Create && call.name.contains("/manifest/")).unwrap();
    assert!(data < undo, "the first chunks are on their way before the undo is kept: {few:#?}");
}
