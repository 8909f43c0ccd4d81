//! What files are filled with: rows of text, which compress, and random bytes, which do not.

use std::io::{self, Write};

use crate::random::Random;

pub(crate) const WORDS: [&str; 16] = [
    "review", "backlog", "customer", "release", "meeting", "invoice", "broken", "deploy", "question", "urgent",
    "design", "contract", "server", "refund", "draft", "account",
];

/// So many bytes of rows as an application would export them: repeated keys, few words, many numbers.
///
/// # Errors
/// When `out` takes no more.
pub fn write_rows(out: &mut impl Write, mut random: Random, bytes: u64) -> io::Result<()> {
    let (mut written, mut id) = (0u64, random.below(1_000_000));
    while written < bytes {
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
        let take = row.len().min((bytes - written) as usize);
        out.write_all(&row.as_bytes()[..take])?;
        written += take as u64;
    }
    Ok(())
}

/// So many random bytes.
///
/// # Errors
/// When `out` takes no more.
pub fn write_random(out: &mut impl Write, mut random: Random, bytes: u64) -> io::Result<()> {
    for _ in 0..bytes / 8 {
        out.write_all(&random.next().to_le_bytes())?;
    }
    out.write_all(&random.next().to_le_bytes()[..(bytes % 8) as usize])
}
