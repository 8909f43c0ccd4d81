//! A database as a source: its sites, and one cut that all of them are read under.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifeboat_model::{PartIdentity, PartProblem, RestoreId, SiteId, SourceKind, SourceName};

use super::cut::{self, ExportedCut};
use super::describe::{Cut, SequenceState, TableDefinition, literal};
use super::reader::{Idle, RowsReader};
use super::target::{RowsTarget, WantedTable};
use super::{Catalogue, Classes, Column, PostgresConfig, Server, ServerFacts, Session, Table, Tenancy, classify};
use crate::{Discovery, Error, PartReader, Source};

/// One `[sources.NAME]` of kind `postgres`.
pub struct PostgresSource {
    name: SourceName,
    config: PostgresConfig,
    server: Server,
    current: Mutex<Option<Arc<Reading>>>,
}

/// Everything that is read under one cut.
pub(super) struct Reading {
    server: Server,
    pub catalogue: Catalogue,
    classes: Classes,
    cut: Cut,
    exported: Mutex<ExportedCut>,
    idle: Idle,
    facts: Mutex<Facts>,
}

/// What is the same for all sites of a cut, asked once.
#[derive(Default)]
struct Facts {
    /// Sites that surely have a row; `None`: nobody asked.
    sites: Option<BTreeSet<SiteId>>,
    sequences: Option<Arc<[SequenceState]>>,
    /// Whether the database has any large object.
    has_large_objects: Option<bool>,
}

impl PostgresSource {
    pub fn new(name: SourceName, config: PostgresConfig) -> Result<Self, Error> {
        let server = Server::new(name.as_str(), &config.url)?;
        if config.tenancy != Tenancy::Column {
            return Err(Error::BadConfig {
                source_name: name.to_string(),
                detail: "a schema or a database a site is not in this version".into(),
                hint: "only tenancy = \"column\" works so far".into(),
            });
        }
        Ok(Self { name, config, server, current: Mutex::new(None) })
    }

    pub fn config(&self) -> &PostgresConfig {
        &self.config
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Forgets the cut: what is opened from now on is read as it is then. Ends the transaction that
    /// keeps the server from cleaning up.
    pub fn end_cut(&self) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The cut that is open, or a new one.
    pub(super) fn reading(&self) -> Result<Arc<Reading>, Error> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = current.as_ref().filter(|reading| !reading.is_old()) {
            return Ok(reading.clone());
        }
        *current = None; // ends the old one before the new one begins
        let (exported, catalogue) = cut::take(&self.server)?;
        let classes = classify(self.name.as_str(), &catalogue, &self.config)?;
        classes.refuse_unclassed(self.name.as_str())?;
        let reading = Arc::new(Reading {
            server: self.server.clone(),
            catalogue,
            classes,
            cut: exported.cut.clone(),
            exported: Mutex::new(exported),
            idle: Idle::default(),
            facts: Mutex::default(),
        });
        *current = Some(reading.clone());
        Ok(reading)
    }

    /// The write side of one site's rows, under one restore id.
    pub fn target(&self, site: &SiteId, restore: RestoreId) -> Result<RowsTarget, Error> {
        let mut session = self.server.connect()?;
        let catalogue = Catalogue::load(&mut session)?;
        let classes = classify(self.name.as_str(), &catalogue, &self.config)?;
        classes.refuse_unclassed(self.name.as_str())?;
        let tenant = literal(site.as_str());
        let tables = catalogue.tables.keys().filter(|table| classes.is_of_sites(table));
        let conditions = tables.map(|table| (table.clone(), classes.predicate(table, "t", &tenant))).collect();
        Ok(RowsTarget::with_conditions(&self.server, &catalogue, conditions, site, restore))
    }

    /// What a site without any row has: every table, empty.
    pub fn no_rows(&self) -> Result<Vec<WantedTable>, Error> {
        let mut session = self.server.connect()?;
        let catalogue = Catalogue::load(&mut session)?;
        let classes = classify(self.name.as_str(), &catalogue, &self.config)?;
        let tables = catalogue.tables.values().filter(|table| classes.is_of_sites(&table.name));
        let empty = |table: &Table| WantedTable {
            name: table.name.clone(),
            rows: 0,
            digest: *blake3::hash(&[]).as_bytes(),
            size: 0,
            definition: TableDefinition::of(table),
        };
        Ok(tables.map(empty).collect())
    }

    /// Drops what a restore of this id has staged.
    pub fn sweep(&self, restore: RestoreId) -> Result<(), Error> {
        RowsTarget::sweep(&self.server, restore)
    }

    fn identity_of(&self, server: &ServerFacts) -> PartIdentity {
        let path = match &self.config.tenant_column {
            Some(column) => format!("rows by {column}"),
            None => "rows".to_owned(),
        };
        PartIdentity {
            machine: format!("postgresql {}", server.system_identifier),
            filesystem: server.database.clone(),
            path,
        }
    }
}

