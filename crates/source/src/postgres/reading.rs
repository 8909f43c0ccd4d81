//! Everything that is read under one cut: of all sites that share tables, or of one site's schema or
//! database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifeboat_model::{Fault, Faulty, PartProblem, SiteId};

use super::cut::{self, ExportedCut};
use super::describe::{Cut, SequenceState};
use super::large_objects::{self, FoundLargeObject};
use super::reader::Idle;
use super::streams::Streams;
use super::structure::{self, Structure};
use super::tenancy::{Home, Owners, SiteTable};
use super::{Catalogue, Classes, PostgresConfig, Server, Session};
use crate::Error;

/// From so many sites on, one read of a whole table costs less than a query a site: a guess.
const MANY_SITES: usize = 16;

pub(super) struct Reading {
    server: Server,
    /// The schema that alone is read.
    schema: Option<String>,
    pub catalogue: Catalogue,
    owners: Owners,
    cut: Cut,
    exported: Mutex<ExportedCut>,
    idle: Idle,
    facts: Mutex<Facts>,
    streams: Mutex<Option<Arc<Streams>>>,
    /// A connection was lost: the others may be, and the cut with them.
    is_lost: AtomicBool,
}

/// What is the same for all sites of a cut, asked once.
#[derive(Default)]
struct Facts {
    /// Sites that surely have a row; `None`: nobody asked.
    sites: Option<BTreeSet<String>>,
    sequences: Option<Arc<[SequenceState]>>,
    /// Whether the database has any large object.
    has_large_objects: Option<bool>,
    /// Which of them each site's rows refer to; `None`: each site is asked for.
    objects: Option<BTreeMap<String, Vec<u32>>>,
}

impl Reading {
    /// Takes a cut of the place.
    pub fn begin(home: &Home, config: &PostgresConfig) -> Result<Arc<Self>, Error> {
        let (exported, catalogue, owners) = cut::take(&home.server, home.schema.as_deref(), config)?;
        Ok(Arc::new(Self {
            server: home.server.clone(),
            schema: home.schema.clone(),
            catalogue,
            owners,
            cut: exported.cut.clone(),
            exported: Mutex::new(exported),
            idle: Idle::default(),
            facts: Mutex::default(),
            streams: Mutex::default(),
            is_lost: AtomicBool::new(false),
        }))
    }

    pub fn cut(&self) -> Cut {
        self.cut.clone()
    }

    /// Whether what is read next is to be read as it is then. While tables are read for many sites the cut
    /// stays, however old it is.
    pub fn is_over(&self) -> bool {
        let are_running = self.streams().as_ref().is_some_and(|streams| streams.are_running());
        self.is_lost.load(Ordering::Relaxed) || (self.exported().is_old() && !are_running)
    }

    /// Something could not be read: a lost connection says that the others may be lost too.
    pub fn note_failure(&self, error: &Error) {
        if error.fault() == Fault::Retry {
            self.is_lost.store(true, Ordering::Relaxed);
        }
    }

    /// What reads tables for many sites at once, this one among them; `expected` are the sites to come.
    /// The first of them begins it. A site that was not listed is not among them.
    pub fn streams_for(&self, site: &SiteId, expected: impl FnOnce() -> Vec<SiteId>) -> Option<Arc<Streams>> {
        let mut streams = self.streams();
        if !streams.as_ref().is_some_and(|streams| streams.serve(site)) {
            *streams = None; // ends the old ones first
            let expected = expected();
            let begun = Streams::begin(self, &expected).unwrap_or_else(|error| {
                tracing::warn!(%error, "no table is read for all sites at once");
                Streams::none(&expected)
            });
            *streams = Some(Arc::new(begun));
        }
        let streams = streams.as_ref().inspect(|streams| streams.note_turn(site)).cloned();
        streams.filter(|_| self.is_listed(site))
    }

    /// Those of the sites that are found when all are listed under this cut.
    pub fn listed(&self, sites: &[SiteId]) -> Result<Vec<SiteId>, Error> {
        if self.facts().sites.is_none() {
            self.tenants()?;
        }
        Ok(sites.iter().filter(|site| self.is_listed(site)).cloned().collect())
    }

