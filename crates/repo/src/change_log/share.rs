//! How much of a segment is its footer: what reading the neighbours has taught.
//!
//! A read that is too long costs bytes, one that is too short another request. Segments of one log are alike, those that
//! were appended and the long ones each among themselves.

use std::sync::atomic::{AtomicU64, Ordering};

use super::ListedSegment;

/// Nothing was read yet, and many are about to be at once: rather too little, as only what is missing is read then.
const FIRST_SHARE: u64 = WHOLE / 64;
const FIRST_MIN: u64 = 2 << 10;
const FIRST_MAX: u64 = 16 << 10;
/// Shorter reads spare nothing, and a longer footer is worth a second request.
const GUESS_MIN: u64 = 1 << 10;
const GUESS_MAX: u64 = 512 << 10;
/// Shares are counted in these parts of a segment.
const WHOLE: u64 = 1 << 16;

/// Of a log; shared by all who read it.
#[derive(Debug, Default)]
pub(super) struct FooterShare {
    /// 0: nothing was read yet.
    plain: AtomicU64,
    long: AtomicU64,
}

impl FooterShare {
    /// Bytes of a segment's end that its footer is probably in.
    pub fn guess(&self, segment: &ListedSegment) -> u64 {
        let part = |share: u64| (u128::from(segment.len) * u128::from(share)).div_ceil(u128::from(WHOLE)) as u64;
        match self.of(segment).load(Ordering::Relaxed) {
            0 => part(FIRST_SHARE).clamp(FIRST_MIN, FIRST_MAX),
            share => part(share).clamp(GUESS_MIN, GUESS_MAX),
        }
    }

    /// Takes what a footer and its tail were. The largest counts, and is slowly forgotten.
    pub fn learn(&self, segment: &ListedSegment, end_len: u64) {
        let share = (u128::from(end_len) * u128::from(WHOLE)).div_ceil(u128::from(segment.len.max(1))) as u64;
        let share = share.clamp(1, WHOLE);
        let known = self.of(segment);
        // Of two who learn at once one may be forgotten: it is a guess.
        let before = known.load(Ordering::Relaxed);
        known.store(share.max(before - before / 8), Ordering::Relaxed);
    }

    fn of(&self, segment: &ListedSegment) -> &AtomicU64 {
        if segment.long.is_some() { &self.long } else { &self.plain }
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_model::{EpochId, SegmentNumber};

    use super::*;

    #[test]
    fn a_guess_follows_the_footers_that_were_read_and_never_goes_far_beyond_them() {
        let segment = |len| ListedSegment { epoch: EpochId(1), number: SegmentNumber(1), len, long: None };
        let share = FooterShare::default();
        assert_eq!(share.guess(&segment(10)), 2 << 10, "whoever reads takes no more than there is");
        assert_eq!(share.guess(&segment(320 << 10)), 5 << 10);
        assert_eq!(share.guess(&segment(8 << 20)), 16 << 10);
        share.learn(&segment(50_000), 10_000);
        assert!((10_000..10_010).contains(&share.guess(&segment(50_000))));
        assert!((20_000..20_020).contains(&share.guess(&segment(100_000))));
        assert_eq!(share.guess(&segment(64 << 20)), GUESS_MAX);
        for _ in 0..60 {
            share.learn(&segment(50_000), 2_000);
        }
        assert!((2_000..2_300).contains(&share.guess(&segment(50_000))), "{}", share.guess(&segment(50_000)));
        share.learn(&segment(0), 0);
        assert_eq!(share.guess(&segment(0)), GUESS_MIN);
    }
}
