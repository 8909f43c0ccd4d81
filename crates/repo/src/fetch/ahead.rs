//! How far reading runs ahead of decoding: as far as it helps, and never beyond the budget.
//!
//! From a near store bytes arrive faster than they are decoded, and what waits for it only takes memory. From a far one much
//! must be under way for the workers never to wait. So it begins small, and doubles whenever a worker had to wait while all
//! that was allowed was under way. It never shrinks: a restore is short, and the store stays as far as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Enough for a disk: two fetches for each of a few workers.
const BYTES_FIRST: usize = 8 << 20;
/// With less left to be asked for, all that is allowed is under way.
const REST_BYTES: usize = 2 << 20;
/// A disk that is near gives a fetch in less: to be further ahead of it gains nothing.
const WAIT_MIN: Duration = Duration::from_millis(5);

/// Bytes that are asked for and not yet decoded, as permits.
#[derive(Debug)]
pub(super) struct Ahead {
    permits: Arc<Semaphore>,
    allowed: AtomicUsize,
    allowed_max: usize,
    /// What one fetch takes at most, so that each can be let through at any time.
    taken_max: usize,
}

impl Ahead {
    pub(super) fn new(bytes_max: usize) -> Self {
        let allowed_max = bytes_max.clamp(1, u32::MAX as usize);
        let first = BYTES_FIRST.min(allowed_max);
        Self {
            permits: Arc::new(Semaphore::new(first)),
            allowed: AtomicUsize::new(first),
            allowed_max,
            taken_max: first,
        }
    }

    /// Waits until so many bytes more may be under way. They are given back when the permit is dropped.
    pub(super) async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.taken_max);
        Arc::clone(&self.permits).acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX)).await.ok()
    }

    /// A worker had nothing to do for so long, while so much more might have been asked for.
    pub(super) fn was_awaited(&self, waited: Duration, unasked: usize) {
        if waited < WAIT_MIN || unasked >= REST_BYTES {
            return; // of what is not under way, nothing is wanted, or it was not asked for yet
        }
        let grown = self.allowed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |allowed| {
            (allowed < self.allowed_max).then(|| (allowed * 2).min(self.allowed_max))
        });
        if let Ok(before) = grown {
            self.permits.add_permits((before * 2).min(self.allowed_max) - before);
        }
    }

    /// Bytes that may be asked for at once now.
    pub(super) fn unasked(&self) -> usize {
        self.permits.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn it_doubles_while_workers_wait_and_all_is_under_way_up_to_the_budget() {
        let ahead = Ahead::new(21 << 20);
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(ahead.take(2 << 20).await);
        }
        assert_eq!(ahead.unasked(), 0);
        ahead.was_awaited(Duration::from_millis(1), ahead.unasked()); // a disk is near
        assert_eq!(ahead.unasked(), 0);
        ahead.was_awaited(RTT, ahead.unasked());
        assert_eq!(ahead.unasked(), 8 << 20);
        ahead.was_awaited(RTT, ahead.unasked()); // nobody asks for what there is already
        assert_eq!(ahead.unasked(), 8 << 20);
        for _ in 0..4 {
            held.push(ahead.take(2 << 20).await);
        }
        ahead.was_awaited(RTT, ahead.unasked());
        assert_eq!(ahead.unasked(), 5 << 20, "never beyond the budget");
        held.push(ahead.take(5 << 20).await);
        ahead.was_awaited(RTT, ahead.unasked());
        assert_eq!(ahead.unasked(), 0);
        held.clear();
        assert_eq!(ahead.unasked(), 21 << 20);
    }

    #[tokio::test]
    async fn a_fetch_larger_than_the_budget_goes_alone() {
        let ahead = Ahead::new(1 << 20);
        let held = ahead.take(8 << 20).await;
        assert_eq!(ahead.unasked(), 0);
        drop(held);
        assert_eq!(ahead.unasked(), 1 << 20);
    }
}
