//! `RowsExport`: one part's rows as files that `psql` alone can load; no database is needed.
//!
//! ```text
//! begin ▸ write_at… ▸ verify                           ▸ switch
//! spool, staging directory    rows ▸ digest ▸ CSV         one rename
//! ```
//!
//! The directory appears whole and under its name, or not at all: killed anywhere, what is left is a
//! staging directory beside it, which the next run makes anew.
//!
//! What is not here: which rows, and from where they come.

mod csv;
mod files;
mod script;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lifeboat_model::Fault;
use serde::{Deserialize, Serialize};

use super::describe::{PartDescription, SequenceState, TableDefinition};
use super::digests::shown;
use super::large_objects::{LargeObjectDefinition, WantedLargeObject};
use super::structure::Structure;
use super::target::WantedTable;
use super::target::spool::Spool;
use crate::Error;

/// File names of an export besides the tables' own.
const DESCRIPTION: &str = "part.json";
const CONSTRAINTS: &str = "constraints.sql";
const OBJECTS: &str = "large-objects.sql";

/// What is exported, for the person who finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub site: String,
    pub source: String,
    /// RFC 3339.
    pub at: String,
    pub snapshot: String,
}

/// One table of `part.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ExportedTable {
    definition: TableDefinition,
    rows: u64,
    /// Relative to the directory.
    file: String,
    /// BLAKE3 of the rows as COPY text, in hex; behind `sum:` that of each row, added up, least significant
    /// byte first.
    #[serde(rename = "rows_blake3")]
    digest: String,
    /// BLAKE3 of the file, in hex.
    #[serde(rename = "csv_blake3")]
    csv: String,
}

/// `part.json`: written last, and read again to tell a whole export from something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Exported {
    /// Version of this file.
    export: u32,
    #[serde(flatten)]
    about: About,
    tables: Vec<ExportedTable>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    large_objects: Option<ExportedLargeObjects>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<PartDescription>,
}

/// The large objects of `part.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ExportedLargeObjects {
    objects: BTreeMap<u32, LargeObjectDefinition>,
    file: String,
    /// BLAKE3 of the file, in hex.
    file_blake3: String,
}

/// One part's rows on their way into a directory of their own.
pub struct RowsExport {
    directory: PathBuf,
    about: About,
    tables: Vec<WantedTable>,
    objects: Vec<WantedLargeObject>,
    description: Option<PartDescription>,
    structure: Option<Structure>,
    spool: Option<Spool>,
    is_verified: bool,
}

impl RowsExport {
    /// `directory`: where the export will be; its parent is made when it is missing.
    pub fn new(directory: &Path, about: About) -> Self {
        Self {
            directory: directory.to_owned(),
            about,
            tables: Vec::new(),
            objects: Vec::new(),
            description: None,
            structure: None,
            spool: None,
            is_verified: false,
        }
    }

    /// With where the sequences stood, and how the database was built, as far as the snapshot knows.
    pub fn with_description(self, description: Option<PartDescription>, structure: Option<Structure>) -> Self {
        Self { description, structure, ..self }
    }

    /// Whether the directory holds this very export, whole and as it was written.
    pub fn is_there(directory: &Path, about: &About, tables: &[WantedTable], objects: &[WantedLargeObject]) -> bool {
        let read = std::fs::read(directory.join(DESCRIPTION)).ok();
        let Some(found) = read.and_then(|json| serde_json::from_slice::<Exported>(&json).ok()) else { return false };
        let is_same = |(found, wanted): (&ExportedTable, &WantedTable)| {
            found.definition.name == wanted.name.as_str()
                && found.rows == wanted.rows
                && found.digest == shown(&wanted.digest)
                && files::digest(&directory.join(&found.file)).is_ok_and(|digest| hex(&digest) == found.csv)
        };
        // A path of its own is never trusted: a file is what its table's name says.
        let is_ours =
            |(at, found): (usize, &ExportedTable)| found.file == script::file_name(&found.definition.name, at);
        found.about == *about
            && found.tables.len() == tables.len()
            && found.tables.iter().enumerate().all(is_ours)
            && found.tables.iter().zip(tables).all(is_same)
            && has_objects(directory, found.large_objects.as_ref(), objects)
    }

    /// Makes an empty staging directory and an empty spool; what a killed run left is removed.
    pub fn begin(&mut self, tables: &[WantedTable], objects: &[WantedLargeObject]) -> Result<(), Error> {
        self.is_verified = false;
        files::begin(&self.staging())?;
        let sizes = tables.iter().map(|table| table.size).chain(objects.iter().map(|object| object.size));
        self.spool = Some(Spool::create(sizes)?);
        (self.tables, self.objects) = (tables.to_vec(), objects.to_vec());
        Ok(())
    }

