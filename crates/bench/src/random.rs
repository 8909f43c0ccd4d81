//! Numbers that only look random: the same from the same seed, everywhere.

/// SplitMix64: small and fast.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The sequence of one thing of many: of the seed, the number of its site, the number of its file.
    pub fn of(seed: u64, numbers: [u64; 2]) -> Self {
        let mix = |seed: u64, number: u64| Self(seed).next() ^ Self(number.wrapping_add(1)).next().rotate_left(17);
        Self(numbers.into_iter().fold(seed, mix))
    }

    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
