//! Reading one part into the repository: unchanged entries by reference, the others by content.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use lifeboat_model::{
    Entry, EntryKind, EntryPath, Fault, Faulty, PartProblem, PartRecord, PartStatus, ProgressEvent, SiteId, Timestamp,
};
use lifeboat_repo::ManifestPart;
use lifeboat_repo::{FreshExtent, Ingest, NewPart, Site, StoredContent};
use lifeboat_source::{Content, ContentCheck, Cutting, PartReader, PartSummary, Read, Source};

use super::cutter::Cutter;
use crate::{Engine, Error};

/// A file that is written to while it is read is read again this often before it is reported.
const ATTEMPTS_MAX: usize = 3;

/// Everything needed to read parts of one site.
pub(crate) struct PartIngest<'a> {
    pub engine: &'a Engine,
    pub site: &'a SiteId,
    ingest: &'a Ingest,
    gear: Box<[u64; 256]>,
    /// What content is read into, kept from one entry to the next.
    buffer: Cell<Vec<u8>>,
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

impl<'a> PartIngest<'a> {
    pub(crate) fn new(engine: &'a Engine, site: &'a Site, ingest: &'a Ingest) -> Self {
        Self { engine, site: site.id(), ingest, gear: site.keys().gear_table(), buffer: Cell::default() }
    }

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
                // Nobody may be there to ask what to do: the snapshot itself says it.
                let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                let status = PartStatus::Failed { reason: format!("{error}{hint}") };
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
                ref kind if kind.has_content() => match parent.unchanged(&entry) {
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
            let extents = self.read_content(content.as_mut(), reader.cutting(), entry.metadata.size)?;
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
        let read = self.read_content(content.as_mut(), Cutting::Content, 0)?;
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
    fn read_content(&self, content: &mut dyn Content, cutting: Cutting, size: u64) -> Result<ReadContent, Error> {
        let mut read = ReadContent { extents: Vec::new(), size: 0 };
        let mut cutter = Cutter::new(&self.gear, cutting, size, self.buffer.take());
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
                        _ => {
                            self.buffer.set(cutter.into_buffer());
                            return Ok(read);
                        }
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