    /// Whether the site was found when the sites were listed under this cut.
    fn is_listed(&self, site: &SiteId) -> bool {
        self.facts().sites.as_ref().is_some_and(|sites| sites.contains(site.as_str()))
    }

    /// A session that sees the cut.
    pub fn session(&self) -> Result<Session, Error> {
        match self.idle.take() {
            Some(session) => Ok(session),
            None => self.exported().join(&self.server),
        }
    }

    pub fn give_back(&self, session: Session) {
        self.idle.put(session);
    }

    /// Where the sequences stand: read after the cut was taken, so never below what its rows hold.
    pub fn sequences(&self) -> Result<Arc<[SequenceState]>, Error> {
        let mut facts = self.facts();
        if let Some(states) = &facts.sequences {
            return Ok(states.clone());
        }
        let states: Arc<[SequenceState]> = self.exported().sequences(&self.catalogue, self.is_of_one())?.into();
        facts.sequences = Some(states.clone());
        Ok(states)
    }

    /// The sites that share the tables, as text.
    pub fn tenants(&self) -> Result<Vec<String>, Error> {
        let Some(classes) = self.classes() else { return Ok(Vec::new()) };
        let mut session = self.session()?;
        let rows = session
            .query(&classes.tenant_query(), &[])
            .map_err(|error| session.failed("cannot list the sites", &error))?;
        refuse_spellings(&mut session, classes)?;
        self.give_back(session);
        let tenants: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        self.facts().sites = Some(tenants.iter().cloned().collect());
        Ok(tenants)
    }

    /// The tenants that have a row in the root; `None`: there is no root.
    pub fn rooted(&self) -> Result<Option<Vec<String>>, Error> {
        let Some(query) = self.classes().and_then(Classes::root_query) else { return Ok(None) };
        let mut session = self.session()?;
        let rows = session.query(&query, &[]).map_err(|error| session.failed("cannot list the sites", &error))?;
        self.give_back(session);
        Ok(Some(rows.iter().filter_map(|row| row.get(0)).collect()))
    }

    /// The tables that hold rows of sites, each with the condition that says which are this one's.
    pub fn tables_of(&self, site: &SiteId) -> Vec<SiteTable> {
        self.owners.tables(&self.catalogue, self.schema.as_deref(), site)
    }

    /// Whose each row is; `None`: all are one site's.
    pub fn classes(&self) -> Option<&Classes> {
        match &self.owners {
            Owners::ByClass(classes) => Some(classes),
            Owners::One { .. } => None,
        }
    }

    /// Whether all that is read is one site's.
    pub fn is_of_one(&self) -> bool {
        self.classes().is_none()
    }

    /// The statements that make the schema or the database again, as of the cut.
    pub fn structure(&self, config: &PostgresConfig) -> Result<Structure, Error> {
        let snapshot = self.exported().name.clone();
        let version = self.catalogue.server.version;
        let structure = structure::dump(&self.server, config, version, &snapshot, self.schema.as_deref())?;
        let mut session = self.session()?;
        let structure = structure.complete(&mut session, version, self.schema.as_deref())?;
        self.give_back(session);
        Ok(structure)
    }

    /// Of many sites to come: reads once for all of them which large objects their rows refer to.
    pub fn prepare_for(&self, sites: usize) -> Result<(), Error> {
        let Some(classes) = self.classes().filter(|_| sites >= MANY_SITES) else { return Ok(()) };
        let mut tables = self.catalogue.tables.values().filter(|table| classes.is_of_sites(&table.name));
        let may_refer = tables.any(|table| table.columns.iter().any(|column| column.is_large_object));
        let is_known = |facts: &Facts| facts.objects.is_some() || facts.sites.is_none();
        if !may_refer || is_known(&self.facts()) || !self.has_large_objects()? {
            return Ok(());
        }
        let mut session = self.session()?;
        let found = large_objects::of_each(&mut session, &self.catalogue, classes)?;
        self.give_back(session);
        self.facts().objects = Some(found);
        Ok(())
    }

