//! The sites of a run in a line: read one at a time and in their order, published side by side.
//!
//! ```text
//! site 1   prepare ─ READ ─ publish ───────
//! site 2   prepare ─ ─ ─ ─ READ ─ publish ───
//! site 3   prepare ─ ─ ─ ─ ─ ─ ─ READ ─ publish
//! ```
//!
//! Publishing waits for disks and servers, reading for a source: neither waits for the other. A
//! source may count on the order, and on being read by one site at a time.
//!
//! Invariant (little-in-flight): the next site is read only when what is read and not yet published
//! is small. A large site is published before the next one is read, so that memory stays what one
//! site needs.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Sites under way at once.
const SITES_MAX: usize = 4;
/// More than this, read and not yet published, keeps the next site from being read.
const UNPUBLISHED_BYTES_MAX: u64 = 24 << 20;

/// Who may read now.
pub(super) struct Line {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// Whose turn it is to read.
    next: usize,
    /// Those further back who need no turn any more.
    left: BTreeSet<usize>,
    unpublished_bytes: u64,
    workers: usize,
}

/// A site's place in the line. Dropped, it is given up.
pub(super) struct Place<'a> {
    line: &'a Line,
    number: usize,
}

/// A site that is being published: what it holds in memory counts until this is dropped.
pub(super) struct Publishing<'a> {
    line: &'a Line,
    bytes: u64,
}

/// Works on all items, a few at once, each with its place in the line; gives what became of them, in
/// their order. `is_last`: nothing is begun after this.
///
/// Blocks until all is done. `when_read` is called once nobody will read any more.
pub(super) fn in_line<Item: Sync, Done: Send>(
    items: &[Item],
    work: impl Fn(&Item, Place<'_>) -> Done + Sync,
    is_last: impl Fn(&Done) -> bool + Sync,
    when_read: impl FnOnce(),
) -> Vec<Done> {
    let workers = SITES_MAX.min(items.len());
    let line = Line { state: Mutex::new(State { workers, ..State::default() }), moved: Condvar::new() };
    let (taken, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work_on = || {
        let _leaves = Leaves(&line);
        let mut done = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let number = taken.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else { break };
            let one = work(item, Place { line: &line, number });
            stop.fetch_or(is_last(&one), Ordering::Relaxed);
            done.push((number, one));
        }
        done
    };
    let mut done = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work_on)).collect();
        drop(line.wait_until(|state| state.next >= items.len() || state.workers == 0));
        when_read();
        let ends = threads.into_iter().map(|thread| thread.join());
        // A panic goes on as if it had happened here.
        ends.flat_map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect::<Vec<_>>()
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, one)| one).collect()
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until(&self, is_so: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let wait = self.moved.wait_while(self.state(), |state| !is_so(state));
        wait.unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.moved.notify_all();
    }
}

impl State {
    /// The site needs no turn, or no longer; whoever comes after it may be next.
    fn pass(&mut self, number: usize) {
        self.left.insert(number);
        while self.left.remove(&self.next) {
            self.next += 1;
        }
    }

    fn is_turn_of(&self, number: usize) -> bool {
        self.next == number && self.unpublished_bytes <= UNPUBLISHED_BYTES_MAX
    }
}

impl<'a> Place<'a> {
    /// Blocks until this site may be read.
    pub(super) fn wait(&self) {
        drop(self.line.wait_until(|state| state.is_turn_of(self.number)));
    }

    /// The site is read: so many bytes of it are in memory still. Lets the next one read.
    pub(super) fn into_publishing(self, bytes: u64) -> Publishing<'a> {
        let line = self.line;
        line.state().unpublished_bytes += bytes;
        drop(self);
        Publishing { line, bytes }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.change(|state| state.pass(self.number));
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.line.change(|state| state.unpublished_bytes -= self.bytes);
    }
}

/// A worker that ends, well or not.
struct Leaves<'a>(&'a Line);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.workers -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads with their begin and end, as they happen.
    fn run(sites: usize, bytes: u64, publishing: Duration) -> (Vec<usize>, usize) {
        let (read, publishing_now, most) = (Mutex::new(Vec::new()), AtomicUsize::new(0), AtomicUsize::new(0));
        let reading = AtomicBool::new(false);
        let ended = AtomicBool::new(false);
        let numbers: Vec<usize> = (0..sites).collect();
        let done = in_line(
            &numbers,
            |number, place| {
                if number % 7 == 3 {
                    return *number; // unchanged: no turn is needed
                }
                place.wait();
                assert!(!reading.swap(true, Ordering::SeqCst), "two read at once");
                lock(&read).push(*number);
                std::thread::sleep(Duration::from_micros(200));
                reading.store(false, Ordering::SeqCst);
                let publishing_site = place.into_publishing(bytes);
                let now = publishing_now.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                std::thread::sleep(publishing);
                publishing_now.fetch_sub(1, Ordering::SeqCst);
                drop(publishing_site);
                *number
            },
            |_| false,
            || ended.store(true, Ordering::SeqCst),
        );
        assert!(ended.load(Ordering::SeqCst));
        assert_eq!(done, numbers);
        (lock(&read).clone(), most.load(Ordering::SeqCst))
    }

    // Explains invariant: little-in-flight
    #[test]
    fn small_sites_are_published_while_others_are_read_and_large_ones_one_by_one() {
        for (bytes, want) in [(1000, 2..=SITES_MAX), (UNPUBLISHED_BYTES_MAX + 1, 1..=1)] {
            let (read, most) = run(40, bytes, Duration::from_millis(3));
            assert_eq!(read, (0..40).filter(|number| number % 7 != 3).collect::<Vec<_>>());
            assert!(want.contains(&most), "{bytes} bytes each: {most} at once");
        }
    }

    #[test]
    fn nothing_is_begun_after_the_last_and_nobody_waits_for_ever() {
        let begun = AtomicUsize::new(0);
        let done = in_line(
            &(0..100).collect::<Vec<usize>>(),
            |number, place| {
                begun.fetch_add(1, Ordering::SeqCst);
                place.wait();
                // Whoever has read the last one may have to wait for a processor before he says so.
                if *number > 5 {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                *number
            },
            |number| *number == 5,
            || {},
        );
        assert!(begun.load(Ordering::SeqCst) < 5 + 2 * SITES_MAX, "{begun:?}");
        assert_eq!(done, (0..done.len()).collect::<Vec<_>>());
        assert!(in_line(&[(); 0], |(), _| (), |()| false, || {}).is_empty());
    }

    #[test]
    fn a_site_that_panics_gives_its_place_up() {
        let read = AtomicUsize::new(0);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            in_line(
                &(0..20).collect::<Vec<usize>>(),
                |number, place| {
                    place.wait();
                    assert_ne!(*number, 4, "as it should");
                    read.fetch_add(1, Ordering::SeqCst);
                },
                |()| false,
                || {},
            )
        }));
        assert!(panicked.is_err());
        assert_eq!(read.load(Ordering::SeqCst), 19);
    }
}
