//! The one place that tries again.
//!
//! Only errors whose fault is [`Fault::Retry`] are tried again, after a random part of an
//! exponentially growing delay ("full jitter"), at least as long as the store asked for, and within
//! a number of attempts and a total time.
//!
//! A create that failed unclearly may have taken effect; when a later attempt hears that the object
//! exists, it is read back: equal bytes are ours. Two creators of the same bytes would both win, so
//! whatever a sequence is decided by carries a random nonce.
//!
//! Invariant (one-retry): no other code repeats a request that failed.

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lifeboat_model::{Fault, Faulty};
use tokio::time::Instant;

use crate::{Error, Listed, ObjectName, Store};

/// How long and how often to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included.
    pub attempts_max: u32,
    /// No attempt begins later than this after the first.
    pub total_max: Duration,
    /// The longest delay before the second attempt; doubled for each one after it.
    pub delay_first: Duration,
    pub delay_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 10,
            total_max: Duration::from_secs(180),
            delay_first: Duration::from_millis(200),
            delay_max: Duration::from_secs(20),
        }
    }
}

impl RetryPolicy {
    /// The longest delay before attempt `next` (the second is 2).
    fn delay_ceiling(&self, next: u32) -> Duration {
        let doublings = next.saturating_sub(2).min(30);
        self.delay_first.saturating_mul(1 << doublings).min(self.delay_max)
    }
}

/// Tries again what failed in passing.
#[derive(Debug)]
pub struct Retry<S> {
    store: S,
    policy: RetryPolicy,
}

impl<S: Store> Retry<S> {
    pub fn new(store: S, policy: RetryPolicy) -> Self {
        Self { store, policy }
    }

    async fn again<T, F>(&self, what: &str, name: &str, mut attempt: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut attempts = Attempts::new(self.policy);
        loop {
            match attempt().await {
                Err(error) if error.fault() == Fault::Retry => attempts.wait_after(error, what, name).await?,
                other => return other,
            }
        }
    }

    /// An earlier attempt may have been the one that created the object.
    async fn was_it_us(&self, name: &ObjectName, body: &Bytes) -> Result<(), Error> {
        let exists = || Error::AlreadyExists { name: name.to_string() };
        match self.get(name).await {
            Ok(there) if there == *body => Ok(()),
            Ok(_) => Err(exists()),
            // Created by somebody and gone again: not ours to judge.
            Err(Error::NotFound { .. }) => Err(exists()),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl<S: Store> Store for Retry<S> {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        let mut attempts = Attempts::new(self.policy);
        loop {
            match self.store.create(name, body.clone()).await {
                Err(Error::AlreadyExists { .. }) if attempts.failed > 0 => return self.was_it_us(name, &body).await,
                Err(error) if error.fault() == Fault::Retry => {
                    attempts.wait_after(error, "create", name.as_str()).await?;
                }
                other => return other,
            }
        }
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        self.again("get", name.as_str(), || self.store.get(name)).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        self.again("get_range", name.as_str(), || self.store.get_range(name, range.clone())).await
    }

    async fn holds(&self, name: &ObjectName, body: &Bytes) -> Result<bool, Error> {
        self.again("get", name.as_str(), || self.store.holds(name, body)).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        self.again("list", prefix, || self.store.list(prefix, after, limit)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        self.again("delete", name.as_str(), || self.store.delete(name)).await
    }

    fn forget(&self, prefix: &str) -> bool {
        self.store.forget(prefix)
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}

/// From this failed attempt of one request on, a person is told that it is being tried again.
const TOLD_AFTER: u32 = 3;

/// The attempts at one request so far.
struct Attempts {
    policy: RetryPolicy,
    began: Instant,
    failed: u32,
}

impl Attempts {
    fn new(policy: RetryPolicy) -> Self {
        Self { policy, began: Instant::now(), failed: 0 }
    }

    /// Returns when it is time for the next attempt, or gives the error back when there is none.
    async fn wait_after(&mut self, error: Error, what: &str, name: &str) -> Result<(), Error> {
        self.failed += 1;
        if self.failed >= self.policy.attempts_max {
            return Err(error);
        }
        let asked = match &error {
            Error::Unavailable { after, .. } => after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let delay = full_jitter(self.policy.delay_ceiling(self.failed + 1)).max(asked);
        if self.began.elapsed() + delay > self.policy.total_max {
            return Err(error);
        }
        if self.failed == TOLD_AFTER {
            tracing::warn!(what, attempt = self.failed, %error, "the store fails; still trying");
        }
        tracing::debug!(what, name, attempt = self.failed, ?delay, %error, "trying again");
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

/// Anything from nothing to `ceiling`, evenly: clients that failed together do not come back together.
fn full_jitter(ceiling: Duration) -> Duration {
    let mut random = [0; 4];
    // Without random numbers the longest delay is the safe one.
    let part = match getrandom::fill(&mut random) {
        Ok(()) => f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    };
    ceiling.mul_f64(part)
}

#[cfg(test)]
mod tests;
