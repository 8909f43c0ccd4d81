//! A store that ends its own process at one operation, as `kill -9` does: nothing is tidied up.

use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use lifeboat_store::{Error, Listed, ObjectName, Store};

/// Ends this process as `kill -9` does.
pub fn kill_myself() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park(); // the signal is on its way
    }
}

/// Kills its own process at one operation.
#[derive(Debug)]
pub struct KillingStore<S> {
    store: S,
    operations: AtomicUsize,
    number: usize,
    is_done: bool,
}

impl<S: Store> KillingStore<S> {
    /// Kills the process at the operation `number` (the first is 1), when it is done or before.
    pub fn new(store: S, number: usize, is_done: bool) -> Self {
        Self { store, operations: AtomicUsize::new(0), number, is_done }
    }

    /// Operations so far.
    pub fn operations(&self) -> usize {
        self.operations.load(Ordering::SeqCst)
    }

    async fn attempt<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let is_last = self.operations.fetch_add(1, Ordering::SeqCst) + 1 == self.number;
        if is_last && !self.is_done {
            kill_myself();
        }
        let result = work.await;
        if is_last {
            kill_myself();
        }
        result
    }
}

#[async_trait]
impl<S: Store> Store for KillingStore<S> {
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
