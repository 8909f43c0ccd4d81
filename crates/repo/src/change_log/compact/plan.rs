//! Which segments are worth writing again as one. Pure.
//!
//! By the hour: segments of five seconds are 720 an hour, and what a restore reads of each is mostly its footer. By the
//! day: what an hour left, where that is small. What is large already is left as it is: a restore reads its own
//! ranges of it, and a footer more does not matter.

use std::ops::RangeInclusive;
use std::time::Duration;

use lifeboat_model::SegmentNumber;

/// Stored bytes of the segments that become one: memory holds them, and what they become. A footer is a hundredth of it or so.
pub(super) const BYTES_MAX: u64 = 12 << 20;
/// An hour of segments of five seconds.
const SEGMENTS_MAX: usize = 720;
/// What is so old is written again, however few there are.
const AGE_MAX: Duration = Duration::from_secs(3600);
/// What is younger is not, unless there are many: who catches up with a burst is not to do it all twice at once.
const AGE_MIN: Duration = Duration::from_secs(600);
/// Long segments that become one.
const LONGS_MAX: usize = 24;

/// A segment, or what stands for several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item {
    pub first: SegmentNumber,
    pub last: SegmentNumber,
    pub len: u64,
}

/// The oldest range that is due. `longs` and `plain` ascend, `plain` comes after them without a gap; `age`: since the
/// oldest plain one was sealed.
pub(super) fn due(longs: &[Item], plain: &[Item], age: Option<Duration>) -> Option<RangeInclusive<SegmentNumber>> {
    let (is_old, is_settled) = (age.is_some_and(|age| age >= AGE_MAX), age.is_some_and(|age| age >= AGE_MIN));
    let hour = runs(plain, SEGMENTS_MAX, BYTES_MAX / 2);
    let is_due = |run: &Run| run.items == SEGMENTS_MAX || (run.is_full && is_settled) || is_old;
    let hour = hour.into_iter().find(|run| run.items >= 2 && is_due(run));
    let day = runs(longs, LONGS_MAX, BYTES_MAX / 4);
    let day = day.into_iter().find(|run| run.items >= 2 && run.is_full);
    hour.or(day).map(|run| run.first..=run.last)
}

struct Run {
    first: SegmentNumber,
    last: SegmentNumber,
    items: usize,
    len: u64,
    /// Another one would have been too much, or cannot come any more.
    is_full: bool,
}

/// Neighbours, as many together as may become one; items above `small` stay alone.
fn runs(items: &[Item], items_max: usize, small: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for item in items {
        if let Some(run) = runs.last_mut() {
            let is_next = run.last.0.checked_add(1) == Some(item.first.0);
            let fits = run.items < items_max && run.len + item.len <= BYTES_MAX && item.len <= small && run.len > 0;
            if is_next && fits {
                run.last = item.last;
                run.items += 1;
                run.len += item.len;
                run.is_full = run.items == items_max;
                continue;
            }
            run.is_full = true;
        }
        // An item that is large is a run of its own, and nothing joins it.
        let len = if item.len <= small { item.len } else { 0 };
        runs.push(Run { first: item.first, last: item.last, items: 1, len, is_full: false });
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 24 of them one may be.
    const PART: u64 = BYTES_MAX / 24;

    /// Neighbours from `first` on: how many, each how long and of how many segments.
    fn items(first: u64, count: u64, each: u64, len: u64) -> Vec<Item> {
        let item = |at: u64| {
            let from = first + at * each;
            Item { first: SegmentNumber(from), last: SegmentNumber(from + each - 1), len }
        };
        (0..count).map(item).collect()
    }

    fn check(longs: Vec<Item>, plain: Vec<Item>, minutes: u64, want: Option<(u64, u64)>) {
        let got = due(&longs, &plain, Some(Duration::from_secs(minutes * 60)));
        assert_eq!(got.map(|range| (range.start().0, range.end().0)), want);
    }

    #[test]
    fn an_hour_of_segments_is_due_by_number_by_size_or_by_age() {
        check(vec![], items(1, 719, 1, 1_000), 59, None);
        check(vec![], items(1, 720, 1, 1_000), 59, Some((1, 720)));
        check(vec![], items(1, 1_500, 1, 1_000), 125, Some((1, 720)));
        check(vec![], items(1, 60, 1, 1_000), 60, Some((1, 60)));
        check(vec![], items(1, 1, 1, 1_000), 600, None);
        check(vec![], vec![], 600, None);
        // Eight of three parts are what one may be of; the ninth makes them due, once the burst is over.
        check(vec![], items(1, 8, 1, 3 * PART), 10, None);
        check(vec![], items(1, 9, 1, 3 * PART), 9, None);
        check(vec![], items(1, 9, 1, 3 * PART), 10, Some((1, 8)));
    }

    #[test]
    fn what_is_large_already_is_left_alone() {
        check(vec![], items(1, 100, 1, 20 * PART), 600, None);
        let mut plain = items(1, 3, 1, 20 * PART);
        plain.extend(items(4, 50, 1, 1_000));
        check(vec![], plain.clone(), 59, None);
        check(vec![], plain, 60, Some((4, 53)));
    }

    #[test]
    fn a_day_of_small_long_segments_is_due_when_no_hour_is() {
        check(items(1, 23, 720, PART), vec![], 0, None);
        check(items(1, 24, 720, PART), vec![], 0, Some((1, 24 * 720)));
        check(items(1, 24, 720, 7 * PART), vec![], 0, None);
        check(items(1, 7, 720, 4 * PART), vec![], 0, Some((1, 6 * 720)));
        let plain = items(24 * 720 + 1, 720, 1, 1_000);
        check(items(1, 24, 720, PART), plain, 10, Some((24 * 720 + 1, 25 * 720)));
    }

    #[test]
    fn what_was_written_again_comes_to_an_end() {
        // As a log of a month goes: each result takes the place of what it is of.
        let (mut longs, mut next): (Vec<Item>, u64) = (Vec::new(), 1);
        for _ in 0..24 * 30 {
            let plain = items(next, 720, 1, 500);
            next += 720;
            let mut plain = plain;
            while let Some(range) = due(&longs, &plain, Some(Duration::from_secs(3_600))) {
                let within = |item: &Item| range.contains(&item.first);
                let len = longs.iter().chain(&plain).filter(|item| within(item)).map(|item| item.len).sum();
                let joined = Item { first: *range.start(), last: *range.end(), len };
                longs.retain(|item| !within(item));
                plain.retain(|item| !within(item));
                longs.push(joined);
                longs.sort_by_key(|item| item.first);
            }
            assert!(plain.is_empty());
        }
        assert!(longs.len() < 80, "{}", longs.len());
    }
}
