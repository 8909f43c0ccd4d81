//! Reading one site's rows under a cut: an entry a table, its content what `COPY` writes; and an entry
//! a large object that they refer to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use lifeboat_model::{
    Entry, EntryKind, EntryMetadata, EntryPath, FileTime, PartIdentity, PartProblem, Position, RowsDigest, SiteId,
};

use super::describe::{DESCRIPTION_PATH, PartDescription, TableDefinition, entry_path};
use super::large_objects::{FoundLargeObject, LargeObjectContent, LargeObjectDefinition, large_object_path};
use super::reading::Reading;
use super::rows::{Origin, Rows};
use super::streams::Streams;
use super::structure::{POST_DATA_PATH, PRE_DATA_PATH};
use super::tenancy::SiteTable;
use super::{PostgresConfig, Session};
use crate::{Content, ContentCheck, Cutting, Error, PartReader, PartSummary, Read};

pub(super) struct RowsReader {
    reading: Arc<Reading>,
    streams: Option<Arc<Streams>>,
    site: SiteId,
    /// In path order; what is left to be listed.
    entries: std::vec::IntoIter<(Entry, Source)>,
    listed: BTreeMap<EntryPath, Source>,
    identity: PartIdentity,
    position: Position,
    problems: Vec<PartProblem>,
}

/// Where an entry's content comes from.
#[derive(Clone)]
enum Source {
    AtHand(Arc<Vec<u8>>),
    Table(Box<SiteTable>),
    Object { oid: u32, definition: Box<LargeObjectDefinition> },
}

/// So many large objects that may not be read are named, each with its grant.
const NAMED_MAX: usize = 20;

impl RowsReader {
    /// `None`: the site has no row in any of its tables.
    pub fn open(
        reading: &Arc<Reading>,
        config: &PostgresConfig,
        site: &SiteId,
        identity: PartIdentity,
    ) -> Result<Option<Self>, Error> {
        let tables = reading.tables_of(site);
        if !reading.has_rows(site, &tables)? {
            return Ok(None);
        }
        let (sequences, objects) = (reading.sequences()?, reading.large_objects(site, &tables)?);
        let mut problems = unreadable(&objects, &reading.catalogue.server.role);
        problems.extend(reading.extensions_inside()?);
        let mut description = PartDescription::new(&reading.catalogue, reading.cut(), sequences.to_vec());
        let mut entries = Vec::new();
        if reading.is_of_one() {
            let structure = reading.structure(config)?;
            description.database_properties = structure.database;
            description.unfilled_views = structure.unfilled_views;
            description.publications = structure.publications;
            entries.push(at_hand(PRE_DATA_PATH, structure.pre_data.into_bytes())?);
            entries.push(at_hand(POST_DATA_PATH, structure.post_data.into_bytes())?);
        }
        entries.push(at_hand(DESCRIPTION_PATH, description.to_json())?);
        for table in tables {
            entries.push((table_entry(&table)?, Source::Table(Box::new(table))));
        }
        for FoundLargeObject { oid, definition, .. } in objects.into_iter().filter(|object| object.is_readable) {
            let (path, metadata) = (path_of(large_object_path(oid).into_bytes())?, no_metadata(0));
            let entry = Entry { path, kind: EntryKind::File, metadata, extents: Vec::new() };
            entries.push((entry, Source::Object { oid, definition: Box::new(definition) }));
        }
        entries.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        let cut = reading.cut();
        let position = Position(format!("lsn={}, timeline={}, snapshot={}", cut.lsn, cut.timeline, cut.snapshot));
        let (reading, entries) = (reading.clone(), entries.into_iter());
        let (streams, site) = (None, site.clone());
        Ok(Some(Self { reading, streams, site, entries, listed: BTreeMap::new(), identity, position, problems }))
    }

    /// Takes the rows from these where they have them.
    pub fn with_streams(self, streams: Option<Arc<Streams>>) -> Self {
        Self { streams, ..self }
    }
}

