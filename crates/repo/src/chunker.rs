//! Where to cut content into chunks: a keyed gear hash with normalised chunk sizes.
//!
//! The hash of the last 64 bytes decides, so that an insertion moves cuts only around itself
//! (FastCDC: Xia et al., USENIX ATC 2016). The table is the site's own secret, so that chunk
//! lengths tell a thief of the bucket nothing about known files.

use std::ops::Range;

/// Bytes a hash depends on: each one shifts it by a bit.
const HASHED_LEN: usize = 64;
/// How far two hashes run side by side before either begins anew.
const STRETCH_LEN: usize = 4096;

/// Cuts content-defined chunks: 256 KiB at least, about 1 MiB on average, 4 MiB at most.
pub struct Chunker<'a> {
    gear: &'a [u64; 256],
}

impl<'a> Chunker<'a> {
    pub const LEN_MIN: usize = 256 << 10;
    pub const LEN_NORMAL: usize = 1 << 20;
    pub const LEN_MAX: usize = 4 << 20;

    /// 22 bits before the normal length, 18 after it: two bits harder and two easier than the 20
    /// that would give 1 MiB on average, which narrows the spread of lengths (FastCDC §3.3).
    /// High bits, because only those depend on all of the last 64 bytes; they are zero where the
    /// hash is less than this.
    const BELOW_BEFORE: u64 = 1 << (64 - 22);
    const BELOW_AFTER: u64 = 1 << (64 - 18);

    pub fn new(gear: &'a [u64; 256]) -> Self {
        Self { gear }
    }

    /// Bytes of the first chunk of `content`.
    ///
    /// Where `content` goes on beyond what is given, this is the first chunk only if it is shorter
    /// than that, or as long as a chunk may be.
    pub fn cut(&self, content: &[u8]) -> usize {
        if content.len() <= Self::LEN_MIN {
            return content.len();
        }
        let end = content.len().min(Self::LEN_MAX);
        let normal = end.min(Self::LEN_NORMAL);
        let before = self.first_cut(content, Self::LEN_MIN..normal, Self::BELOW_BEFORE);
        before.or_else(|| self.first_cut(content, normal..end, Self::BELOW_AFTER)).unwrap_or(end)
    }

    /// The first place within `range` behind a byte whose hash is less than `below`.
    ///
    /// Each hash waits for the one before it, which leaves the processor idle half of the time. As
    /// one begun 64 bytes earlier is the same, two are run side by side, over neighbouring stretches.
    fn first_cut(&self, content: &[u8], range: Range<usize>, below: u64) -> Option<usize> {
        let mut from = range.start;
        while range.end - from >= 2 * STRETCH_LEN {
            let half = from + STRETCH_LEN;
            let (mut left, mut right) = (self.hash_before(content, from), self.hash_before(content, half));
            let mut pairs = content[from..half].iter().zip(&content[half..half + STRETCH_LEN]);
            let has_cut = pairs.any(|(left_byte, right_byte)| {
                left = self.roll(left, *left_byte);
                right = self.roll(right, *right_byte);
                left < below || right < below
            });
            if has_cut {
                break; // where the first one is, the loop below finds
            }
            from = half + STRETCH_LEN;
        }
        let mut hash = self.hash_before(content, from);
        let at = content[from..range.end].iter().position(|byte| {
            hash = self.roll(hash, *byte);
            hash < below
        });
        at.map(|at| from + at + 1)
    }

    /// The hash of the 64 bytes before `at`, which is never less than [`Chunker::LEN_MIN`].
    fn hash_before(&self, content: &[u8], at: usize) -> u64 {
        content[at - HASHED_LEN..at].iter().fold(0, |hash, byte| self.roll(hash, *byte))
    }

    #[inline(always)]
    fn roll(&self, hash: u64, byte: u8) -> u64 {
        (hash << 1).wrapping_add(self.gear[usize::from(byte)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gear() -> [u64; 256] {
        let mut seed = 1u64;
        std::array::from_fn(|_| splitmix(&mut seed))
    }

    fn splitmix(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn random(len: usize, mut seed: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&splitmix(&mut seed).to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    fn chunks<'c>(gear: &[u64; 256], mut content: &'c [u8]) -> Vec<&'c [u8]> {
        let mut all = Vec::new();
        while !content.is_empty() {
            let (chunk, rest) = content.split_at(Chunker::new(gear).cut(content));
            all.push(chunk);
            content = rest;
        }
        all
    }

    #[test]
    fn chunks_stay_within_their_limits_and_average_about_a_mebibyte() {
        let (gear, content) = (gear(), random(32 << 20, 7));
        let all = chunks(&gear, &content);
        assert!(all.iter().rev().skip(1).all(|c| (Chunker::LEN_MIN..=Chunker::LEN_MAX).contains(&c.len())));
        let average = content.len() / all.len();
        assert!((700 << 10..1500 << 10).contains(&average), "{average}");
    }

    /// The definition: one hash, byte by byte.
    fn plain_cut(gear: &[u64; 256], content: &[u8], range: Range<usize>, below: u64) -> Option<usize> {
        let mut hash = 0u64;
        for at in range.start - HASHED_LEN..range.end {
            hash = (hash << 1).wrapping_add(gear[usize::from(content[at])]);
            if at >= range.start && hash < below {
                return Some(at + 1);
            }
        }
        None
    }

    #[test]
    fn cuts_are_where_one_hash_puts_them() {
        let (gear, content) = (gear(), random(24 << 20, 11));
        // Often enough to fall on every edge of what is looked at side by side.
        let below = 1 << (64 - 12);
        let (mut from, mut cuts) = (HASHED_LEN, 0);
        while from < content.len() {
            let range = from..content.len().min(from + 5 * STRETCH_LEN + 77);
            let cut = Chunker::new(&gear).first_cut(&content, range.clone(), below);
            assert_eq!(cut, plain_cut(&gear, &content, range.clone(), below), "{from}");
            cuts += usize::from(cut.is_some());
            from = cut.unwrap_or(range.end);
        }
        assert!(cuts > 1000, "{cuts}");
    }

    #[test]
    fn an_insertion_changes_only_the_chunks_around_it() {
        let (gear, content) = (gear(), random(16 << 20, 3));
        let mut changed = content.clone();
        changed.splice(5_000_000..5_000_000, *b"a few more bytes");
        let before = chunks(&gear, &content);
        let fresh = chunks(&gear, &changed).iter().filter(|c| !before.contains(c)).count();
        assert!(fresh <= 3, "{fresh} of {}", before.len());
    }

    #[test]
    fn nothing_is_lost_at_the_edges() {
        let gear = gear();
        for len in [0, 1, Chunker::LEN_MIN, Chunker::LEN_MIN + 1, Chunker::LEN_NORMAL, Chunker::LEN_MAX + 1] {
            let content = random(len, 9);
            assert_eq!(chunks(&gear, &content).concat(), content, "{len}");
        }
        let zeros = vec![0u8; 9 << 20];
        assert_eq!(chunks(&gear, &zeros).concat().len(), zeros.len());
    }
}
