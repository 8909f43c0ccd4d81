//! Reading one part into the repository: unchanged entries by reference, the others by content.

use std::collections::{HashMap, HashSet};

use lifeboat_model::{
    Entry, EntryKind, EntryPath, Fault, Faulty, PartProblem, PartRecord, PartStatus, ProgressEvent, SiteId, Timestamp,
};
use lifeboat_repo::ManifestPart;
use lifeboat_repo::{Chunker, FreshExtent, Ingest, NewPart, StoredContent};
use lifeboat_source::{Content, ContentCheck, PartReader, PartSummary, Read, Source};

use crate::{Engine, Error};

/// A file that is written to while it is read is read again this often before it is reported.
const ATTEMPTS_MAX: usize = 3;

/// Everything needed to read parts of one site.
pub(crate) struct PartIngest<'a> {
    pub engine: &'a Engine,
    pub site: &'a SiteId,
    pub ingest: &'a Ingest,
    pub gear: &'a [u64; 256],
}

/// Entries of the parent snapshot whose chunks may be named again.
#[derive(Default)]
pub(crate) struct Parent {
    by_path: HashMap<EntryPath, Entry>,
}

impl Parent {
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        Self { by_path: entries.into_iter().map(|entry| (entry.path.clone(), entry)).collect() }
    }

    /// The parent's entry, if nothing says that its content was written to since.
    fn unchanged(&self, entry: &Entry) -> Option<&Entry> {
        let before = self.by_path.get(&entry.path)?;
        let same = match (&before.kind, &entry.kind) {
            (EntryKind::File, EntryKind::File) => {
                let (then, now) = (&before.metadata, &entry.metadata);
                then.size == now.size
                    && then.modified == now.modified
                    && then.changed == now.changed
                    && then.inode == now.inode
            }
            (EntryKind::Database { stamp: then, .. }, EntryKind::Database { stamp: now, .. }) => then == now,
            _ => false,
        };
        same.then_some(before)
    }
}

