//! The same small work many times, on a few threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many are taken at once: one by one they would fight for the counter, and neighbours share their directories.
const BATCH: usize = 32;

/// Does `work` for each number below `count` on `workers` threads, and gives the results in their order. The first failure
/// ends it: no batch is begun any more.
pub(crate) fn in_parallel<T: Send, E: Send>(
    workers: usize,
    count: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    if count <= BATCH || workers <= 1 {
        return (0..count).map(work).collect();
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers.min(count.div_ceil(BATCH)) {
            scope.spawn(|| {
                loop {
                    let from = next.fetch_add(BATCH, Ordering::Relaxed);
                    if from >= count || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let batch: Result<Vec<T>, E> = (from..count.min(from + BATCH)).map(&work).collect();
                    failed.fetch_or(batch.is_err(), Ordering::Relaxed);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((from, batch));
                }
            });
        }
    });
    let mut done: Vec<(usize, Result<Vec<T>, E>)> = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(from, _)| *from);
    let mut all = Vec::with_capacity(count);
    for (_, batch) in done {
        all.extend(batch?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_all_of_them() {
        for count in [0, 1, BATCH, BATCH + 1, 1_000] {
            let squares = in_parallel(3, count, |number| Ok::<_, ()>(number * number)).unwrap();
            assert_eq!(squares, (0..count).map(|number| number * number).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_failure_ends_it() {
        let begun = AtomicUsize::new(0);
        let failed = in_parallel(2, 1_000_000, |number| {
            begun.fetch_add(1, Ordering::Relaxed);
            if number == 40 { Err(number) } else { Ok(()) }
        });
        assert_eq!(failed, Err(40));
        assert!(begun.into_inner() < 1_000_000);
    }
}
