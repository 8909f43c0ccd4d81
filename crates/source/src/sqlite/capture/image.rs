//! A database file being put together from its pages, its sum kept on the way.

use std::fs::File;
use std::os::unix::fs::FileExt;

use lifeboat_model::{FileState, PageSum};

use super::page_hash;
use crate::Error;

/// Pages in a file that belongs to nobody else.
#[derive(Debug)]
pub struct PageImage<'f> {
    file: &'f File,
    state: FileState,
}

impl<'f> PageImage<'f> {
    /// Without any page.
    pub fn empty(file: &'f File) -> Result<Self, Error> {
        file.set_len(0).map_err(failed)?;
        Ok(Self { file, state: FileState { page_size: 0, page_count: 0, sum: PageSum::default() } })
    }

    /// With the pages that the file holds.
    pub fn over(file: &'f File, page_size: u32) -> Result<Self, Error> {
        let len = file.metadata().map_err(failed)?.len();
        let page_count = u32::try_from(len.checked_div(page_size.into()).unwrap_or(0)).unwrap_or(u32::MAX);
        let mut image = Self { file, state: FileState { page_size, page_count, sum: PageSum::default() } };
        let mut page = vec![0; page_size as usize];
        for number in 1..=page_count {
            image.read(number, &mut page)?;
            image.state.sum = image.state.sum.with(page_hash(number, &page));
        }
        Ok(image)
    }

    pub fn state(&self) -> FileState {
        self.state
    }

    /// Begins again, with nothing.
    pub fn clear(&mut self) -> Result<(), Error> {
        *self = Self::empty(self.file)?;
        Ok(())
    }

    /// Pages of another size than those that are there replace them all.
    pub fn put(&mut self, number: u32, page: &[u8]) -> Result<(), Error> {
        let page_size = u32::try_from(page.len()).unwrap_or(u32::MAX);
        if page_size != self.state.page_size {
            self.clear()?;
            self.state.page_size = page_size;
        }
        self.grow(number.saturating_sub(1))?;
        let FileState { page_count, .. } = self.state;
        if number <= page_count {
            let mut before = vec![0; page.len()];
            self.read(number, &mut before)?;
            self.state.sum = self.state.sum.without(page_hash(number, &before));
        }
        self.file.write_all_at(page, self.offset(number)).map_err(failed)?;
        self.state.sum = self.state.sum.with(page_hash(number, page));
        self.state.page_count = page_count.max(number);
        Ok(())
    }

    /// Takes pages away, or adds such of zeros, until there are as many as `after` has; whether it is `after` then.
    pub fn become_state(&mut self, after: &FileState) -> Result<bool, Error> {
        let mut page = vec![0; self.state.page_size as usize];
        while self.state.page_count > after.page_count {
            let number = self.state.page_count;
            self.read(number, &mut page)?;
            self.state.sum = self.state.sum.without(page_hash(number, &page));
            self.state.page_count -= 1;
        }
        self.grow(after.page_count)?;
        self.file.set_len(self.offset(self.state.page_count + 1)).map_err(failed)?;
        if self.state.page_count == 0 {
            self.state.page_size = after.page_size; // of no page at all, any size is right
        }
        Ok(self.state == *after)
    }

    fn grow(&mut self, page_count: u32) -> Result<(), Error> {
        let zeros = vec![0; self.state.page_size as usize];
        while self.state.page_count < page_count && !zeros.is_empty() {
            self.state.page_count += 1;
            self.state.sum = self.state.sum.with(page_hash(self.state.page_count, &zeros));
            self.file.set_len(self.offset(self.state.page_count + 1)).map_err(failed)?;
        }
        Ok(())
    }

    fn read(&self, number: u32, page: &mut [u8]) -> Result<(), Error> {
        self.file.read_exact_at(page, self.offset(number)).map_err(failed)
    }

    /// Where a page begins; the first is 1.
    fn offset(&self, number: u32) -> u64 {
        u64::from(self.state.page_size) * u64::from(number.saturating_sub(1))
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::io("cannot write the pages of a database into a scratch file", b"", error)
}
