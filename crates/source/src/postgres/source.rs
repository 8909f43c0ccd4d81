//! A database as a source: its sites, and one cut that all of them are read under.

use std::sync::{Arc, Mutex, PoisonError};

use lifeboat_model::{PartIdentity, PartProblem, RestoreId, SiteId, SourceKind, SourceName};

use super::classify;
use super::reader::RowsReader;
use super::reading::Reading;
use super::target::RowsTarget;
use super::tenancy::{self, Home};
use super::{Catalogue, PostgresConfig, Server, ServerFacts, TableName, Tenancy};
use crate::{Discovery, Error, MissedSite, PartReader, Source};

/// One `[sources.NAME]` of kind `postgres`.
pub struct PostgresSource {
    name: SourceName,
    config: PostgresConfig,
    server: Server,
    /// Of sites that share tables: they are read under one cut.
    current: Mutex<Option<Arc<Reading>>>,
    /// Sites that a run is about to read, in this order.
    expected: Mutex<Vec<SiteId>>,
}

impl PostgresSource {
    pub fn new(name: SourceName, config: PostgresConfig) -> Result<Self, Error> {
        let server = Server::new(name.as_str(), &config.url)?;
        Ok(Self::with_server(name, config, server))
    }

    /// The same, with a server that is at hand; the configuration's `url` is not looked at.
    pub fn with_server(name: SourceName, config: PostgresConfig, server: Server) -> Self {
        Self { name, config, server, current: Mutex::default(), expected: Mutex::default() }
    }

    /// The same source for somebody else's thread: it shares no cut with this one.
    pub fn another(&self) -> Self {
        Self::with_server(self.name.clone(), self.config.clone(), self.server.clone())
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
        self.expect(&[]);
        self.forget_cut();
    }

    fn forget_cut(&self) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Sites that a run is about to read, this one first; none: it is not one of them.
    fn expected_from(&self, site: &SiteId) -> Vec<SiteId> {
        let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.binary_search(site).map(|at| expected[at..].to_vec()).unwrap_or_default()
    }