impl Source for PostgresSource {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Postgres
    }

    /// Lists the sites under a new cut, which the reads that follow share.
    fn discover(&self) -> Result<Discovery, Error> {
        self.end_cut();
        let reading = self.reading()?;
        let mut session = reading.session()?;
        let rows = session
            .query(&reading.classes.tenant_query(), &[])
            .map_err(|error| session.failed("cannot list the sites", &error))?;
        reading.give_back(session);
        let (mut sites, mut left_out) = (Vec::new(), Vec::new());
        for row in rows {
            let text: String = row.get(0);
            match SiteId::new(text.clone()) {
                Ok(site) => sites.push(site),
                Err(error) => left_out
                    .push(PartProblem { entry: crate::error::shown(text.as_bytes()), reason: error.to_string() }),
            }
        }
        sites.sort();
        sites.dedup();
        reading.facts().sites = Some(sites.iter().cloned().collect());
        Ok(Discovery { sites, left_out, root: self.identity_of(&reading.catalogue.server) })
    }

    fn open(&self, site: &SiteId) -> Result<Option<Box<dyn PartReader>>, Error> {
        let reading = self.reading()?;
        let identity = self.identity_of(&reading.catalogue.server);
        // A server that was restarted took the cut with it: the next site begins with a new one.
        let reader = RowsReader::open(&reading, site, identity).inspect_err(|_| self.end_cut())?;
        Ok(reader.map(|reader| Box::new(reader) as Box<dyn PartReader>))
    }

    fn identity(&self, _: &SiteId) -> Result<PartIdentity, Error> {
        Ok(self.identity_of(&self.reading()?.catalogue.server))
    }
}

impl Reading {
    pub fn cut(&self) -> Cut {
        self.cut.clone()
    }

    fn is_old(&self) -> bool {
        self.exported.lock().unwrap_or_else(PoisonError::into_inner).is_old()
    }

    /// A session that sees the cut.
    pub fn session(&self) -> Result<Session, Error> {
        match self.idle.take() {
            Some(session) => Ok(session),
            None => self.exported.lock().unwrap_or_else(PoisonError::into_inner).join(&self.server),
        }
    }

    pub fn give_back(&self, session: Session) {
        self.idle.put(session);
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the sequences stand: read after the cut was taken, so never below what its rows hold.
    pub fn sequences(&self) -> Result<Arc<[SequenceState]>, Error> {
        let mut facts = self.facts();
        if let Some(states) = &facts.sequences {
            return Ok(states.clone());
        }
        let mut exported = self.exported.lock().unwrap_or_else(PoisonError::into_inner);
        let states: Arc<[SequenceState]> = exported.sequences(&self.catalogue)?.into();
        facts.sequences = Some(states.clone());
        Ok(states)
    }

    /// The tables that hold rows of sites.
    pub fn site_tables(&self) -> impl Iterator<Item = &Table> {
        self.catalogue.tables.values().filter(|table| self.classes.is_of_sites(&table.name))
    }

    /// Whose rows, as a condition over the alias `t`.
    pub fn predicate(&self, table: &Table, literal: &str) -> Result<String, Error> {
        Ok(self.classes.predicate(&table.name, "t", literal))
    }

    /// Tables with rows of the site that refer to large objects: those are not stored, so the snapshot
    /// says that it is not whole.
    pub fn large_objects(&self, literal: &str) -> Result<Vec<PartProblem>, Error> {
        let columns = self.site_tables().flat_map(|table| table.columns.iter().map(move |column| (table, column)));
        let columns: Vec<_> = columns.filter(|(_, column)| column.is_large_object).collect();
        if columns.is_empty() || !self.has_large_objects()? {
            return Ok(Vec::new());
        }
        let mut refer = Vec::new();
        for (table, column) in &columns {
            let (condition, from) = (self.predicate(table, literal)?, table.from_item());
            refer.push(format!(
                "EXISTS (SELECT FROM {from} t JOIN pg_catalog.pg_largeobject_metadata m \
                 ON m.oid = t.{}::oid WHERE {condition})",
                column.quoted
            ));
        }
        let mut session = self.session()?;
        let found = session.query_one(&format!("SELECT {}", refer.join(", ")), &[]);
        let found = found.map_err(|error| session.failed("cannot look for large objects", &error))?;
        self.give_back(session);
        let refers = columns.iter().enumerate().filter(|(at, _)| found.get(*at));
        let problem = |(_, (table, column)): (usize, &(&Table, &Column))| PartProblem {
            entry: table.name.to_string(),
            reason: format!("column `{}` refers to large objects, which are not stored", column.name),
        };
        Ok(refers.map(problem).collect())
    }

    fn has_large_objects(&self) -> Result<bool, Error> {
        let mut facts = self.facts();
        if let Some(known) = facts.has_large_objects {
            return Ok(known);
        }
        let mut session = self.session()?;
        let found = session.query_one("SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)", &[]);
        let found = found.map_err(|error| session.failed("cannot look for large objects", &error))?.get(0);
        self.give_back(session);
        facts.has_large_objects = Some(found);
        Ok(found)
    }

    /// Whether any table has a row of the site.
    pub fn has_rows(&self, site: &SiteId, literal: &str) -> Result<bool, Error> {
        // Listed means that there is a row. Not listed means less: a foreign key to the root may have been broken.
        if self.facts().sites.as_ref().is_some_and(|sites| sites.contains(site)) {
            return Ok(true);
        }
        let mut any = Vec::new();
        for table in self.site_tables() {
            let condition = self.predicate(table, literal)?;
            any.push(format!("EXISTS (SELECT FROM {} t WHERE {condition})", table.from_item()));
        }
        if any.is_empty() {
            return Ok(false);
        }
        let mut session = self.session()?;
        let found = session.query_one(&format!("SELECT {}", any.join(" OR ")), &[]);
        match found {
            Ok(row) => {
                self.give_back(session);
                Ok(row.get(0))
            }
            // Not a value of the tenant's type: there can be no such site here.
            Err(error) if is_no_value(&error) => Ok(false),
            Err(error) => Err(session.failed("cannot look for the site's rows", &error)),
        }
    }
}

/// Class 22: the text is no value of the column's type, or out of its range; 23514: not one of its
/// domain.
fn is_no_value(error: &postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code().starts_with("22") || code.code() == "23514")
}
