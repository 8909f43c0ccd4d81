//! How many requests at once a store bears: found by trying, between one and what is allowed.
//!
//! Additive increase, multiplicative decrease, as TCP does: while all places are taken and answers come as fast as they
//! ever did, there is one place more for each round of them; when the store says that it is too much (503, SlowDown) half
//! of them are given up, and when answers come much slower, a fifth. A round is as many answers as there are places, so
//! that one decision is seen in effect before the next.
//!
//! Answers are compared by their time for each MiB, and one MiB more for the asking: large and small ones mix. How fast
//! they can be is measured anew now and then, with few places: a store may have become another one.

use std::time::Duration;

/// Fewer are never allowed: a round trip of 50 ms would idle the client.
const PLACES_MIN: usize = 4;
const PLACES_FIRST: usize = 16;
/// Answers that take so many times the shortest round are too many at once.
const SLOWER: f64 = 2.5;
/// After so many rounds it is measured anew how fast answers can be.
const ROUNDS_MAX: usize = 64;
const PLACES_MEASURED: usize = 8;

/// What there is to be decided from, and the places there are now.
#[derive(Debug)]
pub struct Window {
    places: usize,
    places_max: usize,
    /// Of this round.
    answers: usize,
    is_full: bool,
    is_refused: bool,
    seconds: f64,
    weight: f64,
    /// Seconds for each weight in the best round.
    best: Option<f64>,
    /// Since that was measured.
    rounds: usize,
    /// What there were before most of the places were taken away to measure.
    before: Option<usize>,
    /// Answers from then, which are still to come.
    skipped: usize,
}

impl Window {
    pub fn new(places_max: usize) -> Self {
        let places = PLACES_FIRST.min(places_max);
        Self {
            places,
            places_max,
            answers: 0,
            is_full: false,
            is_refused: false,
            seconds: 0.0,
            weight: 0.0,
            best: None,
            rounds: 0,
            before: None,
            skipped: 0,
        }
    }

    pub fn places(&self) -> usize {
        self.places
    }

    /// An answer came. `is_full`: somebody waited for a place meanwhile.
    pub fn answered(&mut self, took: Duration, bytes: u64, is_full: bool) {
        if self.skipped > 0 {
            self.skipped -= 1;
            return;
        }
        self.seconds += took.as_secs_f64();
        self.weight += 1.0 + bytes as f64 / f64::from(1 << 20);
        self.is_full |= is_full;
        self.count();
    }

    /// The store said that it is asked too much.
    pub fn refused(&mut self) {
        // Those that were under way together are refused together: they count once.
        if !std::mem::replace(&mut self.is_refused, true) {
            self.places = (self.places / 2).max(PLACES_MIN.min(self.places_max));
            self.answers = 0;
        }
        self.count();
    }

    fn count(&mut self) {
        self.answers += 1;
        if self.answers >= self.places {
            self.end_round();
        }
    }

    fn end_round(&mut self) {
        let pace = (self.weight > 0.0).then(|| self.seconds / self.weight);
        self.rounds += 1;
        match self.before.take() {
            Some(before) => {
                (self.best, self.rounds) = (pace.or(self.best), 0);
                self.places = if self.is_refused { self.places } else { before };
            }
            None => self.adjust(pace),
        }
        (self.answers, self.is_full, self.is_refused, self.seconds, self.weight) = (0, false, false, 0.0, 0.0);
    }

    fn adjust(&mut self, pace: Option<f64>) {
        self.best = self.best.into_iter().chain(pace).reduce(f64::min);
        let places_min = PLACES_MIN.min(self.places_max);
        if self.is_refused {
            return; // half were given up already
        }
        if pace.zip(self.best).is_some_and(|(pace, best)| pace > best * SLOWER) {
            self.places = (self.places - self.places / 5).max(places_min);
        } else if self.is_full {
            self.places = (self.places + 1).min(self.places_max);
        }
        if self.rounds >= ROUNDS_MAX && self.places > PLACES_MEASURED {
            (self.before, self.skipped) = (Some(self.places), self.places);
            self.places = PLACES_MEASURED;
        } else if self.rounds >= ROUNDS_MAX {
            (self.best, self.rounds) = (pace, 0); // there are few places already
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of answers of 1 MiB, each taking what `pace` gives for so many places.
    fn after(window: &mut Window, rounds: usize, pace: impl Fn(usize) -> Option<f64>) -> usize {
        for _ in 0..rounds {
            for _ in 0..window.places() {
                match pace(window.places()) {
                    Some(seconds) => window.answered(Duration::from_secs_f64(seconds), 1 << 20, true),
                    None => window.refused(),
                }
            }
        }
        window.places()
    }

    #[test]
    fn a_store_that_bears_more_is_asked_more() {
        assert_eq!(after(&mut Window::new(64), 60, |_| Some(0.06)), 64);
    }

    #[test]
    fn a_store_that_gets_slower_is_asked_less() {
        // It does 20 at a time; what is more has to wait.
        let pace = |places: usize| Some(0.06 * (places as f64 / 20.0).max(1.0));
        let places = after(&mut Window::new(256), 400, pace);
        assert!((20..=60).contains(&places), "{places}");
    }

    #[test]
    fn a_store_that_refuses_is_asked_half_as_much_at_once() {
        let mut window = Window::new(64);
        assert_eq!(after(&mut window, 60, |_| Some(0.06)), 64);
        for _ in 0..8 {
            window.refused(); // of those that were under way together
        }
        assert_eq!(window.places(), 32);
        let places = after(&mut window, 200, |places| (places <= 24).then_some(0.06));
        assert!((8..=25).contains(&places), "{places}");
    }

    #[test]
    fn nobody_who_waits_for_no_place_is_given_more() {
        let mut window = Window::new(64);
        for _ in 0..10_000 {
            window.answered(Duration::from_millis(60), 0, false);
        }
        assert_eq!(window.places(), PLACES_FIRST);
    }

    #[test]
    fn what_is_allowed_at_most_is_never_passed_and_one_is_one() {
        assert_eq!(after(&mut Window::new(1), 50, |_| Some(0.06)), 1);
        let mut window = Window::new(1);
        window.refused();
        assert_eq!(window.places(), 1);
        assert_eq!(after(&mut Window::new(3), 50, |_| Some(0.06)), 3);
    }

    #[test]
    fn a_store_that_is_slower_for_good_is_not_asked_less_for_ever() {
        let mut window = Window::new(64);
        after(&mut window, 40, |_| Some(0.01));
        let low = after(&mut window, 20, |_| Some(0.06));
        let later = after(&mut window, 100, |_| Some(0.06));
        assert!(low < 16 && later >= 32, "{low} {later}");
    }
}
