//! A bucket in memory, for tests.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use lifeboat_model::Timestamp;

use crate::object::is_prefix;
use crate::{Error, Listed, ObjectName, Store};

/// Objects in a map. Everything is "durable" at once; for power loss see the testkit's crash disk.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<ObjectName, Kept>>,
    /// What it says the time is; `None`: the host's clock.
    clock: Mutex<Option<Timestamp>>,
}

#[derive(Debug, Clone)]
struct Kept {
    body: Bytes,
    modified: Timestamp,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    /// Every object, in byte order: for tests that compare or damage whole repositories.
    pub fn objects(&self) -> BTreeMap<ObjectName, Bytes> {
        self.lock().iter().map(|(name, kept)| (name.clone(), kept.body.clone())).collect()
    }

    /// Sets the clock by which objects are created from now on.
    pub fn set_clock(&self, now: Timestamp) {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Puts an object in place of whatever is there; no [`Store`] can.
    pub fn replace(&self, name: &ObjectName, body: Bytes) {
        let kept = self.kept(body);
        self.lock().insert(name.clone(), kept);
    }

    fn kept(&self, body: Bytes) -> Kept {
        let clock = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        Kept { body, modified: clock.unwrap_or_else(Timestamp::now) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Kept>> {
        // Every change is one map operation: a panic elsewhere leaves the map whole.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        let kept = self.kept(body);
        let mut objects = self.lock();
        if objects.contains_key(name) {
            return Err(Error::AlreadyExists { name: name.to_string() });
        }
        objects.insert(name.clone(), kept);
        Ok(())
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        self.lock().get(name).map(|kept| kept.body.clone()).ok_or_else(|| Error::NotFound { name: name.to_string() })
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        let body = self.get(name).await?;
        let len = body.len() as u64;
        if range.end > len {
            return Err(Error::Truncated { name: name.to_string(), wanted: range.end, len });
        }
        // Both ends lie within a body in memory, so they fit.
        Ok(body.slice(range.start.min(range.end) as usize..range.end as usize))
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        if !is_prefix(prefix) {
            return Ok(Vec::new());
        }
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let objects = self.lock();
        let found = objects.range::<ObjectName, _>((start, Bound::Unbounded));
        let found = found.filter(|(name, _)| name.as_str().starts_with(prefix)).take(limit);
        let listed = |(name, kept): (&ObjectName, &Kept)| Listed {
            name: name.clone(),
            len: kept.body.len() as u64,
            modified: Some(kept.modified),
        };
        Ok(found.map(listed).collect())
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        self.lock().remove(name);
        Ok(())
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}