    /// The cut of the shared tables that is open, or a new one.
    fn shared_reading(&self) -> Result<Arc<Reading>, Error> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = current.as_ref().filter(|reading| !reading.is_over()) {
            return Ok(reading.clone());
        }
        *current = None; // ends the old one before the new one begins
        let reading = Reading::begin(&Home::shared(&self.server), &self.config)?;
        *current = Some(reading.clone());
        Ok(reading)
    }

    /// Where the site's rows are, or would be; `None`: no schema or database can be called like that.
    pub(super) fn home(&self, site: &SiteId) -> Result<Option<Home>, Error> {
        let (tenancy, shared) = (self.config.tenancy, Home::shared(&self.server));
        if tenancy == Tenancy::Column {
            return Ok(Some(shared));
        }
        let Some(name) = self.config.names.name_of(site) else { return Ok(None) };
        let exists = self.names()?.contains(&name);
        Ok(Some(match tenancy {
            Tenancy::Schema => Home { schema: Some(name), tenancy, exists, ..shared },
            _ => Home { server: self.server.with_database(&name), tenancy, exists, ..shared },
        }))
    }

    /// Whether the server follows another one.
    pub fn is_standby(&self) -> Result<bool, Error> {
        Ok(Catalogue::server(&mut self.server.connect()?)?.is_standby)
    }

    /// Whether the site's schema or database is there; of sites that share tables always.
    pub fn has_place(&self, site: &SiteId) -> Result<bool, Error> {
        Ok(self.home(site)?.is_some_and(|home| home.exists))
    }

    /// Whether each site has a schema.
    pub fn has_own_tables(&self) -> bool {
        self.config.tenancy == Tenancy::Schema
    }

    /// Whether all rows of a table are this site's, by the schema that it is in.
    pub fn is_own_table(&self, table: &TableName, site: &SiteId) -> bool {
        let schema = classify::parts(table.as_str()).and_then(|parts| parts.into_iter().next());
        self.config.tenancy == Tenancy::Schema && schema.is_some() && self.config.names.name_of(site) == schema
    }

    /// The site to whom all rows of a table are, by the schema that it is in; also of one that is gone.
    pub fn site_of_table(&self, table: &str) -> Option<SiteId> {
        let schema = classify::parts(table).and_then(|parts| parts.into_iter().next())?;
        let is_own = self.config.tenancy == Tenancy::Schema && !self.config.not_sites.contains(&schema);
        let site = self.config.names.site_of(&schema).filter(|_| is_own)?;
        SiteId::new(site).ok()
    }

    /// The schemas or databases that are sites'.
    fn names(&self) -> Result<Vec<String>, Error> {
        tenancy::names(&mut self.server.connect()?, &self.config)
    }

    /// The write side of one site's rows, under one restore id.
    pub fn target(&self, site: &SiteId, restore: RestoreId) -> Result<RowsTarget, Error> {
        let home = self.home(site)?.ok_or_else(|| self.no_name(site))?;
        RowsTarget::open(&home, &self.config, site, restore)
    }

    /// The sites that have a row in the root: those that the product itself still knows. Of the others orphans may be left,
    /// which the source lists all the same. `None`: there is no root.
    pub fn rooted(&self) -> Result<Option<Vec<SiteId>>, Error> {
        if self.config.tenancy != Tenancy::Column {
            return Ok(None);
        }
        let rooted = self.shared_reading()?.rooted()?;
        Ok(rooted.map(|names| names.into_iter().filter_map(|name| SiteId::new(name).ok()).collect()))
    }

    fn no_name(&self, site: &SiteId) -> Error {
        Error::Conflict {
            path: site.to_string(),
            detail: "no schema or database can have the site's name: it would be longer than 63 bytes".into(),
            hint: "check the site's name, and the source's `schema` or `database` pattern".into(),
        }
    }

    fn identity_of(&self, server: &ServerFacts, site: Option<&SiteId>) -> PartIdentity {
        let name = site.and_then(|site| self.config.names.name_of(site)).unwrap_or_default();
        let column = self.config.tenant_column.as_ref();
        let (filesystem, path) = match self.config.tenancy {
            Tenancy::Column => (&server.database, column.map_or("rows".into(), |column| format!("rows by {column}"))),
            Tenancy::Schema => (&server.database, format!("schema {name}")),
            Tenancy::Database if name.is_empty() => (&server.database, "databases".to_owned()),
            Tenancy::Database => (&name, "the whole database".to_owned()),
        };
        PartIdentity {
            machine: format!("postgresql {}", server.system_identifier),
            filesystem: filesystem.clone(),
            path: path.trim_end().to_owned(),
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

    /// Lists the sites; of those that share tables under a new cut, which the reads that follow share.
    fn discover(&self) -> Result<Discovery, Error> {
        self.end_cut();
        let (names, server) = if self.config.tenancy == Tenancy::Column {
            let reading = self.shared_reading()?;
            (reading.tenants()?, reading.catalogue.server.clone())
        } else {
            let names = self.names()?;
            let sites = names.iter().filter_map(|name| self.config.names.site_of(name).map(str::to_owned));
            (sites.collect(), Catalogue::server(&mut self.server.connect()?)?)
        };
        let (mut sites, mut missed) = (Vec::new(), Vec::new());
        for name in names {
            match SiteId::new(name.clone()) {
                Ok(site) => sites.push(site),
                // In a table each id is a customer.
                Err(error) => missed.push(MissedSite {
                    site: None,
                    problem: PartProblem { entry: crate::error::shown(name.as_bytes()), reason: error.to_string() },
                    remedy: "give those sites other ids".into(),
                }),
            }
        }
        sites.sort();
        sites.dedup();
        Ok(Discovery { sites, left_out: Vec::new(), missed, root: self.identity_of(&server, None) })
    }

    fn open(&self, site: &SiteId) -> Result<Option<Box<dyn PartReader>>, Error> {
        let reading = match self.config.tenancy {
            Tenancy::Column => self.shared_reading()?,
            _ => match self.home(site)?.filter(|home| home.exists) {
                Some(home) => Reading::begin(&home, &self.config)?,
                None => return Ok(None),
            },
        };
        let identity = self.identity_of(&reading.catalogue.server, Some(site));
        reading.prepare_for(self.expected_from(site).len()).inspect_err(|_| self.forget_cut())?;
        // A server that was restarted took the cut with it: the next site begins with a new one.
        let reader = RowsReader::open(&reading, &self.config, site, identity).inspect_err(|_| self.forget_cut())?;
        let streams = || reading.streams_for(site, || self.expected_from(site));
        Ok(reader.map(|reader| Box::new(reader.with_streams(streams())) as Box<dyn PartReader>))
    }

    fn expect(&self, sites: &[SiteId]) {
        *self.expected.lock().unwrap_or_else(PoisonError::into_inner) = sites.to_vec();
    }

    fn identity(&self, site: &SiteId) -> Result<PartIdentity, Error> {
        Ok(self.identity_of(&Catalogue::server(&mut self.server.connect()?)?, Some(site)))
    }
}
