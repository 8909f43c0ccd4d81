//! Keeps copies of small objects on the local disk.
//!
//! Objects are written once, so a copy can only be right, damaged or gone: each carries a SHA-256
//! of its name and bytes, and one that does not match is thrown away and read from the store again.
//! Nothing that happens to the cache fails an operation.
//!
//! A cached object hides that the store lost it: give the cache neither what a check reads nor
//! anything whose absence is news. Wrapped keys are never cached, whatever the predicate says: a
//! destroyed key must not live on here.

mod shelf;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Error, Listed, ObjectName, Store};
use shelf::Shelf;

/// Which objects to keep, by name.
pub type CachePredicate = Arc<dyn Fn(&ObjectName) -> bool + Send + Sync>;

/// Where and what to keep.
#[derive(Clone)]
pub struct CacheOptions {
    /// Tells repositories apart that share a directory: the repository's id.
    pub namespace: String,
    /// All copies together; the oldest go first.
    pub bytes_max: u64,
    pub accept: CachePredicate,
}

impl fmt::Debug for CacheOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheOptions")
            .field("namespace", &self.namespace)
            .field("bytes_max", &self.bytes_max)
            .finish_non_exhaustive()
    }
}

/// Serves some objects from a local directory.
#[derive(Debug)]
pub struct Cache<S> {
    store: S,
    options: CacheOptions,
    shelf: Arc<Shelf>,
}

impl<S: Store> Cache<S> {
    /// `dir` is made when the first copy is kept.
    pub fn new(store: S, dir: &Path, options: CacheOptions) -> Self {
        let shelf = Arc::new(Shelf::new(dir, &options.namespace, options.bytes_max));
        Self { store, options, shelf }
    }

    fn accepts(&self, name: &ObjectName) -> bool {
        !name.as_str().starts_with("keys/") && (self.options.accept)(name)
    }

    async fn look_up(&self, name: &ObjectName) -> Option<Bytes> {
        if !self.accepts(name) {
            return None;
        }
        let name = name.clone();
        self.on_shelf(move |shelf| shelf.get(&name)).await.flatten()
    }

    async fn keep(&self, name: &ObjectName, body: &Bytes) {
        if self.accepts(name) {
            let (name, body) = (name.clone(), body.clone());
            self.on_shelf(move |shelf| shelf.put(&name, &body)).await;
        }
    }

    async fn on_shelf<T: Send + 'static>(&self, work: impl FnOnce(&Shelf) -> T + Send + 'static) -> Option<T> {
        let shelf = Arc::clone(&self.shelf);
        tokio::task::spawn_blocking(move || work(&shelf)).await.ok()
    }
}

#[async_trait]
impl<S: Store> Store for Cache<S> {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        self.store.create(name, body.clone()).await?;
        self.keep(name, &body).await;
        Ok(())
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        if let Some(body) = self.look_up(name).await {
            return Ok(body);
        }
        let body = self.store.get(name).await?;
        self.keep(name, &body).await;
        Ok(body)
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        if let Some(body) = self.look_up(name).await {
            let len = body.len() as u64;
            if range.end <= len {
                return Ok(body.slice(range.start.min(range.end) as usize..range.end as usize));
            }
            return Err(Error::Truncated { name: name.to_string(), wanted: range.end, len });
        }
        self.store.get_range(name, range).await
    }

    async fn holds(&self, name: &ObjectName, body: &Bytes) -> Result<bool, Error> {
        // What is asked is what the store has: no copy answers for it.
        self.store.holds(name, body).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        self.store.list(prefix, after, limit).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        let forgotten = name.clone();
        self.on_shelf(move |shelf| shelf.remove(&forgotten)).await;
        self.store.delete(name).await
    }

    fn forget(&self, prefix: &str) -> bool {
        self.store.forget(prefix)
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}

#[cfg(test)]
mod tests;
