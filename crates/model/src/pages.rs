//! Changes of a database file's pages, as a change log has them: what became of a file from one look at it to the next.
//!
//! A file's state is told by its page size, its page count and the sum of its pages' hashes, so that
//! whoever puts pages together can prove that the result is the file that was looked at. How a page is
//! hashed is not here (`lifeboat-source`).

use std::fmt;

/// Hash of one page and its number: what a [`PageSum`] is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageHash(pub [u8; 16]);

/// The hashes of all pages of a file, added up modulo 2¹²⁸: in whatever order, and one by one.
///
/// Two files with equal sums hold the same pages, but for an attack by somebody who chooses the pages of
/// both; against that stand the seals of what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PageSum(u128);

impl PageSum {
    #[must_use]
    pub fn with(self, hash: PageHash) -> Self {
        Self(self.0.wrapping_add(u128::from_le_bytes(hash.0)))
    }

    #[must_use]
    pub fn without(self, hash: PageHash) -> Self {
        Self(self.0.wrapping_sub(u128::from_le_bytes(hash.0)))
    }

    /// 16 bytes, least significant first.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }
}

impl fmt::Display for PageSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a database file is at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileState {
    pub page_size: u32,
    pub page_count: u32,
    pub sum: PageSum,
}

/// One page as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChangedPage {
    /// The first is 1.
    pub number: u32,
    pub bytes: Vec<u8>,
}

/// Pages that are new in a file, and in the last such change of a version, what the file is with them.
///
/// A version whose last change is missing never came to be: its reader was stopped in the middle.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PagesChange {
    /// Ascending, all of one size.
    pub pages: Vec<ChangedPage>,
    pub step: Option<FileStep>,
}

/// From what to what a version takes a file.
///
/// | before | after | means |
/// |---|---|---|
/// | a state | the same | the file was seen, and nothing about it is known from earlier |
/// | a state | another one | these pages changed; of another page size: they are all there are |
/// | none | a state | the file came to be: these are all of its pages |
/// | a state | none | the file is gone |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStep {
    pub before: Option<FileState>,
    pub after: Option<FileState>,
}

impl FileStep {
    /// Whether the version's pages are the whole file: nothing is needed below them.
    pub fn is_image(&self) -> bool {
        match (self.before, self.after) {
            (None, Some(_)) => true,
            (Some(before), Some(after)) => before.page_size != after.page_size,
            (_, None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_the_same_in_any_order_and_takes_back_what_was_added() {
        let [a, b, c] = [PageHash([0xff; 16]), PageHash([0x80; 16]), PageHash([7; 16])];
        let sum = PageSum::default().with(a).with(b).with(c);
        assert_eq!(sum, PageSum::default().with(c).with(a).with(b));
        assert_eq!(sum.without(b), PageSum::default().with(a).with(c));
        assert_ne!(sum, sum.with(b));
        assert_eq!(sum.without(a).without(b).without(c), PageSum::default());
        assert_eq!(PageSum::from_bytes(sum.to_bytes()), sum);
    }

    #[test]
    fn pages_of_another_size_and_those_of_a_new_file_are_all_there_are() {
        let state = |page_size, count| Some(FileState { page_size, page_count: count, sum: PageSum::default() });
        let check = |before, after, want| assert_eq!(FileStep { before, after }.is_image(), want);
        check(None, state(4096, 1), true);
        check(state(4096, 1), state(1024, 4), true);
        check(state(4096, 1), state(4096, 4), false);
        check(state(4096, 1), None, false);
    }
}
