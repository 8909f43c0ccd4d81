//! `DatabaseBeside`: one site's own database at the point, under another name, to be looked at.
//!
//! ```text
//! begin ▸ write_at… ▸ verify                              ▸ switch
//!         spool       made whole as `lifeboat_stage_…`       renamed
//! ```
//!
//! It is made as a dropped one is made again (`make`), with other properties: the mark is its comment,
//! transactions in it only read unless they say otherwise, and nobody but its owner may connect. Sources
//! pass over databases that have the mark.
//!
//! What is not here: taking the owner's or a superuser's right to write; a database has no such switch.

use lifeboat_model::{RestoreId, SiteId};

use super::super::describe::literal;
use super::super::export::About;
use super::super::large_objects::WantedLargeObject;
use super::super::structure::ident;
use super::super::tenancy::Home;
use super::super::{PostgresConfig, PostgresSource, Server, Tenancy};
use super::fail::Ask;
use super::{Found, LiveRows, MARK, RowsTarget, VerifiedRows, WantedRows, WantedTable, make};
use crate::Error;

const READ_ONLY: &str = "default_transaction_read_only";
/// The server cuts longer names off.
const NAME_BYTES_MAX: usize = 63;

/// One site's database on its way to a place of its own.
pub struct DatabaseBeside {
    door: Server,
    config: PostgresConfig,
    site: SiteId,
    name: String,
    mark: String,
    /// Without tables and large objects, which `begin` is given.
    wanted: WantedRows,
    work: Option<(RowsTarget, Option<VerifiedRows>)>,
}

impl DatabaseBeside {
    /// `name`: of the database, not quoted. `wanted`: the part at the point, with its structure.
    pub fn new(source: &PostgresSource, name: &SiteId, about: About, wanted: &WantedRows) -> Result<Self, Error> {
        let name = name.as_str();
        if name.starts_with("pg_") || name.starts_with("lifeboat_stage_") || name.len() > NAME_BYTES_MAX {
            return Err(Error::Conflict {
                path: name.to_owned(),
                detail: "no database of a copy can have this name".into(),
                hint: format!(
                    "give a name of at most {NAME_BYTES_MAX} bytes that does not begin with pg_ or lifeboat_stage_"
                ),
            });
        }
        let About { site, source: part, at, snapshot } = &about;
        let mark = format!("{MARK}site=`{site}`, source=`{part}`, at=`{at}`, snapshot=`{snapshot}`");
        let Some(mut structure) = wanted.structure.clone() else {
            return Err(Error::Conflict {
                path: name.to_owned(),
                detail: "a copy of a database is made whole, with its structure, which is not asked for or not stored"
                    .into(),
                hint: "leave the table out to have the whole database beside, or export that table (--export DIR)"
                    .into(),
            });
        };
        let mut properties = structure.database.unwrap_or_default();
        properties.settings.retain(|(_, setting)| !setting.starts_with(READ_ONLY));
        properties.settings.push((None, format!("{READ_ONLY}=on")));
        (properties.owner, properties.grants) = (String::new(), Some(Vec::new()));
        properties.comment = Some(mark.clone());
        structure.database = Some(properties);
        let wanted = WantedRows {
            is_present: true,
            tables: Vec::new(),
            objects: Vec::new(),
            sequences: wanted.sequences.clone(),
            structure: Some(structure),
        };
        let (door, config, name) = (source.server().clone(), source.config().clone(), name.to_owned());
        let site = SiteId::new(site.clone()).map_err(|error| Error::Conflict {
            path: name.clone(),
            detail: error.to_string(),
            hint: String::new(),
        })?;
        Ok(Self { door, config, site, name, mark, wanted, work: None })
    }

    /// What has the name already.
    pub fn look(&self, wanted: &[WantedTable]) -> Result<Found, Error> {
        let mut door = self.door.connect()?;
        let query = format!(
            "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = {}",
            literal(&self.name)
        );
        let rows = door.rows("cannot look for the copy", &query)?;
        let Some(row) = rows.first() else { return Ok(Found::Nothing) };
        if row.get::<_, String>(0) != self.mark {
            return Ok(Found::SomethingElse);
        }
        let live = self.target(true)?.live()?;
        let is_same = |wanted: &WantedTable| {
            live.tables.iter().any(|table| table.name == wanted.name && table.digests.are(&wanted.digest))
        };
        Ok(if wanted.iter().all(is_same) { Found::Same } else { Found::SomethingElse })
    }

    /// The name as it stands in SQL.
    pub fn quoted_name(&self) -> String {
        ident(&self.name)
    }

    /// Makes an empty spool for the tables and the large objects.
    pub fn begin(&mut self, tables: &[WantedTable], objects: &[WantedLargeObject]) -> Result<(), Error> {
        let mut target = self.target(false)?;
        let (tables, objects) = (tables.to_vec(), objects.to_vec());
        let wanted = WantedRows { tables, objects, ..self.wanted.clone() };
        target.begin(wanted, LiveRows { is_own: true, ..LiveRows::default() })?;
        self.work = Some((target, None));
        Ok(())
    }

    /// Takes bytes of a table's content (by its place in what [`Self::begin`] was given), or behind the
    /// tables of a large object's, from any thread and in any order.
    pub fn write_at(&self, table: usize, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.work.as_ref().ok_or_else(|| self.not_begun())?.0.write_at(table, offset, bytes)
    }

    /// Makes the database under the staging name and proves that it holds what the snapshot says.
    pub fn verify(&mut self) -> Result<(), Error> {
        let not_begun = self.not_begun();
        let (target, verified) = self.work.as_mut().ok_or(not_begun)?;
        *verified = Some(target.verify()?);
        Ok(())
    }

    /// Gives the database its name.
    pub fn switch(&mut self) -> Result<(), Error> {
        let Some((mut target, Some(verified))) = self.work.take() else { return Err(self.not_begun()) };
        match target.switch(verified) {
            Err(_) if make::has_database(&mut self.door.connect()?, &self.name)? => Err(Error::Conflict {
                path: self.name.clone(),
                detail: "a database of this name was made meanwhile".into(),
                hint: "nothing was changed: give another name".into(),
            }),
            other => other.map(|_| ()),
        }
    }

    /// Drops what is staged.
    pub fn discard_staging(&self) -> Result<(), Error> {
        Ok(make::drop_database(&mut self.door.connect()?, &self.target(false)?.schema)?)
    }

    fn target(&self, exists: bool) -> Result<RowsTarget, Error> {
        let server = self.door.with_database(&self.name);
        let home = Home { server, door: self.door.clone(), schema: None, tenancy: Tenancy::Database, exists };
        // The staging name follows from what is copied: the next run finds what a killed one left.
        let hash = blake3::hash(format!("{}\n{}", self.mark, self.name).as_bytes());
        let restore = RestoreId(*hash.as_bytes().first_chunk().unwrap_or(&[0; 8]));
        RowsTarget::open(&home, &self.config, &self.site, restore)
    }

    fn not_begun(&self) -> Error {
        Error::Database {
            source_name: self.door.source_name().to_owned(),
            action: "cannot make a copy beside the live database".into(),
            detail: "nothing has begun".into(),
            hint: String::new(),
            fault: lifeboat_model::Fault::Bug,
        }
    }
}
