//! Counts what goes to a store and back, and can write it down.
//!
//! One call of the trait is one request, retries included when the meter stands below [`crate::Retry`].
//! What is not here: the extra round trips of a multipart upload or of a listing beyond 1,000 names.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Error, Listed, ObjectName, Store};

/// The five kinds of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    Create,
    Get,
    GetRange,
    List,
    Delete,
}

impl Operation {
    pub const ALL: [Operation; 5] =
        [Operation::Create, Operation::Get, Operation::GetRange, Operation::List, Operation::Delete];

    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "create",
            Operation::Get => "get",
            Operation::GetRange => "get_range",
            Operation::List => "list",
            Operation::Delete => "delete",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Counts up to one moment; [`Usage::since`] gives those between two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub creates: u64,
    pub gets: u64,
    pub range_gets: u64,
    pub lists: u64,
    pub deletes: u64,
    /// Requests that ended in an error, whichever.
    pub failures: u64,
    /// Bytes of objects read.
    pub bytes_in: u64,
    /// Bytes of objects written.
    pub bytes_out: u64,
}

impl Usage {
    pub fn requests(&self) -> u64 {
        self.creates + self.gets + self.range_gets + self.lists + self.deletes
    }

    /// What was used after `earlier`, a snapshot of the same meter.
    pub fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            creates: self.creates.saturating_sub(earlier.creates),
            gets: self.gets.saturating_sub(earlier.gets),
            range_gets: self.range_gets.saturating_sub(earlier.range_gets),
            lists: self.lists.saturating_sub(earlier.lists),
            deletes: self.deletes.saturating_sub(earlier.deletes),
            failures: self.failures.saturating_sub(earlier.failures),
            bytes_in: self.bytes_in.saturating_sub(earlier.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(earlier.bytes_out),
        }
    }
}

/// The counters of one [`Meter`], held by whoever wants to read them.
#[derive(Debug, Default)]
pub struct Meters {
    requests: [AtomicU64; 5],
    failures: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    recording: AtomicBool,
    recorded: Mutex<Vec<(Operation, String)>>,
}

impl Meters {
    pub fn snapshot(&self) -> Usage {
        let count = |operation: Operation| self.requests[operation as usize].load(Ordering::Relaxed);
        Usage {
            creates: count(Operation::Create),
            gets: count(Operation::Get),
            range_gets: count(Operation::GetRange),
            lists: count(Operation::List),
            deletes: count(Operation::Delete),
            failures: self.failures.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }

    /// From now on every request is written down with its object's name, or the prefix of a list.
    /// The list grows without limit: for tests and for `--json` runs of one command.
    pub fn start_recording(&self) {
        self.recording.store(true, Ordering::Relaxed);
    }

    /// What was written down since the start or the last call, in the order of the requests' begin.
    pub fn take_recording(&self) -> Vec<(Operation, String)> {
        std::mem::take(&mut *self.recorded.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self, operation: Operation, name: &str) {
        self.requests[operation as usize].fetch_add(1, Ordering::Relaxed);
        if self.recording.load(Ordering::Relaxed) {
            self.recorded.lock().unwrap_or_else(PoisonError::into_inner).push((operation, name.to_owned()));
        }
    }

    fn end<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

/// Counts the requests to the store within.
#[derive(Debug)]
pub struct Meter<S> {
    store: S,
    meters: Arc<Meters>,
}

impl<S: Store> Meter<S> {
    pub fn new(store: S) -> Self {
        Self { store, meters: Arc::default() }
    }

    pub fn meters(&self) -> Arc<Meters> {
        Arc::clone(&self.meters)
    }

    fn read(&self, result: Result<Bytes, Error>) -> Result<Bytes, Error> {
        if let Ok(body) = &result {
            self.meters.bytes_in.fetch_add(body.len() as u64, Ordering::Relaxed);
        }
        self.meters.end(result)
    }
}

#[async_trait]
impl<S: Store> Store for Meter<S> {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        self.meters.begin(Operation::Create, name.as_str());
        let len = body.len() as u64;
        let result = self.store.create(name, body).await;
        if result.is_ok() {
            self.meters.bytes_out.fetch_add(len, Ordering::Relaxed);
        }
        self.meters.end(result)
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        self.meters.begin(Operation::Get, name.as_str());
        self.read(self.store.get(name).await)
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        self.meters.begin(Operation::GetRange, name.as_str());
        self.read(self.store.get_range(name, range).await)
    }

    async fn holds(&self, name: &ObjectName, body: &Bytes) -> Result<bool, Error> {
        self.meters.begin(Operation::Get, name.as_str());
        let result = self.store.holds(name, body).await;
        if result.is_ok() {
            self.meters.bytes_in.fetch_add(body.len() as u64, Ordering::Relaxed);
        }
        self.meters.end(result)
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        self.meters.begin(Operation::List, prefix);
        self.meters.end(self.store.list(prefix, after, limit).await)
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        self.meters.begin(Operation::Delete, name.as_str());
        self.meters.end(self.store.delete(name).await)
    }

    fn forget(&self, prefix: &str) -> bool {
        self.store.forget(prefix)
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[tokio::test]
    async fn every_request_is_counted_and_can_be_written_down() {
        let meter = Meter::new(MemoryStore::new());
        let meters = meter.meters();
        let name = ObjectName::new("a/b").unwrap();
        meter.create(&name, Bytes::from_static(b"hello")).await.unwrap();
        let before = meters.snapshot();
        meters.start_recording();
        assert!(meter.create(&name, Bytes::from_static(b"again")).await.is_err());
        meter.get(&name).await.unwrap();
        assert!(meter.holds(&name, &Bytes::from_static(b"hello")).await.unwrap());
        meter.get_range(&name, 1..3).await.unwrap();
        meter.list("a/", None, 10).await.unwrap();
        meter.delete(&name).await.unwrap();
        let used = meters.snapshot().since(&before);
        let want =
            Usage { creates: 1, gets: 2, range_gets: 1, lists: 1, deletes: 1, failures: 1, bytes_in: 12, bytes_out: 0 };
        assert_eq!(used, want);
        assert_eq!(used.requests(), 6);
        let names: Vec<String> = meters.take_recording().iter().map(|(op, name)| format!("{op} {name}")).collect();
        assert_eq!(names, ["create a/b", "get a/b", "get a/b", "get_range a/b", "list a/", "delete a/b"]);
        assert!(meters.take_recording().is_empty());
    }
}
