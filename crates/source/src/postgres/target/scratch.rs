//! Databases that were made for drills: held by one process, and emptied of what drills have left.
//!
//! Invariant (drill-copies-alone): what is dropped has a name that drills give and the mark of a copy, or is staging that
//! nobody keeps, in a database that no other drill works in.

use std::sync::Mutex;

use super::super::{PostgresSource, Server, Session, Tenancy};
use super::beside::{CopiedSchema, copied_databases, copied_schemas};
use super::fail::Ask;
use super::leftovers;
use crate::{Error, SCRATCH_PREFIX};

const ACTION: &str = "cannot take the database for drills";

/// Which database a server's URL leads to, however it is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DatabasePlace {
    pub system_identifier: String,
    pub database: String,
}

/// # Errors
/// When the server does not answer.
pub fn database_place(server: &Server) -> Result<DatabasePlace, Error> {
    let mut session = server.connect()?;
    let query = "SELECT (SELECT system_identifier FROM pg_control_system())::text, current_database()::text";
    let rows = session.rows("cannot ask which database it is", query)?;
    let text = |at: usize| rows.first().map(|row| row.get::<_, String>(at)).unwrap_or_default();
    Ok(DatabasePlace { system_identifier: text(0), database: text(1) })
}

/// A database that this process has to itself, as far as drills go, for as long as this lives.
pub struct DrillDatabase {
    server: Server,
    /// No live database is on the server.
    is_apart: bool,
    tenancy: Tenancy,
    /// Of the databases that it makes beside this one: what their names begin with.
    prefix: String,
    /// Holds the lock.
    session: Mutex<Session>,
}

impl std::fmt::Debug for DrillDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DrillDatabase").field("source", &self.server.source_name()).finish_non_exhaustive()
    }
}

impl DrillDatabase {
    /// Takes the database of this source, and drops what drills have left there that did not come to their end.
    ///
    /// `prefix`: what the names of the databases that it makes beside this one begin with. `is_apart`: no live database is on
    /// the server.
    ///
    /// # Errors
    /// [`Error::Busy`] while another drill works there.
    pub fn claim(source: &PostgresSource, prefix: &str, is_apart: bool) -> Result<Self, Error> {
        let server = source.server().clone();
        let mut session = server.connect()?;
        let lock = "SELECT pg_try_advisory_lock(hashtextextended('lifeboat drill', 0))";
        let rows = session.rows(ACTION, lock)?;
        if !rows.first().is_some_and(|row| row.get(0)) {
            return Err(Error::Busy {
                path: server.source_name().to_owned(),
                detail: "another drill is at work in the database for drills".into(),
                hint: "wait for it, or name another database in [drill]".into(),
            });
        }
        let tenancy = source.config().tenancy;
        let claimed = Self { server, is_apart, tenancy, prefix: prefix.to_owned(), session: Mutex::new(session) };
        claimed.sweep()?;
        Ok(claimed)
    }

    /// Drops the copy of this name; none is as good.
    pub fn drop_copy(&self, name: &str) -> Result<(), Error> {
        self.drop_copies(|copy| copy.name == name)
    }

    /// Drops all that drills have left.
    pub fn sweep(&self) -> Result<(), Error> {
        self.drop_copies(|_| true)?;
        let mut session = self.session();
        leftovers::sweep(&mut session);
        if self.tenancy == Tenancy::Database && self.is_apart {
            drop_abandoned(&mut session)?;
        }
        Ok(())
    }

    fn drop_copies(&self, is_wanted: impl Fn(&CopiedSchema) -> bool) -> Result<(), Error> {
        let mut session = self.session();
        let mut copies = copied_schemas(&mut session)?;
        // Databases are the whole server's: those of drills in other ones have other names.
        copies.extend(copied_databases(&mut session)?.into_iter().filter(|copy| copy.name.starts_with(&self.prefix)));
        let ours = copies.iter().filter(|copy| copy.name.starts_with(SCRATCH_PREFIX) && is_wanted(copy));
        for copy in ours {
            let statement = match copy.is_database {
                true => format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", copy.name),
                false => format!("DROP SCHEMA IF EXISTS {} CASCADE", copy.name),
            };
            session.run("cannot drop what a drill made", &statement)?;
        }
        Ok(())
    }

    fn session(&self) -> std::sync::MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Drops databases that somebody who was killed was making. Nobody but drills makes any on a server of their own.
fn drop_abandoned(session: &mut Session) -> Result<(), Error> {
    let query = "SELECT quote_ident(datname) FROM pg_database d WHERE datname ~ '^lifeboat_stage_[0-9a-f]{16}$' \
                 AND pg_has_role(datdba, 'USAGE') AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)";
    for row in session.rows("cannot look for what a drill left", query)? {
        let name: String = row.get(0);
        session.run("cannot drop what a drill left", &format!("DROP DATABASE IF EXISTS {name}"))?;
    }
    Ok(())
}
