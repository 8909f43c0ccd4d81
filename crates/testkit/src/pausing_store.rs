//! A store that stops before one operation until the test lets it go on, so that something else can
//! happen exactly there.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use lifeboat_store::{Error, Listed, ObjectName, Store};
use tokio::sync::Semaphore;

/// Pauses before the operation `number` (the first is 1).
#[derive(Debug)]
pub struct PausingStore<S> {
    store: S,
    number: usize,
    operations: AtomicUsize,
    pause: Arc<Pause>,
}

/// The test's side of a pause.
#[derive(Debug)]
pub struct Pause {
    /// Closed when the operation will not come any more.
    reached: Semaphore,
    go_on: Semaphore,
}

impl Pause {
    /// Returns when the operation is about to begin; false when it will not come.
    pub async fn reached(&self) -> bool {
        self.reached.acquire().await.is_ok()
    }

    /// What was to be held has ended.
    pub fn ended(&self) {
        self.reached.close();
    }

    pub fn go_on(&self) {
        self.go_on.add_permits(1);
    }
}

impl<S: Store> PausingStore<S> {
    pub fn new(store: S, number: usize) -> Self {
        let pause = Pause { reached: Semaphore::new(0), go_on: Semaphore::new(0) };
        Self { store, number, operations: AtomicUsize::new(0), pause: Arc::new(pause) }
    }

    pub fn pause(&self) -> Arc<Pause> {
        self.pause.clone()
    }

    async fn attempt<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        if self.operations.fetch_add(1, Ordering::SeqCst) + 1 == self.number {
            self.pause.reached.add_permits(1);
            let _ = self.pause.go_on.acquire().await;
        }
        work.await
    }
}

#[async_trait]
impl<S: Store> Store for PausingStore<S> {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        self.attempt(self.store.create(name, body)).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        self.attempt(self.store.get(name)).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        self.attempt(self.store.get_range(name, range)).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        self.attempt(self.store.list(prefix, after, limit)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        self.attempt(self.store.delete(name)).await
    }

    fn forget(&self, prefix: &str) -> bool {
        self.store.forget(prefix)
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}
