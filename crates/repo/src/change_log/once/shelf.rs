//! What is kept as long as there is room: the oldest goes first.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Values of bytes that were told, by their key.
pub(super) struct Shelf<K, V> {
    bytes: usize,
    bytes_max: usize,
    /// Each has a higher age number than those before it.
    next: u64,
    by_key: HashMap<K, Kept<V>>,
    by_age: BTreeMap<u64, K>,
}

struct Kept<V> {
    value: V,
    bytes: usize,
    age: u64,
}

impl<K: Clone + Eq + Hash, V> Shelf<K, V> {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: 0, bytes_max, next: 0, by_key: HashMap::new(), by_age: BTreeMap::new() }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.by_key.get(key).map(|kept| &kept.value)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.by_key.get_mut(key).map(|kept| &mut kept.value)
    }

    /// Puts it in, and takes the oldest out that may go, so far as that is needed. Gives the keys of those; `None`: not
    /// even so there is room, and all is as before.
    pub fn insert(&mut self, key: K, (value, bytes): (V, usize), may_go: impl Fn(&V) -> bool) -> Option<Vec<K>> {
        self.remove(&key);
        let (mut gone, mut left) = (Vec::new(), self.bytes);
        for key in self.by_age.values() {
            if left.saturating_add(bytes) <= self.bytes_max {
                break;
            }
            if let Some(kept) = self.by_key.get(key).filter(|kept| may_go(&kept.value)) {
                left -= kept.bytes;
                gone.push(key.clone());
            }
        }
        if left.saturating_add(bytes) > self.bytes_max {
            return None;
        }
        gone.iter().for_each(|key| self.remove(key));
        self.bytes += bytes;
        self.by_age.insert(self.next, key.clone());
        self.by_key.insert(key, Kept { value, bytes, age: self.next });
        self.next += 1;
        Some(gone)
    }

    pub fn remove(&mut self, key: &K) {
        if let Some(kept) = self.by_key.remove(key) {
            self.by_age.remove(&kept.age);
            self.bytes -= kept.bytes;
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_may_goes_and_what_is_too_large_moves_nothing() {
        let mut shelf: Shelf<u8, bool> = Shelf::new(10);
        let mut check = |key, may_go, bytes, want: Option<&[u8]>, len| {
            assert_eq!(shelf.insert(key, (may_go, bytes), |may_go| *may_go).as_deref(), want, "{key}");
            assert_eq!(shelf.len(), len, "{key}");
        };
        check(1, false, 4, Some(&[]), 1);
        check(2, true, 3, Some(&[]), 2);
        check(3, true, 3, Some(&[]), 3);
        check(4, true, 2, Some(&[2]), 3);
        check(5, true, 7, None, 3);
        check(6, true, 6, Some(&[3, 4]), 2);
        check(6, true, 5, Some(&[]), 2);
        check(7, true, 1, Some(&[]), 3);
        shelf.remove(&1);
        assert_eq!((shelf.bytes, shelf.get(&1), shelf.get(&6)), (6, None, Some(&true)));
    }
}