    /// Takes bytes of a table's content (by its place in what [`Self::begin`] was given), or behind the
    /// tables of a large object's, from any thread and in any order.
    pub fn write_at(&self, table: usize, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.spool()?.write_at(table, offset, bytes)
    }

    /// Writes every file and proves that the rows in them are the snapshot's.
    pub fn verify(&mut self) -> Result<(), Error> {
        let (staging, spool) = (self.staging(), self.spool()?);
        let mut tables = Vec::new();
        for (at, table) in self.tables.iter().enumerate() {
            let file = script::file_name(table.name.as_str(), at);
            let csv = files::write_table(&staging, &file, table, (spool, at))?;
            let definition = table.definition.clone();
            tables.push(ExportedTable {
                definition,
                rows: table.rows,
                file,
                digest: shown(&table.digest),
                csv: hex(&csv),
            });
        }
        let large_objects = self.write_objects(&staging, spool)?;
        let sequences = self.sequences();
        let constraints = self.structure.as_ref().map(|_| CONSTRAINTS);
        match &self.structure {
            Some(structure) => {
                files::write(&staging, "schema.sql", script::without_owners(&structure.pre_data).as_bytes())?;
                files::write(&staging, CONSTRAINTS, script::without_owners(&structure.post_data).as_bytes())?;
            }
            None => files::write(&staging, "schema.sql", script::schema(&tables, &sequences).as_bytes())?,
        }
        let objects = large_objects.as_ref().map(|_| OBJECTS);
        let load = script::load(&self.about, &tables, &sequences, (objects, constraints));
        files::write(&staging, "load.sql", load.as_bytes())?;
        files::write(
            &staging,
            "README.md",
            script::readme(&self.about, &tables, (self.objects.len(), constraints.is_some())).as_bytes(),
        )?;
        let (about, part) = (self.about.clone(), self.description.clone());
        let exported = Exported { export: 1, about, tables, large_objects, part };
        let json = serde_json::to_vec_pretty(&exported).unwrap_or_default(); // strings and numbers always serialise
        files::write(&staging, DESCRIPTION, &json)?;
        files::sync(&staging)?;
        self.spool = None;
        self.is_verified = true;
        Ok(())
    }

    /// `None`: there are none.
    fn write_objects(&self, staging: &Path, spool: &Spool) -> Result<Option<ExportedLargeObjects>, Error> {
        if self.objects.is_empty() {
            return Ok(None);
        }
        let digest = files::write_objects(staging, OBJECTS, &self.objects, (spool, self.tables.len()))?;
        let objects = self.objects.iter().map(|object| (object.oid, object.definition.clone())).collect();
        Ok(Some(ExportedLargeObjects { objects, file: OBJECTS.to_owned(), file_blake3: hex(&digest) }))
    }

    /// Gives the directory its name; never over anything.
    pub fn switch(&mut self) -> Result<(), Error> {
        if !self.is_verified {
            return Err(not_begun());
        }
        self.is_verified = false;
        files::switch(&self.staging(), &self.directory)
    }

    /// Removes what is staged.
    pub fn discard_staging(&self) -> Result<(), Error> {
        files::remove(&self.staging())
    }

    fn staging(&self) -> PathBuf {
        let name = self.directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.directory.with_file_name(format!(".lifeboat-export-{name}"))
    }

    /// Those of the exported tables, and those of no table.
    fn sequences(&self) -> Vec<SequenceState> {
        let is_exported = |table: &String| self.tables.iter().any(|known| known.name.as_str() == table);
        let all = self.description.iter().flat_map(|description| &description.sequences);
        all.filter(|state| state.owner.as_ref().is_none_or(|(table, _)| is_exported(table))).cloned().collect()
    }

    fn spool(&self) -> Result<&Spool, Error> {
        self.spool.as_ref().ok_or_else(not_begun)
    }
}

/// Whether these very objects were exported.
fn has_objects(directory: &Path, found: Option<&ExportedLargeObjects>, wanted: &[WantedLargeObject]) -> bool {
    let Some(found) = found else { return wanted.is_empty() };
    let is_same = |object: &WantedLargeObject| found.objects.get(&object.oid) == Some(&object.definition);
    found.objects.len() == wanted.len()
        && wanted.iter().all(is_same)
        && files::digest(&directory.join(OBJECTS)).is_ok_and(|digest| hex(&digest) == found.file_blake3)
}

fn not_begun() -> Error {
    Error::Database {
        source_name: String::new(),
        action: "cannot export rows".into(),
        detail: "nothing has begun".into(),
        hint: String::new(),
        fault: Fault::Bug,
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
