//! Content made from a seed, the same everywhere: rows, which compress, and random bytes, which do not.

use std::io::{Result, Write};

/// SplitMix64: small, fast, the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Rows as an application would export them: repeated keys, few words, many numbers.
pub fn write_rows(out: &mut impl Write, seed: u64, len: u64) -> Result<()> {
    const WORDS: [&str; 16] = [
        "review", "backlog", "customer", "release", "meeting", "invoice", "broken", "deploy", "question", "urgent",
        "design", "contract", "server", "refund", "draft", "account",
    ];
    let mut random = Random(seed);
    let (mut written, mut id) = (0u64, seed * 1_000_000);
    while written < len {
        id += 1 + random.below(9);
        let mut row = format!(
            r#"{{"id":{id},"author":{},"created":"2026-{:02}-{:02}T{:02}:{:02}:{:02}Z","state":"{}","title":""#,
            random.below(5_000),
            1 + random.below(12),
            1 + random.below(28),
            random.below(24),
            random.below(60),
            random.below(60),
            ["open", "closed", "waiting"][random.below(3) as usize],
        );
        for _ in 0..4 + random.below(12) {
            row.push_str(WORDS[random.below(16) as usize]);
            row.push(' ');
        }
        row.push_str(&format!("{:x}\"}}\n", random.below(1 << 32)));
        let take = row.len().min((len - written) as usize);
        out.write_all(&row.as_bytes()[..take])?;
        written += take as u64;
    }
    Ok(())
}

pub fn write_random(out: &mut impl Write, seed: u64, len: u64) -> Result<()> {
    // Seeds side by side would give one sequence, begun one number later.
    let mut random = Random(Random(seed).next());
    for _ in 0..len / 8 {
        out.write_all(&random.next().to_le_bytes())?;
    }
    out.write_all(&random.next().to_le_bytes()[..(len % 8) as usize])
}
