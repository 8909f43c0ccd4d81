//! The spool: a file without a name that takes a part's content in any order before it is loaded.
//!
//! Chunks come from the repository as they arrive, COPY wants each table from its start. A file
//! between the two keeps memory small whatever the size of a table.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::Error;
use crate::unnamed::{failed, unnamed_file};

/// Every table's content, one after the other.
#[derive(Debug)]
pub(in crate::postgres) struct Spool {
    file: File,
    /// Where each table begins; one more for the end of the last.
    starts: Vec<u64>,
}

impl Spool {
    pub fn create(sizes: impl Iterator<Item = u64>) -> Result<Self, Error> {
        let mut starts = vec![0_u64];
        for size in sizes {
            let end = starts.last().copied().unwrap_or(0).checked_add(size);
            starts.push(end.ok_or_else(|| failed(io::ErrorKind::FileTooLarge.into()))?);
        }
        Ok(Self { file: unnamed_file()?, starts })
    }

    /// Puts bytes of a table's content where they belong. Never outside of the table's own range.
    pub fn write_at(&self, table: usize, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let (start, end) = self.range(table).ok_or_else(out_of_range)?;
        let from = start.checked_add(offset).filter(|from| from.saturating_add(bytes.len() as u64) <= end);
        let from = from.ok_or_else(out_of_range)?;
        self.file.write_all_at(bytes, from).map_err(failed)
    }

    /// A table's content from `offset`: fills the buffer, less only at its end.
    pub fn read_at(&self, table: usize, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let (start, end) = self.range(table).ok_or_else(out_of_range)?;
        let left = (end - start).saturating_sub(offset);
        let len = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let wanted = buffer.get_mut(..len).unwrap_or_default();
        self.file.read_exact_at(wanted, start + offset).map_err(failed)?;
        Ok(len)
    }

    fn range(&self, table: usize) -> Option<(u64, u64)> {
        Some((*self.starts.get(table)?, *self.starts.get(table + 1)?))
    }
}

fn out_of_range() -> Error {
    failed(io::Error::new(io::ErrorKind::InvalidInput, "content longer than its table"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_s_content_comes_back_whatever_the_order_it_was_written_in() {
        let spool = Spool::create([4, 0, 3].into_iter()).unwrap();
        spool.write_at(2, 1, b"yz").unwrap();
        spool.write_at(0, 2, b"cd").unwrap();
        spool.write_at(2, 0, b"x").unwrap();
        spool.write_at(0, 0, b"ab").unwrap();
        let mut buffer = [0; 16];
        for (table, want) in [(0, b"abcd".as_slice()), (1, b""), (2, b"xyz")] {
            let len = spool.read_at(table, 0, &mut buffer).unwrap();
            assert_eq!(&buffer[..len], want);
        }
        assert_eq!(spool.read_at(2, 2, &mut buffer).unwrap(), 1);
    }

    #[test]
    fn content_cannot_run_into_the_next_table() {
        let spool = Spool::create([4, 4].into_iter()).unwrap();
        for (table, offset, bytes) in [(0, 2, "abc"), (0, 5, ""), (1, u64::MAX, "a"), (2, 0, "a")] {
            assert!(spool.write_at(table, offset, bytes.as_bytes()).is_err(), "{table} {offset}");
        }
    }
}
