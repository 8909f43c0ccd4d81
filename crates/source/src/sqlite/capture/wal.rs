//! Looking through a write-ahead log for the pages that transactions have written.
//!
//! <https://www.sqlite.org/fileformat.html#the_write_ahead_log>: a header of 32 bytes, then frames of 24
//! bytes and a page. Each frame has the salts of the header, and a checksum over everything before it: a
//! frame of an older log, a torn one, and what was rolled back end the chain.
//!
//! The file is read beside SQLite: its locks are on the database and the log's index, so opening and
//! closing the log itself drops none of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::super::stat::{WAL, beside};

const HEADER_LEN: usize = 32;
const FRAME_HEADER_LEN: usize = 24;
const READ_BUFFER_LEN: usize = 64 * 1024;

/// Up to which commit a log was looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalMark {
    /// Other ones: the log was begun anew.
    salts: [u8; 8],
    /// Bytes up to the end of the commit's frame.
    end: u64,
    checksum: (u32, u32),
}

/// The committed frames after a mark; without one that fits, of the whole log.
#[derive(Debug)]
pub struct WalScan {
    file: File,
    pub mark: WalMark,
    /// Whether it goes on from the mark that was given.
    pub goes_on: bool,
    /// Where the newest committed content of each page is.
    newest: BTreeMap<u32, u64>,
}

impl WalScan {
    /// `None`: there is no log with a header.
    pub fn read(database: &Path, page_size: u32, mark: Option<&WalMark>) -> std::io::Result<Option<Self>> {
        let Some((mut scan, header)) = Self::begin(database, page_size, mark)? else { return Ok(None) };
        scan.take_frames(&header, page_size)?;
        scan.confirm(&header, page_size)?;
        Ok(Some(scan))
    }

    pub(super) fn begin(
        database: &Path,
        page_size: u32,
        mark: Option<&WalMark>,
    ) -> std::io::Result<Option<(Self, Header)>> {
        let file = match File::open(beside(database, WAL)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(header) = Header::read(&file, page_size)? else { return Ok(None) };
        let mark = mark.filter(|mark| mark.salts == header.salts);
        let from = WalMark { salts: header.salts, end: HEADER_LEN as u64, checksum: header.checksum };
        let scan = Self { file, mark: *mark.unwrap_or(&from), goes_on: mark.is_some(), newest: BTreeMap::new() };
        Ok(Some((scan, header)))
    }

    /// A log that is begun anew has its header first, and then frames over those of the old one. So where the header is
    /// still the same, every frame was there to be read; else some may have been missed, and it goes on from nothing.
    pub(super) fn confirm(&mut self, header: &Header, page_size: u32) -> std::io::Result<()> {
        let now = Header::read(&self.file, page_size)?;
        self.goes_on &= now.is_some_and(|now| now.salts == header.salts);
        Ok(())
    }

    /// The pages that were written.
    pub fn pages(&self) -> impl Iterator<Item = u32> + '_ {
        self.newest.keys().copied()
    }

    /// Whether a page that was read is older or newer than what the log has of it.
    pub fn differs(&self, number: u32, page: &[u8]) -> std::io::Result<bool> {
        let Some(offset) = self.newest.get(&number) else { return Ok(false) };
        let mut logged = vec![0; page.len()];
        match self.file.read_exact_at(&mut logged, *offset) {
            Ok(()) => Ok(logged != page),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(true), // begun anew under our eyes
            Err(error) => Err(error),
        }
    }

    pub(super) fn take_frames(&mut self, header: &Header, page_size: u32) -> std::io::Result<()> {
        let mut reader = BufReader::with_capacity(READ_BUFFER_LEN, &self.file);
        reader.seek(SeekFrom::Start(self.mark.end))?;
        let mut frame = vec![0; FRAME_HEADER_LEN + page_size as usize];
        let (mut end, mut checksum) = (self.mark.end, self.mark.checksum);
        let mut uncommitted: BTreeMap<u32, u64> = BTreeMap::new();
        loop {
            match reader.read_exact(&mut frame) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                read => read?,
            }
            checksum = header.sum(checksum, &frame[..8]);
            checksum = header.sum(checksum, &frame[FRAME_HEADER_LEN..]);
            let told = (big_endian(&frame[16..20]), big_endian(&frame[20..24]));
            if frame[8..16] != header.salts || told != checksum {
                return Ok(());
            }
            uncommitted.insert(big_endian(&frame[..4]), end + FRAME_HEADER_LEN as u64);
            end += frame.len() as u64;
            let is_commit = big_endian(&frame[4..8]) != 0;
            if is_commit {
                self.newest.append(&mut uncommitted);
                self.mark = WalMark { end, checksum, ..self.mark };
            }
        }
    }
}

pub(super) struct Header {
    salts: [u8; 8],
    checksum: (u32, u32),
    /// The order of bytes in the numbers that are summed up.
    is_big_endian: bool,
}

impl Header {
    fn read(file: &File, page_size: u32) -> std::io::Result<Option<Self>> {
        let mut bytes = [0; HEADER_LEN];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let mut salts = [0; 8];
        salts.copy_from_slice(&bytes[16..24]);
        let checksum = (big_endian(&bytes[24..28]), big_endian(&bytes[28..32]));
        let magic = big_endian(&bytes[..4]);
        let header = Self { salts, checksum, is_big_endian: magic & 1 == 1 };
        // A page of 64 KiB is told as it is; of a log that is of another page size nothing is known.
        let is_log = magic & !1 == 0x377f_0682 && big_endian(&bytes[8..12]) == page_size;
        Ok(Some(header).filter(|header| is_log && header.sum((0, 0), &bytes[..24]) == checksum))
    }

    fn sum(&self, (mut first, mut second): (u32, u32), bytes: &[u8]) -> (u32, u32) {
        let number = |bytes: &[u8]| match bytes.first_chunk::<4>() {
            Some(bytes) if self.is_big_endian => u32::from_be_bytes(*bytes),
            Some(bytes) => u32::from_le_bytes(*bytes),
            None => 0,
        };
        for pair in bytes.chunks_exact(8) {
            first = first.wrapping_add(number(&pair[..4])).wrapping_add(second);
            second = second.wrapping_add(number(&pair[4..])).wrapping_add(first);
        }
        (first, second)
    }
}

fn big_endian(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}
