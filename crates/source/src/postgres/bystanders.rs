//! Rows of sites that nobody restores, by their digests, all at one moment: whether somebody wrote to them since.
//!
//! Where sites share tables, all of a look are read under one exported snapshot; a schema or a database of a site's own
//! has one for itself. Each site costs what its own rows cost: nothing is listed, and no structure is written down.
//!
//! What is not here: choosing the sites, comparing two looks.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_model::{Lsn, SiteId, SourceMoment, SourceName};

use super::reading::Reading;
use super::target::{LiveLargeObject, LiveRows};
use super::tenancy::Home;
use super::{PostgresSource, Session, Tenancy, large_objects};
use crate::{Error, Source as _};

/// A look at rows; the moment ends when this is dropped.
pub struct RowsLook<'s> {
    source: &'s PostgresSource,
    /// Where sites share tables.
    shared: Option<Arc<Reading>>,
    moment: Option<SourceMoment>,
}

impl PostgresSource {
    /// Begins a look at the rows of several sites.
    pub fn look(&self) -> Result<RowsLook<'_>, Error> {
        let (shared, moment) = if self.config().tenancy == Tenancy::Column {
            let reading = Reading::begin(&Home::shared(self.server()), self.config())?;
            let cut = reading.cut();
            (Some(reading), moment(self.name(), &cut.lsn, cut.snapshot))
        } else {
            (None, now(self.name(), &mut self.server().connect()?))
        };
        Ok(RowsLook { source: self, shared, moment })
    }
}

impl RowsLook<'_> {
    /// Where the server's log stood; where each site has its own tables, when the look began. `None`: the server did
    /// not say.
    pub fn moment(&self) -> Option<&SourceMoment> {
        self.moment.as_ref()
    }

    /// Opens the connections that so many readers at once need, where sites share tables: whoever reads waits for none.
    pub fn connect(&self, readers: usize) -> Result<(), Error> {
        let Some(reading) = &self.shared else { return Ok(()) };
        let sessions: Vec<Session> = (0..readers).map(|_| reading.session()).collect::<Result<_, _>>()?;
        sessions.into_iter().for_each(|session| reading.give_back(session));
        Ok(())
    }

    /// One site's rows. `patience`: no single query takes longer.
    pub fn rows_of(&self, site: &SiteId, patience: Option<Duration>) -> Result<LiveRows, Error> {
        let reading = match &self.shared {
            Some(reading) => Arc::clone(reading),
            None => match self.source.home(site)?.filter(|home| home.exists) {
                Some(home) => Reading::begin(&home, self.source.config())?,
                None => return Ok(LiveRows { is_own: true, ..LiveRows::default() }),
            },
        };
        let tables = reading.tables_of(site);
        if !reading.has_rows(site, &tables)? {
            return Ok(LiveRows::default());
        }
        let objects = reading.large_objects(site, &tables)?;
        let mut session = reading.session()?;
        limit(&mut session, patience)?;
        let rows = LiveRows::read(&mut session, &tables)?;
        let readable = objects.iter().filter(|object| object.is_readable);
        let objects: Result<Vec<LiveLargeObject>, Error> = readable
            .map(|object| {
                let (size, digest) = large_objects::digest(&mut session, object.oid)?;
                Ok(LiveLargeObject { oid: object.oid, size, digest })
            })
            .collect();
        let objects = objects?;
        reading.give_back(session);
        let is_own = reading.is_of_one();
        Ok(LiveRows { is_present: rows.is_present || is_own, is_own, objects, ..rows })
    }
}

/// Within the transaction alone.
fn limit(session: &mut Session, patience: Option<Duration>) -> Result<(), Error> {
    let millis = patience.map_or(0, |patience| patience.as_millis().max(1));
    let set = format!("SET LOCAL statement_timeout = {millis}");
    session.batch_execute(&set).map_err(|error| session.failed("cannot limit the time of a look", &error))
}

fn now(source: &SourceName, session: &mut Session) -> Option<SourceMoment> {
    let query = "SELECT pg_catalog.pg_current_wal_insert_lsn()::text, pg_catalog.pg_current_snapshot()::text";
    let row = session.query_one(query, &[]).ok()?; // a standby has no such place
    moment(source, row.get::<_, String>(0).as_str(), row.get(1))
}

fn moment(source: &SourceName, lsn: &str, sees: String) -> Option<SourceMoment> {
    Some(SourceMoment { source: source.clone(), lsn: Lsn::parse(lsn).ok()?, sees })
}