impl PartReader for RowsReader {
    fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let Some((entry, source)) = self.entries.next() else { return Ok(None) };
        self.listed.insert(entry.path.clone(), source);
        Ok(Some(entry))
    }

    fn open_content(&mut self, entry: &Entry) -> Result<Box<dyn Content>, Error> {
        let source = self.listed.get(&entry.path).ok_or_else(|| Error::Gone { path: entry.path.to_string() })?;
        Ok(match source {
            Source::AtHand(bytes) => Box::new(Plain { entry: entry.clone(), bytes: bytes.clone(), read: 0 }),
            Source::Table(table) => {
                let streamed = self.streams.as_ref().and_then(|all| all.rows_of(&table.table.name, &self.site));
                let origin =
                    streamed.map_or_else(|| Origin::query(&self.reading, table), |rows| Ok(Origin::Stream(rows)))?;
                Box::new(Rows::new(self.reading.clone(), origin, entry.clone()))
            }
            Source::Object { oid, definition } => {
                Box::new(LargeObjectContent::open(&self.reading, entry, *oid, (**definition).clone())?)
            }
        })
    }

    fn cutting(&self) -> Cutting {
        Cutting::Lines
    }

    fn finish(self: Box<Self>) -> Result<PartSummary, Error> {
        Ok(PartSummary {
            position: self.position,
            identity: self.identity,
            problems: self.problems,
            left_out: Vec::new(),
        })
    }
}

/// Large objects that the role may not read: the snapshot is not whole without them, and says so.
fn unreadable(objects: &[FoundLargeObject], role: &str) -> Vec<PartProblem> {
    let hidden: Vec<&FoundLargeObject> = objects.iter().filter(|object| !object.is_readable).collect();
    let role = super::structure::ident(role);
    let problem = |object: &&FoundLargeObject| PartProblem {
        entry: format!("large object {}", object.oid),
        reason: format!(
            "the role may not read it: owner=`{}`; GRANT SELECT ON LARGE OBJECT {} TO {role}; or, for all that there \
             will be, GRANT pg_read_all_data TO {role};",
            object.definition.owner, object.oid
        ),
    };
    let mut problems: Vec<PartProblem> = hidden.iter().take(NAMED_MAX).map(problem).collect();
    if hidden.len() > NAMED_MAX {
        let entry = format!("{} more large objects", hidden.len() - NAMED_MAX);
        let reason = format!("the role may not read them: GRANT pg_read_all_data TO {role};");
        problems.push(PartProblem { entry, reason });
    }
    problems
}

fn table_entry(SiteTable { table, rule, .. }: &SiteTable) -> Result<Entry, Error> {
    let definition = TableDefinition { rule: rule.clone(), ..TableDefinition::of(table) }.to_json();
    let kind = EntryKind::Table { rows: 0, digest: RowsDigest::InOrder([0; 32]), definition };
    Ok(Entry {
        path: path_of(entry_path(&table.name).into_bytes())?,
        kind,
        metadata: no_metadata(0),
        extents: Vec::new(),
    })
}

/// An entry whose bytes are there.
fn at_hand(path: &[u8], bytes: Vec<u8>) -> Result<(Entry, Source), Error> {
    let digest = blake3::hash(&bytes);
    let (first, _) = digest.as_bytes().split_at(8);
    // It has no inode: a number that another content does not have tells the next backup of a change.
    let inode = first.iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    let metadata = EntryMetadata { inode, ..no_metadata(bytes.len() as u64) };
    let path = path_of(path.to_vec())?;
    let entry = Entry { path, kind: EntryKind::File, metadata, extents: Vec::new() };
    Ok((entry, Source::AtHand(Arc::new(bytes))))
}

fn path_of(bytes: Vec<u8>) -> Result<EntryPath, Error> {
    let shown = crate::error::shown(&bytes);
    EntryPath::new(bytes).map_err(|error| Error::Conflict {
        detail: format!("the table's name cannot be an entry's: {error}"),
        path: shown,
        hint: "name it under `ignored`, or rename the table".into(),
    })
}

/// Rows have no owner, mode or times.
fn no_metadata(size: u64) -> EntryMetadata {
    let never = FileTime::default();
    EntryMetadata { mode: 0o600, uid: 0, gid: 0, modified: never, changed: never, inode: 0, size, xattrs: Vec::new() }
}

/// Bytes that are at hand.
struct Plain {
    entry: Entry,
    bytes: Arc<Vec<u8>>,
    read: usize,
}

impl Content for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> Result<Read, Error> {
        let rest = &self.bytes[self.read..];
        if rest.is_empty() {
            return Ok(Read::End);
        }
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.read += len;
        Ok(Read::Data(len))
    }

    fn check(&mut self) -> Result<ContentCheck, Error> {
        Ok(ContentCheck::Stable(Box::new(self.entry.clone())))
    }
}

/// Sessions under one cut that nobody uses now.
#[derive(Default)]
pub(super) struct Idle(Mutex<Vec<Session>>);

impl Idle {
    pub fn take(&self) -> Option<Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub fn put(&self, session: Session) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }
}
