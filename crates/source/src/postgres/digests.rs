//! Both digests of rows that come in stretches of `COPY` text, which may end anywhere.

use lifeboat_model::{RowsDigest, RowsDigests};

use super::replay::RowSum;

/// A hash is fast only over long stretches.
const STRETCH: usize = 1 << 17;

/// Takes rows, and says what they are.
#[derive(Default)]
pub(super) struct RowsDigester {
    rows: u64,
    in_order: blake3::Hasher,
    stretch: Vec<u8>,
    any_order: RowSum,
    /// Of a row that has not ended yet.
    unfinished: Option<blake3::Hasher>,
}

impl RowsDigester {
    pub fn take(&mut self, bytes: &[u8]) {
        self.stretch.extend_from_slice(bytes);
        if self.stretch.len() >= STRETCH {
            self.in_order.update(&self.stretch);
            self.stretch.clear();
        }
        // A line feed within a value is written as \n, so each one ends a row.
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let is_end = piece.last() == Some(&b'\n');
            match (self.unfinished.take(), is_end) {
                (None, true) => self.any_order.add(piece),
                (open, _) => {
                    let mut open = open.unwrap_or_default();
                    open.update(piece);
                    match is_end {
                        true => self.any_order.add_hash(&open.finalize()),
                        false => self.unfinished = Some(open),
                    }
                }
            }
            self.rows += u64::from(is_end);
        }
    }

    /// How many rows there were, and their digests.
    pub fn finish(mut self) -> (u64, RowsDigests) {
        self.in_order.update(&self.stretch);
        let any_order = self.any_order.to_bytes();
        (self.rows, RowsDigests { in_order: *self.in_order.finalize().as_bytes(), any_order })
    }
}

/// A digest as people and files are shown it.
pub(super) fn shown(digest: &RowsDigest) -> String {
    match digest {
        RowsDigest::InOrder(digest) => blake3::Hash::from_bytes(*digest).to_hex().to_string(),
        RowsDigest::AnyOrder(sum) => format!("sum:{}", blake3::Hash::from_bytes(*sum).to_hex()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_the_same_however_the_bytes_arrive_and_the_sum_in_any_order() {
        let text: Vec<u8> =
            (0..2_000).flat_map(|row| format!("{row}\t{}\n", "x".repeat(row % 300)).into_bytes()).collect();
        let of = |stretches: &mut dyn Iterator<Item = &[u8]>| {
            let mut digester = RowsDigester::default();
            stretches.for_each(|stretch| digester.take(stretch));
            digester.finish()
        };
        let (rows, digests) = of(&mut std::iter::once(text.as_slice()));
        assert_eq!((rows, digests.in_order), (2_000, *blake3::hash(&text).as_bytes()));
        for len in [1, 7, 100, 4_096, STRETCH + 1] {
            assert_eq!(of(&mut text.chunks(len)), (rows, digests), "{len}");
        }
        let backwards: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').rev().collect();
        let (_, turned) = of(&mut backwards.into_iter());
        assert_eq!(turned.any_order, digests.any_order);
        assert_ne!(turned.in_order, digests.in_order);
        assert!(turned.are(&RowsDigest::AnyOrder(digests.any_order)));
        assert!(!turned.are(&RowsDigest::InOrder(digests.in_order)));
    }
}
