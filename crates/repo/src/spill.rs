//! The spill of one source: what it said while the store did not answer, on this host alone.
//!
//! ```text
//! lifeboat.catalog/spill-<source>.sealed      mode 0600
//!   record ▸ record ▸ record with a mark │ record ▸ …     synced one by one: only what is before a mark counts
//! ```
//!
//! Records are sealed under the repository's own key (`lifeboat-format`), and name their place: one that is torn, missing
//! or of another spill is found out. What is behind the last mark was never confirmed to anybody, and is cut off.
//!
//! Invariant (spill-synced-before-marked): a mark is given out only when it and all before it are synced to the disk.
//! What is not here: when to spill, and what to confirm (`lifeboat-engine`).

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use lifeboat_format::{SiteKeys, SpillItems, SpillRecord, decode_spill_record, encode_spill_item, encode_spill_record};
use lifeboat_model::{ObjectId, SourceName, SpillFacts, SpillItem, SpillMark};

use crate::{Error, Repository, random_id};

/// Before each record, the length of it.
const LEN_LEN: u64 = 4;
/// No record is longer: whoever writes them seals much smaller ones, but for a single long row.
const RECORD_ITEMS_MAX: usize = 16 << 20;
/// The host's disk is not ours alone.
const FREE_BYTES_MIN: u64 = 128 << 20;

/// Where the spill of a source is, or would be.
#[derive(Debug, Clone)]
pub struct Spill {
    file: PathBuf,
    keys: SiteKeys,
    bytes_max: u64,
}

/// A spill that is there, up to its last mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpillSeen {
    pub facts: SpillFacts,
    pub mark: SpillMark,
    /// Of the file.
    pub bytes: u64,
}

/// Appends to a spill.
pub struct SpillWriter {
    place: Spill,
    file: File,
    id: ObjectId,
    number: u64,
    len: u64,
    /// Until the first record is written.
    facts: Option<SpillFacts>,
    waiting: Vec<u8>,
}

/// Reads a spill from its beginning to its last mark.
pub struct SpillReader {
    place: Spill,
    file: File,
    id: ObjectId,
    number: u64,
    at: u64,
    end: u64,
    items: SpillItems,
}

/// The end of what counts.
struct Ending {
    seen: SpillSeen,
    id: ObjectId,
    /// Of the record behind it.
    number: u64,
    at: u64,
}

impl Spill {
    /// In a directory of this host, with as many bytes at most; 0: nothing is ever kept there.
    pub fn new(repository: &Repository, directory: &Path, source: &SourceName, bytes_max: u64) -> Self {
        let file = file_of(directory, source);
        Self { file, keys: repository.keys().object_keys().clone(), bytes_max }
    }

    /// Bytes of a source's spill, by its file alone; `None`: there is none.
    pub fn bytes_on_disk(directory: &Path, source: &SourceName) -> Option<u64> {
        std::fs::metadata(file_of(directory, source)).ok().map(|found| found.len()).filter(|len| *len > 0)
    }

    /// Whether anything may be kept here.
    pub fn is_wanted(&self) -> bool {
        self.bytes_max > 0
    }

    /// What is there; `None`: nothing that counts.
    pub fn look(&self) -> Result<Option<SpillSeen>, Error> {
        match self.open_file()? {
            Some(file) => Ok(self.ending(&file)?.map(|ending| ending.seen)),
            None => Ok(None),
        }
    }

    /// From the beginning; `None`: there is nothing that counts.
    pub fn read(&self) -> Result<Option<SpillReader>, Error> {
        let Some(file) = self.open_file()? else { return Ok(None) };
        let Some(ending) = self.ending(&file)? else { return Ok(None) };
        let (place, items) = (self.clone(), SpillItems::default());
        Ok(Some(SpillReader { place, file, id: ending.id, number: 0, at: 0, end: ending.at, items }))
    }

    /// Goes on behind the last mark, which must be of a spill with the same facts; `is_new`: begins anew instead.
    pub fn append(&self, facts: SpillFacts, is_new: bool) -> Result<SpillWriter, Error> {
        if is_new {
            self.remove()?;
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.file);
        let file = file.map_err(|error| self.failed(error))?;
        let (id, number, len, facts) = match self.ending(&file)? {
            Some(ending) if ending.seen.facts == facts => (ending.id, ending.number, ending.at, None),
            Some(_) => return Err(Error::Bug("a spill of other facts is appended to".into())),
            None => (ObjectId(random_id()?), 0, 0, Some(facts)),
        };
        let cut = file.set_len(len).and_then(|()| file.sync_all()).and_then(|()| self.sync_directory());
        cut.map_err(|error| self.failed(error))?;
        Ok(SpillWriter { place: self.clone(), file, id, number, len, facts, waiting: Vec::new() })
    }

