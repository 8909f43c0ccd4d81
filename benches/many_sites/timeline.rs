//! A store that answers after a set time and remembers when each request began and ended.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use lifeboat_store::{Error, Listed, MemoryStore, ObjectName, Store};

/// One request: what, and when.
#[derive(Debug, Clone)]
pub struct Request {
    pub what: String,
    pub began: Instant,
    pub ended: Instant,
    pub bytes: u64,
}

/// Clones share the store and what was remembered.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    store: Arc<MemoryStore>,
    latency_micros: Arc<AtomicU64>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Timeline {
    /// From now on every answer takes this long, as one over a network does.
    pub fn set_latency(&self, latency: Duration) {
        self.latency_micros.store(latency.as_micros() as u64, Ordering::Relaxed);
    }

    /// The requests since the last call.
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn timed<T>(
        &self,
        what: String,
        answer: impl Future<Output = Result<T, Error>>,
        len: fn(&T) -> usize,
    ) -> Result<T, Error> {
        let began = Instant::now();
        let latency = self.latency_micros.load(Ordering::Relaxed);
        if latency > 0 {
            tokio::time::sleep(Duration::from_micros(latency)).await;
        }
        let answer = answer.await;
        let bytes = answer.as_ref().map_or(0, len) as u64;
        let request = Request { what, began, ended: Instant::now(), bytes };
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        answer
    }
}

#[async_trait]
impl Store for Timeline {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        self.timed(format!("create {name}"), self.store.create(name, body), |()| 0).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        self.timed(format!("get {name}"), self.store.get(name), Bytes::len).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        self.timed(format!("get_range {name}"), self.store.get_range(name, range), Bytes::len).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        self.timed(format!("list {prefix}"), self.store.list(prefix, after, limit), |_| 0).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        self.timed(format!("delete {name}"), self.store.delete(name), |()| 0).await
    }

    fn forget(&self, prefix: &str) -> bool {
        self.store.forget(prefix)
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}

/// How many of the requests had to wait for one another: the longest run of them in which each
/// began after the one before had ended.
pub fn round_trips(requests: &[Request]) -> usize {
    let mut by_end: Vec<&Request> = requests.iter().collect();
    by_end.sort_by_key(|request| request.ended);
    let mut last: Option<Instant> = None;
    let mut count = 0;
    for request in by_end {
        if last.is_none_or(|last| request.began >= last) {
            last = Some(request.ended);
            count += 1;
        }
    }
    count
}