impl PartIngest<'_> {
    /// Reads one part of the site, or records why it could not be read.
    pub(crate) fn read_source(&self, source: &dyn Source, parent: &Parent) -> Result<NewPart, Error> {
        let cut_from = Timestamp::now();
        let read = match source.open(self.site) {
            Ok(Some(reader)) => self.read_part(reader, parent).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(Error::Source(error)),
        };
        let (entries, summary, status) = match read {
            Ok(Some((entries, summary))) => {
                let problems = summary.problems.len() as u64;
                let status = if problems == 0 { PartStatus::Complete } else { PartStatus::Incomplete { problems } };
                (entries, summary, status)
            }
            Ok(None) => (Vec::new(), empty_summary(source, self.site)?, PartStatus::Absent),
            Err(Error::Source(error)) => {
                let status = PartStatus::Failed { reason: error.to_string() };
                (Vec::new(), empty_summary(source, self.site)?, status)
            }
            Err(error) => return Err(error),
        };
        let record = PartRecord {
            source: source.name().clone(),
            kind: source.kind(),
            status,
            entries: 0,       // counted when the manifest is made
            logical_bytes: 0, // counted when the manifest is made
            cut_from,
            cut_till: Timestamp::now(),
        };
        let PartSummary { position, identity, problems, left_out } = summary;
        Ok(NewPart { part: ManifestPart { record, identity, position, problems, left_out }, entries })
    }

    /// A part of a source that has failed: recorded as missing, so that the snapshot says so.
    pub(crate) fn failed_source(&self, source: &dyn Source, reason: &str) -> Result<NewPart, Error> {
        let now = Timestamp::now();
        let record = PartRecord {
            source: source.name().clone(),
            kind: source.kind(),
            status: PartStatus::Failed { reason: reason.to_owned() },
            entries: 0,
            logical_bytes: 0,
            cut_from: now,
            cut_till: now,
        };
        let PartSummary { position, identity, problems, left_out } = empty_summary(source, self.site)?;
        Ok(NewPart { part: ManifestPart { record, identity, position, problems, left_out }, entries: Vec::new() })
    }

    /// Reads every entry of an open part.
    pub(crate) fn read_part(
        &self,
        mut reader: Box<dyn PartReader>,
        parent: &Parent,
    ) -> Result<(Vec<(Entry, StoredContent)>, PartSummary), Error> {
        let mut entries = Vec::new();
        let mut problems = Vec::new();
        let mut gone: HashSet<EntryPath> = HashSet::new();
        while let Some(entry) = reader.next_entry()? {
            self.engine.check_cancelled()?;
            let path = entry.path.clone();
            let content = match entry.kind {
                EntryKind::File | EntryKind::Database { .. } => match parent.unchanged(&entry) {
                    Some(before) => {
                        self.progress(entry.metadata.size);
                        let same = StoredContent::Same(before.extents.clone());
                        // Page size and size of a database are known only when it is opened.
                        let entry = Entry { extents: Vec::new(), ..same_content(entry, before) };
                        Some((entry, same))
                    }
                    None => self.read_or_report(reader.as_mut(), entry, &mut problems)?,
                },
                // Its first name vanished while it was being read: this one holds the content then.
                EntryKind::HardLink { ref to } if gone.contains(to) => {
                    let entry = Entry { kind: EntryKind::File, ..entry };
                    self.read_or_report(reader.as_mut(), entry, &mut problems)?
                }
                _ => Some((entry, StoredContent::None)),
            };
            if content.is_none() {
                gone.insert(path);
            }
            self.engine.progress.report(ProgressEvent::EntryDone { site: self.site.clone() });
            entries.extend(content);
        }
        let mut summary = reader.finish()?;
        summary.problems.extend(problems);
        Ok((entries, summary))
    }

    /// Reads one entry's content; a file that cannot be read is a problem of that file alone, a
    /// database that cannot be is one of its whole part.
    fn read_or_report(
        &self,
        reader: &mut dyn PartReader,
        entry: Entry,
        problems: &mut Vec<PartProblem>,
    ) -> Result<Option<(Entry, StoredContent)>, Error> {
        let (path, is_file) = (entry.path.to_string(), entry.kind == EntryKind::File);
        match self.read_entry(reader, entry, problems) {
            Err(Error::Source(error)) if is_file && error.fault() != Fault::Cancelled => {
                problems.push(PartProblem { entry: path, reason: error.to_string() });
                Ok(None)
            }
            read => read,
        }
    }

    /// Reads one entry's content until one read saw one state of it; `None` when it is gone.
    pub(crate) fn read_entry(
        &self,
        reader: &mut dyn PartReader,
        entry: Entry,
        problems: &mut Vec<PartProblem>,
    ) -> Result<Option<(Entry, StoredContent)>, Error> {
        let mut last = None;
        for _ in 0..ATTEMPTS_MAX {
            let mut content = match reader.open_content(&entry) {
                Err(lifeboat_source::Error::Gone { .. }) => return Ok(None),
                opened => opened?,
            };
            let extents = self.read_content(content.as_mut(), reader.fixed_chunk_len(), entry.metadata.size)?;
            let size = extents.size;
            match content.check()? {
                ContentCheck::Stable(stable) if stable.metadata.size == size => {
                    return Ok(Some((Entry { extents: Vec::new(), ..*stable }, StoredContent::Fresh(extents.extents))));
                }
                ContentCheck::Stable(_) | ContentCheck::Changed => last = Some(extents),
            }
        }
        problems.push(PartProblem {
            entry: entry.path.to_string(),
            reason: "it was written to while it was read, each time".into(),
        });
        Ok(last.map(|content| {
            let mut entry = entry;
            entry.metadata.size = content.size;
            (entry, StoredContent::Fresh(content.extents))
        }))
    }

    /// Reads a file that is no part's entry: a database that SQLite cannot read, as raw bytes.
    pub(crate) fn read_raw(&self, mut content: Box<dyn Content>) -> Result<(Entry, StoredContent), Error> {
        let read = self.read_content(content.as_mut(), None, 0)?;
        match content.check()? {
            ContentCheck::Stable(entry) if entry.metadata.size == read.size => {
                Ok((Entry { extents: Vec::new(), ..*entry }, StoredContent::Fresh(read.extents)))
            }
            _ => Err(Error::Conflict {
                detail: "the live file was written to while it was being kept for an undo".into(),
                hint: "nothing was changed; stop writes to the site (hooks.freeze), then run the same command again"
                    .into(),
            }),
        }
    }

    /// `size` is what the entry was listed with: a hint for memory, never believed.
    fn read_content(&self, content: &mut dyn Content, fixed: Option<u32>, size: u64) -> Result<ReadContent, Error> {
        let mut read = ReadContent { extents: Vec::new(), size: 0 };
        let mut cutter = Cutter::new(self.gear, fixed, size);
        loop {
            self.engine.check_cancelled()?;
            let outcome = content.read(cutter.room())?;
            match outcome {
                Read::Data(len) => {
                    cutter.filled(len);
                    read.size += len as u64;
                    self.progress(len as u64);
                    while let Some(chunk) = cutter.next_full() {
                        read.extents.push(FreshExtent::Chunk(self.ingest.submit(chunk)?));
                    }
                }
                Read::Hole(_) | Read::End => {
                    while let Some(chunk) = cutter.next_last() {
                        read.extents.push(FreshExtent::Chunk(self.ingest.submit(chunk)?));
                    }
                    match outcome {
                        Read::Hole(len) => {
                            read.size += len;
                            read.extents.push(FreshExtent::Hole { len });
                        }
                        _ => return Ok(read),
                    }
                }
            }
        }
    }

    fn progress(&self, bytes: u64) {
        self.engine.progress.report(ProgressEvent::BytesDone { site: self.site.clone(), bytes });
    }
}

