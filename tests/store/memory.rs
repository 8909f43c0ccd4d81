//! The store in memory, bare and wrapped.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lifeboat_store::{
    Cache, CacheOptions, Error, Hedge, Limit, Limits, MemoryStore, Meter, Operation, Pace, Remember, Remembered, Retry,
    RetryPolicy, Store,
};
use lifeboat_testkit::conformance::{self, Order, name};
use lifeboat_testkit::fault_store::{Damage, Failure, FaultStore};

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_every_promise() {
    conformance::run(Arc::new(MemoryStore::new()), Order::Bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrappers_keep_every_promise() {
    let dir = tempfile::tempdir().unwrap();
    let inner = Meter::new(FaultStore::new(MemoryStore::new()));
    let store = Retry::new(Limit::new(inner, Limits::default()), RetryPolicy::default());
    let options = CacheOptions { namespace: "test".into(), bytes_max: 64 << 20, accept: Arc::new(|_| true) };
    let paced = Pace::new(store, 1 << 40, Arc::default());
    let remembering = Remember::new(paced, Arc::new(Remembered::new("", 1 << 20)));
    conformance::run(Arc::new(Cache::new(remembering, dir.path(), options)), Order::Bytes).await;
}

#[test]
fn whatever_stands_around_a_memory_passes_on_that_it_is_to_forget() {
    let dir = tempfile::tempdir().unwrap();
    let inner = Remember::new(MemoryStore::new(), Arc::new(Remembered::new("log/", 1 << 20)));
    let inner = Meter::new(FaultStore::new(inner));
    let store = Retry::new(Limit::new(Hedge::new(inner), Limits::default()), RetryPolicy::default());
    let options = CacheOptions { namespace: "test".into(), bytes_max: 64 << 20, accept: Arc::new(|_| true) };
    let store = Cache::new(Pace::new(store, 1 << 40, Arc::default()), dir.path(), options);
    assert!(Arc::new(store).forget("log/app/"));
}

fn body() -> Bytes {
    Bytes::from_static(b"0123456789")
}

#[tokio::test(start_paused = true)]
async fn a_fault_store_fails_exactly_where_it_is_told() {
    let store = FaultStore::new(MemoryStore::new());
    let faults = store.faults();
    faults.at(2, Failure::Error(Error::Full { detail: "disk".into() }));
    store.create(&name("a"), body()).await.unwrap();
    assert!(matches!(store.create(&name("b"), body()).await, Err(Error::Full { .. })));
    assert!(matches!(store.get(&name("b")).await, Err(Error::NotFound { .. })), "it took no effect");
    faults.at_next(1, Failure::Unclear);
    assert!(matches!(store.create(&name("b"), body()).await, Err(Error::Unavailable { .. })));
    assert_eq!(store.get(&name("b")).await.unwrap(), body(), "it took effect");
    let calls: Vec<String> = faults.calls().iter().map(|call| format!("{} {}", call.operation, call.name)).collect();
    assert_eq!(calls, ["create a", "create b", "get b", "create b", "get b"]);
    assert_eq!(faults.calls()[0].operation, Operation::Create);
}

#[tokio::test]
async fn after_a_kill_nothing_is_done_any_more() {
    for (failure, has_effect) in [(Failure::KillBefore, false), (Failure::KillAfter, true)] {
        let store = FaultStore::new(MemoryStore::new());
        let faults = store.faults();
        faults.at(1, failure);
        assert!(matches!(store.create(&name("a"), body()).await, Err(Error::Cancelled)));
        assert!(faults.is_killed());
        assert!(matches!(store.create(&name("b"), body()).await, Err(Error::Cancelled)));
        assert!(matches!(store.list("", None, 10).await, Err(Error::Cancelled)));
        faults.heal();
        let left = store.list("", None, 10).await.unwrap();
        assert_eq!(left.len(), usize::from(has_effect));
    }
}

#[tokio::test]
async fn damage_is_what_every_read_sees() {
    let store = FaultStore::new(MemoryStore::new());
    let faults = store.faults();
    store.create(&name("a"), body()).await.unwrap();
    store.create(&name("b"), Bytes::from_static(b"other")).await.unwrap();
    faults.damage(&name("a"), Damage::Flip { at: 3, mask: 1 });
    assert_eq!(store.get(&name("a")).await.unwrap(), &b"0122456789"[..]);
    assert_eq!(store.get_range(&name("a"), 2..4).await.unwrap(), &b"22"[..]);
    faults.damage(&name("a"), Damage::Truncate { len: 4 });
    assert_eq!(store.get(&name("a")).await.unwrap(), &b"0123"[..]);
    assert!(matches!(store.get_range(&name("a"), 2..5).await, Err(Error::Truncated { len: 4, .. })));
    assert_eq!(store.list("", None, 1).await.unwrap()[0].len, 4);
    faults.damage(&name("a"), Damage::SwapWith(name("b")));
    assert_eq!(store.get(&name("a")).await.unwrap(), &b"other"[..]);
    faults.damage(&name("a"), Damage::Drop);
    assert!(matches!(store.get(&name("a")).await, Err(Error::NotFound { .. })));
    let listed = store.list("", None, 1).await.unwrap();
    assert_eq!(listed.iter().map(|listed| &listed.name).collect::<Vec<_>>(), [&name("b")]);
    faults.heal();
    assert_eq!(store.get(&name("a")).await.unwrap(), body());
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_at_any_operation_changes_nothing_for_the_caller() {
    for operation in 1..=6 {
        let inner = FaultStore::new(MemoryStore::new());
        inner.faults().at(operation, Failure::Unclear);
        let policy = RetryPolicy { delay_first: Duration::from_millis(1), ..RetryPolicy::default() };
        let store = Retry::new(inner, policy);
        store.create(&name("a"), body()).await.unwrap();
        assert_eq!(store.get(&name("a")).await.unwrap(), body());
        assert_eq!(store.get_range(&name("a"), 0..3).await.unwrap(), body().slice(0..3));
        assert_eq!(store.list("", None, 9).await.unwrap().len(), 1);
        store.delete(&name("a")).await.unwrap();
        assert!(store.list("", None, 9).await.unwrap().is_empty());
    }
}
