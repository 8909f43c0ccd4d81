//! What of a routing index is in memory: all that is not in the file yet, and some of what the file says.
//!
//! Invariant (held-is-the-file): what is recalled is what the file says once everything is written.
//! What is not here: the file.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Rows that are remembered beside those that wait, at most: about 8 MiB.
const RECENT_MAX: usize = 220_000;

/// Table and site of a row, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub table: u32,
    pub site: u32,
}

/// A key is a hash already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(pub [u8; 16]);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

#[derive(Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// `None`: there is no such row.
type Rows = HashMap<Key, Option<Row>, BuildHasherDefault<AsItIs>>;

#[derive(Debug, Default)]
pub(super) struct Held {
    /// Not written yet.
    waiting: Rows,
    /// What the file says.
    recent: Rows,
}

impl Held {
    /// What is known of a row without the file; `None`: nothing.
    pub fn recall(&self, key: &Key) -> Option<Option<Row>> {
        self.waiting.get(key).or_else(|| self.recent.get(key)).copied()
    }

    /// The file was asked.
    pub fn note(&mut self, key: Key, row: Option<Row>) {
        if self.recent.len() >= RECENT_MAX {
            self.recent.clear();
        }
        self.recent.insert(key, row);
    }

    /// To be written, unless the file is known to say so.
    pub fn put(&mut self, key: Key, row: Option<Row>) {
        if row.is_none() || self.recall(&key) != Some(row) {
            self.waiting.insert(key, row);
        }
    }

    /// How many rows wait to be written.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Those of a table are gone.
    pub fn forget_table(&mut self, table: u32) {
        for row in self.waiting.values_mut().filter(|row| row.is_some_and(|row| row.table == table)) {
            *row = None;
        }
    }

    /// A row of the file is gone, unless what waits says more of it.
    pub fn forget(&mut self, key: Key) {
        self.waiting.entry(key).or_insert(None);
    }

    pub fn forget_all(&mut self) {
        *self = Self::default();
    }

    /// Everything that waits, in the order of the file.
    pub fn in_order(&self) -> Vec<(Key, Option<Row>)> {
        let mut rows: Vec<_> = self.waiting.iter().map(|(key, row)| (*key, *row)).collect();
        rows.sort_unstable_by_key(|(key, _)| *key); // pages of the table are visited once
        rows
    }

    /// What waited is in the file.
    pub fn written(&mut self) {
        if self.recent.len() + self.waiting.len() > RECENT_MAX {
            self.recent.clear();
        }
        match self.waiting.len() <= RECENT_MAX {
            true => self.recent.extend(self.waiting.drain()), // as many wait the next time: its memory stays
            false => {
                self.recent.clear();
                self.waiting = Rows::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key([1; 16]);
    const ROW: Option<Row> = Some(Row { table: 1, site: 2 });
    const OTHER: Option<Row> = Some(Row { table: 1, site: 3 });

    // Explains invariant: held-is-the-file
    #[test]
    fn what_the_file_says_is_written_no_second_time_and_anything_else_is() {
        let mut held = Held::default();
        held.put(KEY, ROW);
        assert_eq!(held.in_order(), [(KEY, ROW)]);
        held.written();
        held.put(KEY, ROW);
        assert_eq!((held.waiting(), held.recall(&KEY)), (0, Some(ROW)));
        for row in [None, OTHER, ROW] {
            held.put(KEY, row);
            assert_eq!((held.in_order(), held.recall(&KEY)), (vec![(KEY, row)], Some(row)), "{row:?}");
        }
    }

    #[test]
    fn what_waits_counts_more_than_what_the_file_says() {
        let mut held = Held::default();
        held.put(KEY, None);
        held.note(KEY, ROW);
        held.put(KEY, None);
        assert_eq!(held.recall(&KEY), Some(None));
        held.forget(KEY);
        held.put(KEY, OTHER);
        held.forget(KEY);
        assert_eq!(held.recall(&KEY), Some(OTHER));
        held.forget_table(1);
        assert_eq!(held.recall(&KEY), Some(None));
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let mut held = Held::default();
        // As hashes are: different in every bit, or all of them would be looked for in one place.
        let key =
            |number: usize| Key((number as u128).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).to_le_bytes());
        (0..RECENT_MAX + 10).for_each(|number| held.note(key(number), ROW));
        assert_eq!(held.recent.len(), 10);
        (0..RECENT_MAX + 10).for_each(|number| held.put(key(number), OTHER));
        held.written();
        assert_eq!((held.waiting(), held.recent.len(), held.recall(&key(3))), (0, 0, None));
    }
}
