//! The sum of a table's rows: which rows there are, and how often, in whatever order.

/// Rows are hashed with BLAKE3, each with its line end, and the hashes added up modulo 2²⁵⁶.
///
/// Two collections of rows with the same sum are the same for every purpose but an attack on the sum
/// itself, by somebody who chooses the rows of both. Against that stand the seals of what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowSum([u64; 4]);

impl RowSum {
    /// Adds one row, as `COPY` writes it, line end included.
    pub fn add(&mut self, line: &[u8]) {
        self.add_hash(&blake3::hash(line));
    }

    /// Adds one row by its hash.
    pub(in crate::postgres) fn add_hash(&mut self, hash: &blake3::Hash) {
        let mut carry = false;
        for (word, bytes) in self.0.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
            let more = bytes.iter().rev().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
            let (sum, first) = word.overflowing_add(more);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*word, carry) = (sum, first || second);
        }
    }

    /// 32 bytes, least significant first.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (out, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            out.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(lines: &[&str]) -> RowSum {
        let mut sum = RowSum::default();
        lines.iter().for_each(|line| sum.add(line.as_bytes()));
        sum
    }

    #[test]
    fn rows_have_one_sum_in_any_order_and_another_when_one_differs_or_comes_twice() {
        assert_eq!(sum(&["1\ta\n", "2\tb\n", "3\t\\N\n"]), sum(&["3\t\\N\n", "1\ta\n", "2\tb\n"]));
        let of = sum(&["1\ta\n", "2\tb\n"]);
        for other in
            [vec!["1\ta\n"], vec!["1\ta\n", "2\tc\n"], vec!["1\ta\n", "2\tb\n", "2\tb\n"], vec!["1\ta\n2\tb\n"]]
        {
            assert_ne!(of, sum(&other), "{other:?}");
        }
        assert_eq!(RowSum::default().to_bytes(), [0; 32]);
    }

    #[test]
    fn the_sum_carries_over_all_of_its_words() {
        let mut sum = RowSum([u64::MAX, u64::MAX, u64::MAX, 0]);
        sum.add(b"1\n");
        let mut alone = RowSum::default();
        alone.add(b"1\n");
        // 2^192 - 1 and a hash: one less in the low words than the hash alone, and one more in the highest.
        let (low, borrow) = alone.0[0].overflowing_sub(1);
        assert!(!borrow);
        assert_eq!(sum.0, [low, alone.0[1], alone.0[2], alone.0[3].wrapping_add(1)]);
    }
}