struct ReadContent {
    extents: Vec<FreshExtent>,
    size: u64,
}

/// The live entry with what only the parent knows of the same content.
fn same_content(mut entry: Entry, before: &Entry) -> Entry {
    if let EntryKind::Database { .. } = entry.kind {
        entry.kind = before.kind.clone();
        entry.metadata.size = before.metadata.size;
    }
    entry
}

fn empty_summary(source: &dyn Source, site: &SiteId) -> Result<PartSummary, Error> {
    Ok(PartSummary {
        position: lifeboat_model::Position(String::new()),
        identity: source.identity(site)?,
        problems: Vec::new(),
        left_out: Vec::new(),
    })
}

/// Cuts a stream into chunks: at fixed places, or where the content says.
struct Cutter<'a> {
    chunker: Chunker<'a>,
    fixed: Option<usize>,
    /// Bytes to begin with: as many as the entry is expected to have, and one to see its end.
    expected: usize,
    buffer: Vec<u8>,
    /// Bytes of the buffer that hold content: `start..end`.
    start: usize,
    end: usize,
}

impl<'a> Cutter<'a> {
    fn new(gear: &'a [u64; 256], fixed: Option<u32>, size: u64) -> Self {
        Self {
            chunker: Chunker::new(gear),
            fixed: fixed.map(|len| len as usize),
            expected: usize::try_from(size).unwrap_or(usize::MAX).saturating_add(1),
            buffer: Vec::new(),
            start: 0,
            end: 0,
        }
    }

    /// Free room at the end of the buffer: twice the longest chunk at most, and no more than the
    /// entry seems to need, because most are small.
    fn room(&mut self) -> &mut [u8] {
        const LEN_MIN: usize = 4 << 10;
        let len_max = (2 * self.fixed.unwrap_or(Chunker::LEN_MAX)).max(64 << 10);
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

    fn filled(&mut self, len: usize) {
        self.end += len;
    }

    /// The next chunk that cannot grow any more: one that ends before what is held does. The rest,
    /// less than a chunk, is looked at again with what comes next, which is cheaper than to hold,
    /// and move, as much as a chunk may have.
    fn next_full(&mut self) -> Option<Vec<u8>> {
        let held = &self.buffer[self.start..self.end];
        let len = match self.fixed {
            Some(fixed) => (held.len() >= fixed).then_some(fixed)?,
            None => {
                let len = self.chunker.cut(held);
                (len < held.len() || len == Chunker::LEN_MAX).then_some(len)?
            }
        };
        Some(self.take(len))
    }

    /// The next chunk when nothing more comes.
    fn next_last(&mut self) -> Option<Vec<u8>> {
        let held = &self.buffer[self.start..self.end];
        if held.is_empty() {
            return None;
        }
        let len = self.fixed.map_or_else(|| self.chunker.cut(held), |fixed| fixed.min(held.len()));
        Some(self.take(len))
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let chunk = self.buffer[self.start..self.start + len].to_vec();
        self.start += len;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cutter_loses_nothing_however_the_content_arrives() {
        let gear: [u64; 256] = std::array::from_fn(|n| (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let content: Vec<u8> = (0..9_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let whole = u64::MAX;
        for (fixed, step, size) in [
            (None, 100_000, 0),
            (None, 9_000_000, whole),
            (Some(65_536), 70_001, 9_000_000),
            (Some(65_536), 1_000_000, 5),
        ] {
            let mut cutter = Cutter::new(&gear, fixed, size);
            let mut chunks: Vec<Vec<u8>> = Vec::new();
            let mut rest = &content[..];
            while !rest.is_empty() {
                let room = cutter.room();
                let len = room.len().min(step).min(rest.len());
                room[..len].copy_from_slice(&rest[..len]);
                rest = &rest[len..];
                cutter.filled(len);
                chunks.extend(std::iter::from_fn(|| cutter.next_full()));
            }
            chunks.extend(std::iter::from_fn(|| cutter.next_last()));
            assert!(chunks.concat() == content, "{fixed:?} {step}");
            let mut rest = &content[..];
            for chunk in &chunks {
                let len = fixed.map_or_else(|| Chunker::new(&gear).cut(rest), |fixed| rest.len().min(fixed as usize));
                assert_eq!(chunk.len(), len, "the cuts depend on the content alone: {fixed:?} {step}");
                rest = &rest[len..];
            }
        }
    }
}
