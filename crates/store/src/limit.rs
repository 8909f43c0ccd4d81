//! Bounds how much is asked of a store at once: requests, and bytes in memory on their way.
//!
//! Waiters are served in the order they came: a large object is not starved by small ones. How many requests a store bears
//! is found out ([`window`]), up to a limit.
//!
//! Each request is a task of its own. A stream that reads ahead asks for several, and leaves them alone while it works on
//! what came: were they polled by it only, they would keep their places for as long, and what that work asks for
//! would wait for them for ever.
//!
//! What is not here: rates per second ([`crate::Pace`]).

use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use crate::{Error, Listed, ObjectName, Store};

mod window;

use window::Window;

/// Permits are counted in this many bytes, so that they fit into 32 bits.
const UNIT_BYTES: u64 = 1024;

/// How much may be under way at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests, where the store bears so many.
    pub connections_max: usize,
    /// Bytes of bodies being sent or received. One body larger than this goes alone.
    pub bytes_max: u64,
    /// What a get of a whole object counts for, as its size is not known before.
    pub get_estimate_bytes: u64,
}

impl Default for Limits {
    /// 16 requests fill 10 Gb/s from S3 at 85 MB/s each, and are begun with; 64 MiB leave half of a restore's memory
    /// budget to decoding.
    fn default() -> Self {
        Self { connections_max: 64, bytes_max: 64 << 20, get_estimate_bytes: 1 << 20 }
    }
}

/// Lets only so much through at once. Must be used on a runtime of tokio.
#[derive(Debug)]
pub struct Limit<S> {
    within: Arc<Within<S>>,
    get_estimate_bytes: u64,
}

/// The store, and the places there are before it.
#[derive(Debug)]
struct Within<S> {
    store: S,
    connections: Semaphore,
    window: Mutex<Allowed>,
    bytes: Semaphore,
    units_max: u32,
}

/// The window, and the permits there are for it: those to be taken back may all be out.
#[derive(Debug)]
struct Allowed {
    window: Window,
    permits: usize,
}

/// What one request holds until it ends.
struct Slot<'a> {
    _bytes: SemaphorePermit<'a>,
    _connection: SemaphorePermit<'a>,
    began: Instant,
    len: u64,
}

impl<S: Store + 'static> Limit<S> {
    pub fn new(store: S, limits: Limits) -> Self {
        let units_max = units(limits.bytes_max).max(1);
        let window = Window::new(limits.connections_max.clamp(1, Semaphore::MAX_PERMITS));
        let permits = window.places();
        let within = Within {
            store,
            connections: Semaphore::new(permits),
            window: Mutex::new(Allowed { window, permits }),
            bytes: Semaphore::new(units_max as usize),
            units_max,
        };
        Self { within: Arc::new(within), get_estimate_bytes: limits.get_estimate_bytes }
    }

    /// Makes a request of so many bytes when there is a place for it. It goes on whether or not its caller looks, and
    /// ends when its caller does not want it any more.
    async fn ask<T, F>(&self, bytes: u64, request: impl FnOnce(Arc<Within<S>>) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (within, request) = (Arc::clone(&self.within), request(Arc::clone(&self.within)));
        let asking = async move {
            let slot = within.enter(bytes).await?;
            within.leave(slot, request.await)
        };
        let mut asked = JoinSet::new();
        asked.spawn(asking.in_current_span());
        match asked.join_next().await {
            Some(Ok(answer)) => answer,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(Err(_)) | None => Err(Error::Cancelled), // the runtime ends
        }
    }
}

impl<S> Within<S> {
    /// Bytes first: a connection is never held by somebody who waits.
    async fn enter(&self, bytes: u64) -> Result<Slot<'_>, Error> {
        let units = units(bytes).min(self.units_max);
        let held = self.bytes.acquire_many(units).await;
        let connection = self.connections.acquire().await;
        // The semaphores are never closed; if they were, nothing more would be let through.
        let (held, connection) = (held.map_err(|_| Error::Cancelled)?, connection.map_err(|_| Error::Cancelled)?);
        Ok(Slot { _bytes: held, _connection: connection, began: Instant::now(), len: bytes })
    }

    /// Learns from an answer how many more may be asked for.
    fn leave<T>(&self, slot: Slot<'_>, answer: Result<T, Error>) -> Result<T, Error> {
        let mut allowed = self.allowed();
        match &answer {
            Err(Error::Unavailable { .. }) => allowed.window.refused(),
            _ => allowed.window.answered(slot.began.elapsed(), slot.len, self.connections.available_permits() == 0),
        }
        drop(slot);
        let places = allowed.window.places();
        if places > allowed.permits {
            self.connections.add_permits(places - allowed.permits);
            allowed.permits = places;
        } else {
            allowed.permits -= self.connections.forget_permits(allowed.permits - places);
        }
        answer
    }

    fn allowed(&self) -> MutexGuard<'_, Allowed> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

#[async_trait]
impl<S: Store + 'static> Store for Limit<S> {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        let name = name.clone();
        self.ask(body.len() as u64, |within| async move { within.store.create(&name, body).await }).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        let name = name.clone();
        self.ask(self.get_estimate_bytes, |within| async move { within.store.get(&name).await }).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        let (name, len) = (name.clone(), range.end.saturating_sub(range.start));
        self.ask(len, |within| async move { within.store.get_range(&name, range).await }).await
    }

    async fn holds(&self, name: &ObjectName, body: &Bytes) -> Result<bool, Error> {
        let (name, body) = (name.clone(), body.clone());
        self.ask(body.len() as u64, |within| async move { within.store.holds(&name, &body).await }).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.ask(0, |within| async move { within.store.list(&prefix, after.as_ref(), limit).await }).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        let name = name.clone();
        self.ask(0, |within| async move { within.store.delete(&name).await }).await
    }

    fn forget(&self, prefix: &str) -> bool {
        self.within.store.forget(prefix)
    }

    fn describe(&self) -> String {
        self.within.store.describe()
    }
}

#[cfg(test)]
mod tests;