    /// All of it is gone.
    pub fn remove(&self) -> Result<(), Error> {
        match std::fs::remove_file(&self.file).and_then(|()| self.sync_directory()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(self.file.parent().unwrap_or(Path::new(".")))?.sync_all()
    }

    fn open_file(&self) -> Result<Option<File>, Error> {
        match File::open(&self.file) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The last mark that can be read: what is torn is behind it.
    fn ending(&self, file: &File) -> Result<Option<Ending>, Error> {
        let bytes = file.metadata().map_err(|error| self.failed(error))?.len();
        let mut places: Vec<(u64, u64)> = Vec::new();
        let mut at = 0;
        while let Some(len) = self.len_at(file, at)?.filter(|len| at + LEN_LEN + len <= bytes) {
            places.push((at, len));
            at += LEN_LEN + len;
        }
        let Some(first) = places.first() else { return Ok(None) };
        let (id, first) = match self.record_at(file, *first) {
            Ok(first) => first,
            // Killed while the first one was written.
            Err(_) if places.len() == 1 => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(facts) = first.facts.filter(|_| first.number == 0) else {
            return Err(self.damaged("its first record is another one".into()));
        };
        for (number, place) in places.iter().enumerate().rev() {
            let Ok((found, record)) = self.record_at(file, *place) else { continue };
            if let Some(mark) = record.mark.filter(|_| (found, record.number) == (id, number as u64)) {
                let seen = SpillSeen { facts, mark, bytes };
                return Ok(Some(Ending { seen, id, number: record.number + 1, at: place.0 + LEN_LEN + place.1 }));
            }
        }
        Ok(None)
    }

    fn len_at(&self, file: &File, at: u64) -> Result<Option<u64>, Error> {
        let mut len = [0; LEN_LEN as usize];
        match file.read_exact_at(&mut len, at) {
            Ok(()) => Ok(Some(u64::from(u32::from_be_bytes(len)))),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn record_at(&self, file: &File, (at, len): (u64, u64)) -> Result<(ObjectId, SpillRecord), Error> {
        let mut bytes = vec![0; len as usize]; // no longer than the file, as its caller knows
        file.read_exact_at(&mut bytes, at + LEN_LEN).map_err(|error| self.failed(error))?;
        decode_spill_record(&self.keys, &bytes).map_err(|error| self.damaged(error.to_string()))
    }

    fn damaged(&self, detail: String) -> Error {
        Error::SpillDamaged { file: self.file.display().to_string(), detail }
    }

    fn failed(&self, source: io::Error) -> Error {
        let file = self.file.display().to_string();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Error::SpillFull { file, detail: source.to_string() }
            }
            _ => Error::SpillFailed { file, source },
        }
    }
}

impl SpillWriter {
    pub fn push(&mut self, item: &SpillItem) {
        encode_spill_item(item, &mut self.waiting);
    }

    /// Bytes that wait to be written.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes what waits, durably. With a mark it counts from then on; without one something must follow.
    pub fn write(&mut self, mark: Option<SpillMark>) -> Result<(), Error> {
        let waiting = std::mem::take(&mut self.waiting);
        let mut parts = waiting.chunks(RECORD_ITEMS_MAX).peekable();
        if parts.peek().is_none() {
            return self.write_record(mark, &[]);
        }
        while let Some(part) = parts.next() {
            self.write_record(mark.filter(|_| parts.peek().is_none()), part)?;
        }
        Ok(())
    }

    fn write_record(&mut self, mark: Option<SpillMark>, items: &[u8]) -> Result<(), Error> {
        let facts = self.facts.clone();
        let record = SpillRecord { number: self.number, facts, mark, items: items.to_vec() };
        let sealed = encode_spill_record(&self.place.keys, self.id, &record)?;
        let len = u32::try_from(sealed.len()).map_err(|_| Error::Bug("a record of a spill is too long".into()))?;
        self.check_room(LEN_LEN + u64::from(len))?;
        let written = self.file.seek(SeekFrom::Start(self.len)).and_then(|_| {
            self.file.write_all(&len.to_be_bytes())?;
            self.file.write_all(&sealed)?;
            self.file.sync_data()
        });
        if let Err(error) = written {
            let _ = self.file.set_len(self.len); // what stays of it counts for nothing, and takes room
            return Err(self.place.failed(error));
        }
        self.len += LEN_LEN + u64::from(len);
        (self.number, self.facts) = (self.number + 1, None);
        Ok(())
    }

    fn check_room(&self, more: u64) -> Result<(), Error> {
        let file = || self.place.file.display().to_string();
        if self.len + more > self.place.bytes_max {
            let detail = format!("bytes=`{}`, spill_limit=`{}`", self.len, self.place.bytes_max);
            return Err(Error::SpillFull { file: file(), detail });
        }
        // A disk that does not say how much room it has is written to until it refuses.
        let room = rustix::fs::fstatvfs(&self.file).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        match room {
            Some(room) if room < FREE_BYTES_MIN + more => {
                Err(Error::SpillFull { file: file(), detail: format!("free bytes=`{room}`") })
            }
            _ => Ok(()),
        }
    }
}

impl SpillReader {
    /// `None`: that was all.
    pub fn next_item(&mut self) -> Result<Option<SpillItem>, Error> {
        loop {
            if let Some(item) = self.items.next_item()? {
                return Ok(Some(item));
            }
            if self.at == self.end {
                return match self.items.is_empty() {
                    true => Ok(None),
                    false => Err(self.place.damaged("it ends within an item".into())),
                };
            }
            let mut len = [0; LEN_LEN as usize];
            self.file.seek(SeekFrom::Start(self.at)).map_err(|error| self.place.failed(error))?;
            self.file.read_exact(&mut len).map_err(|error| self.place.failed(error))?;
            let len = u64::from(u32::from_be_bytes(len));
            if self.at + LEN_LEN + len > self.end {
                return Err(self.place.damaged(format!("a record is longer than the file: at=`{}`", self.at)));
            }
            let (id, record) = self.place.record_at(&self.file, (self.at, len))?;
            if (id, record.number) != (self.id, self.number) {
                return Err(self.place.damaged(format!("a record is missing: at=`{}`", self.at)));
            }
            self.items.push(&record.items);
            (self.at, self.number) = (self.at + LEN_LEN + len, self.number + 1);
        }
    }
}

fn file_of(directory: &Path, source: &SourceName) -> PathBuf {
    directory.join(format!("spill-{source}.sealed"))
}

#[cfg(test)]
mod tests;
