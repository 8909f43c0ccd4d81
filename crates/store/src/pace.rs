//! Bounds how fast objects are read from a store, and written to it, in bytes per second: a token bucket.
//!
//! ```text
//! paid ──────────▶ time      a read begins when all before it are paid; its own bytes move `paid` on
//! ```
//!
//! Of what nobody used, one second's worth is kept. A read whose length is known is paid when it begins, one of a whole
//! object when it has come: whoever reads next waits for both. Stands around [`crate::Retry`] and [`crate::Limit`]: who
//! waits here holds no connection, and is not taken for a store that is slow. A read that is tried again counts once. Once it
//! is to end nobody waits any more: what is under way is read to its end, so that what was begun is closed.
//!
//! Several stores may draw on one [`Allowance`], as the jobs of a daemon do; only then what is written counts, too: a recovery
//! writes little to the store, a backup little else.
//!
//! What is not here: what is listed and deleted, which is not bounded.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::{Error, Listed, ObjectName, Store};

/// So much of what was not used may be used later.
const KEPT: Duration = Duration::from_secs(1);
/// How soon who waits sees that it is to end.
const POLL: Duration = Duration::from_millis(100);

/// So many bytes a second, for all who draw on it.
#[derive(Debug)]
pub struct Allowance {
    bytes_per_second: f64,
    /// When all that was read so far is paid.
    paid: Mutex<Instant>,
}

impl Allowance {
    /// `bytes_per_second` is at least 1.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1) as f64, paid: Mutex::new(Instant::now()) }
    }

    /// Pays for so many bytes, and gives when the others' are paid.
    fn pay(&self, bytes: u64) -> Instant {
        let now = Instant::now();
        let oldest = now.checked_sub(KEPT).unwrap_or(now);
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let before = (*paid).max(oldest);
        *paid = before + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        before
    }
}

/// Lets only so many bytes a second out of the store within, of all who read from it together.
#[derive(Debug)]
pub struct Pace<S> {
    store: S,
    allowance: Arc<Allowance>,
    counts_writes: bool,
    /// Set by whoever wants it to end.
    stop: Arc<AtomicBool>,
}

impl<S: Store> Pace<S> {
    /// `bytes_per_second` is at least 1.
    pub fn new(store: S, bytes_per_second: u64, stop: Arc<AtomicBool>) -> Self {
        Self { store, allowance: Arc::new(Allowance::new(bytes_per_second)), counts_writes: false, stop }
    }

    /// Draws on the same allowance as others, for what is written, too.
    pub fn sharing(store: S, allowance: Arc<Allowance>, stop: Arc<AtomicBool>) -> Self {
        Self { store, allowance, counts_writes: true, stop }
    }

    fn pay(&self, bytes: u64) -> Instant {
        self.allowance.pay(bytes)
    }

    /// Returns when a read of so many bytes may begin.
    async fn wait_for(&self, bytes: u64) {
        let begin = self.pay(bytes);
        while Instant::now() < begin && !self.stop.load(Ordering::Relaxed) {
            tokio::time::sleep_until(begin.min(Instant::now() + POLL)).await;
        }
    }
}

#[async_trait]
impl<S: Store> Store for Pace<S> {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        if self.counts_writes {
            self.wait_for(body.len() as u64).await;
        }
        self.store.create(name, body).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        self.wait_for(0).await;
        let body = self.store.get(name).await?;
        self.pay(body.len() as u64);
        Ok(body)
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        self.wait_for(range.end.saturating_sub(range.start)).await;
        self.store.get_range(name, range).await
    }

    async fn holds(&self, name: &ObjectName, body: &Bytes) -> Result<bool, Error> {
        self.wait_for(body.len() as u64).await;
        self.store.holds(name, body).await
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
mod tests {
    use super::*;
    use crate::MemoryStore;

    const LEN: u64 = 100;

    fn name() -> ObjectName {
        ObjectName::new("object").unwrap()
    }

    /// A store that gives one object of [`LEN`] bytes each second.
    async fn paced() -> Arc<Pace<MemoryStore>> {
        let pace = Pace::new(MemoryStore::new(), LEN, Arc::default());
        pace.create(&name(), Bytes::from(vec![7; LEN as usize])).await.unwrap();
        Arc::new(pace)
    }

    #[derive(Clone, Copy)]
    enum Way {
        Get,
        Range,
        Holds,
    }

    /// How long so many reads side by side take, in seconds.
    async fn seconds(pace: &Arc<Pace<MemoryStore>>, way: Way, reads: usize) -> f64 {
        let began = Instant::now();
        let read = |pace: Arc<Pace<MemoryStore>>| async move {
            match way {
                Way::Get => assert_eq!(pace.get(&name()).await.unwrap().len() as u64, LEN),
                Way::Range => assert_eq!(pace.get_range(&name(), 0..LEN).await.unwrap().len() as u64, LEN),
                Way::Holds => assert!(pace.holds(&name(), &Bytes::from(vec![7; LEN as usize])).await.unwrap()),
            }
        };
        let all: Vec<_> = (0..reads).map(|_| tokio::spawn(read(Arc::clone(pace)))).collect();
        for one in all {
            one.await.unwrap();
        }
        began.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn readers_together_are_no_faster_than_the_rate() {
        for way in [Way::Range, Way::Holds] {
            let took = seconds(&paced().await, way, 30).await;
            assert!((28.0..=30.0).contains(&took), "{took}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whole_objects_are_paid_when_they_have_come() {
        let pace = paced().await;
        let mut took = 0.0;
        for _ in 0..30 {
            took += seconds(&pace, Way::Get, 1).await;
        }
        assert!((28.0..=30.0).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_hour_is_worth_one_second() {
        let pace = paced().await;
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        let took = seconds(&pace, Way::Range, 30).await;
        assert!((28.0..=29.0).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_written_or_listed_waits_for_nobody() {
        let pace = paced().await;
        assert_eq!(seconds(&pace, Way::Get, 1).await, 0.0);
        pace.pay(60 * LEN);
        let began = Instant::now();
        pace.create(&ObjectName::new("other").unwrap(), Bytes::from(vec![0; 1 << 16])).await.unwrap();
        assert_eq!(pace.list("", None, 10).await.unwrap().len(), 2);
        pace.delete(&name()).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_to_end_waits_for_nothing_any_more() {
        let pace = paced().await;
        let stop = Arc::clone(&pace.stop);
        let stops = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            stop.store(true, Ordering::Relaxed);
        });
        let took = seconds(&pace, Way::Range, 3_600).await;
        stops.await.unwrap();
        assert!((5.0..6.0).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_shares_an_allowance_waits_for_what_others_read_and_write() {
        let allowance = Arc::new(Allowance::new(LEN));
        let store = || Pace::sharing(MemoryStore::new(), Arc::clone(&allowance), Arc::default());
        let (one, other) = (store(), store());
        let body = Bytes::from(vec![7; 10 * LEN as usize]);
        let began = Instant::now();
        one.create(&name(), body.clone()).await.unwrap();
        other.create(&name(), body).await.unwrap();
        assert!(began.elapsed() >= Duration::from_secs(8), "{:?}", began.elapsed());
    }
}
