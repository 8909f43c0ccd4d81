//! Cutting a stream into chunks: at fixed places, where the content says, or there at the end of a line.

use lifeboat_repo::Chunker;
use lifeboat_source::Cutting;

/// Cuts a stream into chunks: at fixed places, or where the content says.
pub(super) struct Cutter<'a> {
    chunker: Chunker<'a>,
    cutting: Cutting,
    /// Bytes to begin with: as many as the entry is expected to have, and one to see its end.
    expected: usize,
    buffer: Vec<u8>,
    /// Bytes of the buffer that hold content: `start..end`.
    start: usize,
    end: usize,
}

impl<'a> Cutter<'a> {
    /// `buffer`: memory that may have been used before, as [`Cutter::into_buffer`] gives it.
    pub(super) fn new(gear: &'a [u64; 256], cutting: Cutting, size: u64, buffer: Vec<u8>) -> Self {
        let expected = usize::try_from(size).unwrap_or(usize::MAX).saturating_add(1);
        Self { chunker: Chunker::new(gear), cutting, expected, buffer, start: 0, end: 0 }
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Free room at the end of the buffer: twice the longest chunk at most, and no more than the
    /// entry seems to need, because most are small.
    pub(super) fn room(&mut self) -> &mut [u8] {
        const LEN_MIN: usize = 4 << 10;
        let longest = if let Cutting::Fixed(len) = self.cutting { len as usize } else { Chunker::LEN_MAX };
        let len_max = (2 * longest).max(64 << 10);
        if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            let grown = (self.buffer.len() * 4).max(self.expected).clamp(LEN_MIN, len_max);
            if grown > self.buffer.len() {
                self.buffer.resize(grown, 0);
            }
        }
        &mut self.buffer[self.end..]
    }

    pub(super) fn filled(&mut self, len: usize) {
        self.end += len;
    }

    /// The next chunk that cannot grow any more: one that ends before what is held does. The rest,
    /// less than a chunk, is looked at again with what comes next, which is cheaper than to hold,
    /// and move, as much as a chunk may have.
    pub(super) fn next_full(&mut self) -> Option<&[u8]> {
        let held = &self.buffer[self.start..self.end];
        let len = match self.cutting {
            Cutting::Fixed(fixed) => (held.len() >= fixed as usize).then_some(fixed as usize)?,
            Cutting::Content => self.by_content(held)?,
            Cutting::Lines => to_line_end(held, self.by_content(held)?).or(full(held))?,
        };
        Some(self.take(len))
    }

    /// The next chunk when nothing more comes.
    pub(super) fn next_last(&mut self) -> Option<&[u8]> {
        let held = &self.buffer[self.start..self.end];
        if held.is_empty() {
            return None;
        }
        let len = match self.cutting {
            Cutting::Fixed(fixed) => held.len().min(fixed as usize),
            Cutting::Content => self.chunker.cut(held),
            Cutting::Lines => to_line_end(held, self.chunker.cut(held)).unwrap_or(held.len().min(Chunker::LEN_MAX)),
        };
        Some(self.take(len))
    }

    /// The first cut, where it is certain however the content goes on.
    fn by_content(&self, held: &[u8]) -> Option<usize> {
        let len = self.chunker.cut(held);
        (len < held.len() || len == Chunker::LEN_MAX).then_some(len)
    }

    fn take(&mut self, len: usize) -> &[u8] {
        let chunk = self.start..self.start + len;
        self.start += len;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        &self.buffer[chunk]
    }
}

/// The cut moved on to the next end of a line; `None`: there is none within the longest chunk.
fn to_line_end(held: &[u8], cut: usize) -> Option<usize> {
    let within = &held[..held.len().min(Chunker::LEN_MAX)];
    let before = cut.checked_sub(1)?;
    within[before..].iter().position(|byte| *byte == b'\n').map(|at| before + at + 1)
}

/// A line longer than the longest chunk is cut within.
fn full(held: &[u8]) -> Option<usize> {
    (held.len() >= Chunker::LEN_MAX).then_some(Chunker::LEN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cutter_loses_nothing_however_the_content_arrives() {
        let gear: [u64; 256] = std::array::from_fn(|n| (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let content: Vec<u8> = (0..9_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let whole = u64::MAX;
        for (cutting, step, size) in [
            (Cutting::Content, 100_000, 0),
            (Cutting::Content, 9_000_000, whole),
            (Cutting::Fixed(65_536), 70_001, 9_000_000),
            (Cutting::Fixed(65_536), 1_000_000, 5),
        ] {
            let mut cutter = Cutter::new(&gear, cutting, size, Vec::new());
            let mut chunks: Vec<Vec<u8>> = Vec::new();
            let mut rest = &content[..];
            while !rest.is_empty() {
                let room = cutter.room();
                let len = room.len().min(step).min(rest.len());
                room[..len].copy_from_slice(&rest[..len]);
                rest = &rest[len..];
                cutter.filled(len);
                chunks.extend(std::iter::from_fn(|| cutter.next_full().map(<[u8]>::to_vec)));
            }
            chunks.extend(std::iter::from_fn(|| cutter.next_last().map(<[u8]>::to_vec)));
            assert!(chunks.concat() == content, "{cutting:?} {step}");
            let mut rest = &content[..];
            for chunk in &chunks {
                let len = match cutting {
                    Cutting::Fixed(fixed) => rest.len().min(fixed as usize),
                    _ => Chunker::new(&gear).cut(rest),
                };
                assert_eq!(chunk.len(), len, "the cuts depend on the content alone: {cutting:?} {step}");
                rest = &rest[len..];
            }
        }
    }

    #[test]
    fn lines_are_kept_whole_unless_one_is_longer_than_a_chunk() {
        let gear: [u64; 256] = std::array::from_fn(|n| (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut content = Vec::new();
        for row in 0..200_000u32 {
            content.extend_from_slice(format!("{row}\t{}\n", row.wrapping_mul(2_654_435_761)).as_bytes());
        }
        let long = content.len();
        content.extend(std::iter::repeat_n(b'x', Chunker::LEN_MAX + 7));
        content.extend_from_slice(b"\nlast\n");
        for step in [70_001, 9_000_000] {
            let mut cutter = Cutter::new(&gear, Cutting::Lines, 0, Vec::new());
            let (mut chunks, mut rest): (Vec<Vec<u8>>, _) = (Vec::new(), &content[..]);
            while !rest.is_empty() {
                let room = cutter.room();
                let len = room.len().min(step).min(rest.len());
                room[..len].copy_from_slice(&rest[..len]);
                rest = &rest[len..];
                cutter.filled(len);
                chunks.extend(std::iter::from_fn(|| cutter.next_full().map(<[u8]>::to_vec)));
            }
            chunks.extend(std::iter::from_fn(|| cutter.next_last().map(<[u8]>::to_vec)));
            assert!(chunks.concat() == content);
            let mut end = 0;
            for chunk in &chunks {
                end += chunk.len();
                assert!(end > long || chunk.ends_with(b"\n"), "{step}");
                assert!(chunk.len() <= Chunker::LEN_MAX);
            }
            assert!(chunks.len() > 4);
        }
    }
}
