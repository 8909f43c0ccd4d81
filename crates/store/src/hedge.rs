//! Asks a second time for what takes much longer than is usual, and takes the answer that comes first.
//!
//! Of many servers one is slow now and then, and a restore waits for the last answer. Reads alone are asked twice: they
//! change nothing. How long is usual is learnt from the answers before, for each MiB, and one MiB more for the asking; of
//! all reads one in twenty is asked twice at most, so that a store that is slow as a whole is not asked twice as much.
//!
//! What is not here: what failed is tried again by [`crate::Retry`] alone.

use std::future::Future;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::{Error, Listed, ObjectName, Store};

/// Nothing that is faster is asked twice.
const PATIENCE_MIN: Duration = Duration::from_millis(500);
/// Answers until it is known what is usual.
const LEARNT_AFTER: u64 = 16;
/// One of so many is asked twice at most.
const ONE_OF: u64 = 20;
/// What a get of a whole object counts for, as its size is not known before.
const GET_BYTES: u64 = 1 << 20;

/// Asks the store within twice where it is slow.
#[derive(Debug)]
pub struct Hedge<S> {
    store: S,
    usual: Mutex<Usual>,
}

/// How long answers take: mean and mean deviation, as TCP estimates its round trips (RFC 6298).
#[derive(Debug, Default, Clone, Copy)]
struct Usual {
    answers: u64,
    twice: u64,
    /// Seconds for each weight.
    mean: f64,
    deviation: f64,
}

impl Usual {
    fn learn(&mut self, took: Duration, bytes: u64) {
        let pace = took.as_secs_f64() / weight(bytes);
        if self.answers == 0 {
            (self.mean, self.deviation) = (pace, pace / 2.0);
        } else {
            self.deviation += ((pace - self.mean).abs() - self.deviation) / 4.0;
            self.mean += (pace - self.mean) / 8.0;
        }
        self.answers += 1;
    }

    /// After which a read is asked for again; `None`: it is not known yet.
    fn patience(&self, bytes: u64) -> Option<Duration> {
        let seconds = (self.mean + 4.0 * self.deviation) * weight(bytes);
        (self.answers >= LEARNT_AFTER).then(|| Duration::from_secs_f64(seconds).max(PATIENCE_MIN))
    }

    fn may_ask_twice(&mut self) -> bool {
        let may = (self.twice + 1) * ONE_OF <= self.answers + ONE_OF;
        self.twice += u64::from(may);
        may
    }
}

fn weight(bytes: u64) -> f64 {
    1.0 + bytes as f64 / f64::from(1 << 20)
}

impl<S: Store> Hedge<S> {
    pub fn new(store: S) -> Self {
        Self { store, usual: Mutex::default() }
    }

    async fn read<F>(&self, bytes: u64, ask: impl Fn() -> F) -> Result<Bytes, Error>
    where
        F: Future<Output = Result<Bytes, Error>>,
    {
        let (began, patience) = (Instant::now(), self.usual().patience(bytes));
        let answer = match patience {
            Some(patience) => self.read_twice(patience, ask).await,
            None => ask().await,
        };
        if answer.is_ok() {
            self.usual().learn(began.elapsed(), bytes);
        }
        answer
    }

    async fn read_twice<F>(&self, patience: Duration, ask: impl Fn() -> F) -> Result<Bytes, Error>
    where
        F: Future<Output = Result<Bytes, Error>>,
    {
        let mut first = std::pin::pin!(ask());
        tokio::select! {
            answer = &mut first => return answer,
            () = tokio::time::sleep(patience) => {}
        }
        if !self.usual().may_ask_twice() {
            return first.await;
        }
        let mut second = std::pin::pin!(ask());
        // What fails leaves it to the other one.
        tokio::select! {
            answer = &mut first => if answer.is_ok() { answer } else { second.await },
            answer = &mut second => if answer.is_ok() { answer } else { first.await },
        }
    }

    fn usual(&self) -> MutexGuard<'_, Usual> {
        self.usual.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl<S: Store> Store for Hedge<S> {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        self.store.create(name, body).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        self.read(GET_BYTES, || self.store.get(name)).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        self.read(range.end.saturating_sub(range.start), || self.store.get_range(name, range.clone())).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        self.store.list(prefix, after, limit).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
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