    /// The large objects that the site's rows refer to; of a database that is the site's, all in it.
    pub fn large_objects(&self, site: &SiteId, tables: &[SiteTable]) -> Result<Vec<FoundLargeObject>, Error> {
        let is_whole = self.is_of_one() && self.schema.is_none();
        let refers = |one: &SiteTable| one.table.columns.iter().any(|column| column.is_large_object);
        if !(is_whole || tables.iter().any(refers)) || !self.has_large_objects()? {
            return Ok(Vec::new());
        }
        let is_listed = self.is_listed(site);
        let of_site = |all: &BTreeMap<String, Vec<u32>>| all.get(site.as_str()).cloned().unwrap_or_default();
        let known = self.facts().objects.as_ref().filter(|_| is_listed).map(of_site);
        let mut session = self.session()?;
        let oids = match known {
            Some(oids) => oids,
            None if is_whole => large_objects::all(&mut session)?,
            None => large_objects::of_rows(&mut session, tables)?,
        };
        let found = large_objects::details(&mut session, &oids)?;
        self.give_back(session);
        Ok(found)
    }

    /// Extensions that lie in the site's own schema: what writes down one schema leaves them out, so the
    /// site could not be made again, and the snapshot says that it is not whole.
    pub fn extensions_inside(&self) -> Result<Vec<PartProblem>, Error> {
        let Some(schema) = &self.schema else { return Ok(Vec::new()) };
        let mut session = self.session()?;
        let query = "SELECT e.extname::text FROM pg_catalog.pg_extension e \
                     JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE n.nspname = $1 ORDER BY 1";
        let found = session.query(query, &[schema]);
        let found = found.map_err(|error| session.failed("cannot look for extensions", &error))?;
        self.give_back(session);
        let problem = |row: &postgres::Row| PartProblem {
            entry: format!("extension {}", row.get::<_, String>(0)),
            reason: "it lies in the site's schema, and could not be made again with it: move it to another schema \
                     (ALTER EXTENSION … SET SCHEMA)"
                .to_owned(),
        };
        Ok(found.iter().map(problem).collect())
    }

    fn has_large_objects(&self) -> Result<bool, Error> {
        let mut facts = self.facts();
        if let Some(known) = facts.has_large_objects {
            return Ok(known);
        }
        let mut session = self.session()?;
        let found = large_objects::are_any(&mut session)?;
        self.give_back(session);
        facts.has_large_objects = Some(found);
        Ok(found)
    }

    /// Whether any table has a row of the site. A schema or database of its own may be empty.
    pub fn has_rows(&self, site: &SiteId, tables: &[SiteTable]) -> Result<bool, Error> {
        // Listed means that there is a row. Not listed means less: a foreign key to the root may have been broken.
        if self.is_listed(site) {
            return Ok(true);
        }
        let has = |SiteTable { table, condition, .. }: &SiteTable| {
            format!("EXISTS (SELECT FROM {} t WHERE {condition})", table.from_item())
        };
        let any: Vec<String> = tables.iter().map(has).collect();
        if self.is_of_one() || any.is_empty() {
            return Ok(self.is_of_one());
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

    fn streams(&self) -> MutexGuard<'_, Option<Arc<Streams>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exported(&self) -> MutexGuard<'_, ExportedCut> {
        self.exported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows whose tenant is equal to another one, and written otherwise: nobody knows whose they are.
fn refuse_spellings(session: &mut Session, classes: &Classes) -> Result<(), Error> {
    let action = "cannot look how tenants are written";
    let differs = "SELECT EXISTS (SELECT FROM pg_catalog.pg_collation WHERE NOT collisdeterministic)";
    let differs = session.query_one(differs, &[]).map_err(|error| session.failed(action, &error))?.get(0);
    for (table, query) in classes.spelling_queries(differs) {
        let found: i64 = session.query_one(&query, &[]).map_err(|error| session.failed(action, &error))?.get(0);
        if found > 0 {
            return Err(Error::Conflict {
                path: table.to_string(),
                detail: format!(
                    "tenants that are equal are written in several ways, such as 1 and 1.0: found=`{found}`"
                ),
                hint:
                    "write each tenant in one way in every table, as it stands in the root: the text is the site's id"
                        .into(),
            });
        }
    }
    Ok(())
}

/// Class 22: the text is no value of the column's type, or out of its range; 23514: not one of its
/// domain.
fn is_no_value(error: &postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code().starts_with("22") || code.code() == "23514")
}
