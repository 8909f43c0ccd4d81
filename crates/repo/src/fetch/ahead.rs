//! How far reading runs ahead of decoding: as far as it helps, and never beyond the budget.
//!
//! From a near store bytes arrive faster than they are decoded, and what waits for it only takes memory. From a far one much
//! must be under way for the workers never to wait. So it begins small, and grows by a step whenever a worker has nothing to
//! do while all that is allowed is under way. It never shrinks: a restore is short, and the store stays as far as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Enough for a disk: two fetches for each of a few workers.
const BYTES_FIRST: usize = 8 << 20;
const STEP_BYTES: usize = 2 << 20;

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

    /// A worker has nothing to do.
    pub(super) fn is_awaited(&self) {
        if self.permits.available_permits() >= STEP_BYTES {
            return; // what is not under way is not wanted, or is not asked for yet
        }
        let grown = self.allowed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |allowed| {
            (allowed < self.allowed_max).then(|| (allowed + STEP_BYTES).min(self.allowed_max))
        });
        if let Ok(before) = grown {
            self.permits.add_permits((before + STEP_BYTES).min(self.allowed_max) - before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_grows_while_workers_wait_and_all_is_under_way() {
        let ahead = Ahead::new(13 << 20);
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(ahead.take(2 << 20).await);
        }
        assert_eq!(ahead.permits.available_permits(), 0);
        ahead.is_awaited();
        assert_eq!(ahead.permits.available_permits(), 2 << 20);
        ahead.is_awaited(); // nobody asks for what there is already
        assert_eq!(ahead.permits.available_permits(), 2 << 20);
        held.push(ahead.take(2 << 20).await);
        for _ in 0..9 {
            ahead.is_awaited();
            held.push(ahead.take(1 << 20).await);
            if ahead.permits.available_permits() == 0 && ahead.allowed.load(Ordering::Relaxed) == 13 << 20 {
                break;
            }
        }
        ahead.is_awaited();
        assert_eq!(ahead.permits.available_permits(), 0, "never beyond the budget");
        held.clear();
        assert_eq!(ahead.permits.available_permits(), 13 << 20);
    }

    #[tokio::test]
    async fn a_fetch_larger_than_the_budget_goes_alone() {
        let ahead = Ahead::new(1 << 20);
        let held = ahead.take(8 << 20).await;
        assert_eq!(ahead.permits.available_permits(), 0);
        drop(held);
        assert_eq!(ahead.permits.available_permits(), 1 << 20);
    }
}
