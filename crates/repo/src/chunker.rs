//! Where to cut content into chunks: a keyed gear hash with normalised chunk sizes.
//!
//! The hash of the last 64 bytes decides, so that an insertion moves cuts only around itself
//! (FastCDC: Xia et al., USENIX ATC 2016). The table is the site's own secret, so that chunk
//! lengths tell a thief of the bucket nothing about known files.

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
    /// High bits, because only those depend on all of the last 64 bytes.
    const MASK_BEFORE: u64 = !0 << (64 - 22);
    const MASK_AFTER: u64 = !0 << (64 - 18);

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
        // The hash needs 64 bytes of run-up, which lie before the earliest cut.
        let mut hash = 0u64;
        for &byte in &content[Self::LEN_MIN - 64..Self::LEN_MIN] {
            hash = (hash << 1).wrapping_add(self.gear[usize::from(byte)]);
        }
        for (range, mask) in [(Self::LEN_MIN..normal, Self::MASK_BEFORE), (normal..end, Self::MASK_AFTER)] {
            let start = range.start;
            for (at, &byte) in content[range].iter().enumerate() {
                hash = (hash << 1).wrapping_add(self.gear[usize::from(byte)]);
                if hash & mask == 0 {
                    return start + at + 1;
                }
            }
        }
        end
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
