//! The database's side of an epoch: from nothing, or from where the log ends, to a stream that runs.
//!
//! ```text
//! on     slot as it was left ─▶ stream from the end of the log
//! anew   publications ▸ event triggers ▸ old slot dropped ▸ slot + snapshot ▸ index filled under it ─▶ stream
//! ```
//!
//! What is not here: the log, and when which of the two is right (`lifeboat-engine`).

use std::collections::BTreeSet;
use std::time::Duration;

use lifeboat_model::{Lsn, Timestamp};

use super::partitions::leaves;
use super::sites::Sites;
use super::{
    CaptureStream, Coverage, Followed, Leaf, NewSlot, ReplicationSession, ServerIdentity, SlotState, Spilled,
    StructureNotes, capture_name, coverage, drop_slot, note_structure, set_up, slot_state,
};
use crate::postgres::routing::{Router, RoutingIndex};
use crate::postgres::{PostgresSource, Server, Session};
use crate::{Error, Source};

/// How long a new slot waits for each transaction that writes.
const SLOT_PATIENCE: Duration = Duration::from_secs(60);

/// A stream that runs, and what tells whose its changes are.
pub struct Following {
    pub stream: CaptureStream,
    pub router: Router,
    /// Tables whose changes are not, or not all, in the stream.
    pub partly: BTreeSet<String>,
}

/// A slot that was just made, with the index filled; its epoch is not in the log yet.
pub struct Prepared {
    pub server: ServerIdentity,
    pub database: String,
    pub slot: String,
    /// Every change that the stream gives has a later commit.
    pub begins: Lsn,
    /// What the index was filled under: `xmin:xmax:xip,…`.
    pub snapshot: String,
    pub coverage: Coverage,
    pub structure: StructureNotes,
    /// Partitions of the snapshot.
    pub leaves: Vec<(String, Leaf)>,
    session: ReplicationSession,
    router: Router,
    of: Server,
}

/// The snapshot, and what was under it.
type Filled = (String, Router, Vec<(String, Leaf)>);

/// Where a server's log was at a time by the server's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerTime {
    pub at: Timestamp,
    /// Everything that had committed is before it.
    pub position: Lsn,
}

/// Asks a server for that, over a session that stays open.
#[derive(Default)]
pub struct ServerClock {
    session: Option<Session>,
}

impl ServerClock {
    pub fn ask(&mut self, source: &PostgresSource) -> Result<ServerTime, Error> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => source.server().connect()?,
        };
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8,
            pg_catalog.pg_current_wal_insert_lsn()::text";
        let row = session.query_one(sql, &[]);
        let row = row.map_err(|error| session.failed("cannot ask where the server's log is", &error))?;
        let position = without_header(Lsn::parse(row.get(1)).unwrap_or_default());
        self.session = Some(session);
        Ok(ServerTime { at: Timestamp(row.get(0)), position })
    }
}

/// The next record begins behind the header of its page. Where the last one ended is before it, and no
/// more is ever sent until there is a next one.
fn without_header(insert: Lsn) -> Lsn {
    const PAGE: u64 = 8_192;
    match insert.0 % PAGE {
        // Of a page, and of the first page of a file.
        header @ (24 | 40) => Lsn(insert.0 - header),
        _ => insert,
    }
}

impl PostgresSource {
    /// The name of its slot.
    pub fn slot_name(&self) -> String {
        capture_name(self.name().as_str())
    }

    /// Whether the slot can be followed on from where the log ends.
    pub fn slot_state(&self, followed: &Followed) -> Result<SlotState, Error> {
        let found = ReplicationSession::connect(self.server())?.identify()?;
        slot_state(&mut self.server().connect()?, &found, followed)
    }

    /// Which server it is now.
    pub fn server_identity(&self) -> Result<ServerIdentity, Error> {
        ReplicationSession::connect(self.server())?.identify()
    }

    /// Follows on after `confirmed`.
    pub fn follow_on(&self, confirmed: Lsn) -> Result<Following, Error> {
        let session = ReplicationSession::connect(self.server())?;
        self.following(CaptureStream::begin(self.server(), session, &self.slot_name(), confirmed)?)
    }

    /// Follows on from what was kept, and from the slot where that ends.
    pub fn follow_on_behind(&self, spilled: Spilled) -> Result<Following, Error> {
        let (session, slot) = (ReplicationSession::connect(self.server())?, self.slot_name());
        self.following(CaptureStream::behind(self.server(), spilled, Some((session, &slot)))?)
    }

    /// Follows what was kept, and nothing else: the slot is no more.
    pub fn follow_spilled(&self, spilled: Spilled) -> Result<Following, Error> {
        self.following(CaptureStream::behind(self.server(), spilled, None)?)
    }

    fn following(&self, stream: CaptureStream) -> Result<Following, Error> {
        let sites = Sites::load(self)?;
        let covered = coverage(&mut self.server().connect()?, &sites.catalogue, &|table| sites.is_of_sites(table))?;
        Ok(Following { stream, router: sites.router, partly: covered.partly() })
    }

    /// Makes everything that an epoch begins with, and fills the index, which must be empty. Tables of no class
    /// are refused where nothing was captured before, and somebody is there to say whose they are; later they
    /// must not keep the others' changes out of the log.
    pub fn prepare(&self, index: &mut dyn RoutingIndex, is_first: bool) -> Result<Prepared, Error> {
        let (slot, mut session) = (self.slot_name(), self.server().connect()?);
        let sites = Sites::load(self)?;
        if is_first {
            sites.refuse_unclassed(self.name().as_str())?;
        }
        let covered = coverage(&mut session, &sites.catalogue, &|table| sites.is_of_sites(table))?;
        set_up(&mut session, &slot, &covered)?;
        let structure = note_structure(&mut session)?;
        drop_slot(&mut session, &slot)?;
        let mut replication = ReplicationSession::connect(self.server())?;
        let server = replication.identify()?;
        let NewSlot { consistent, snapshot } = replication.create_slot(&slot, SLOT_PATIENCE)?;
        let made = self.fill(index, &snapshot, structure == StructureNotes::Noted);
        let (snapshot, router, leaves) = made.inspect_err(|_| {
            // A slot that nobody follows keeps the server's log for ever.
            let _ = self.server().connect().and_then(|mut session| drop_slot(&mut session, &slot));
        })?;
        Ok(Prepared {
            server,
            database: sites.catalogue.server.database,
            slot,
            begins: consistent,
            snapshot,
            coverage: covered,
            structure,
            leaves,
            session: replication,
            router,
            of: self.server().clone(),
        })
    }

    /// Reads whose each row is, under the slot's own snapshot.
    fn fill(&self, index: &mut dyn RoutingIndex, snapshot: &str, are_noted: bool) -> Result<Filled, Error> {
        let mut session = self.server().connect()?;
        let adopt = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{}'",
            snapshot.replace('\'', "''")
        );
        session.batch_execute(&adopt).map_err(|error| session.failed("cannot adopt the slot's snapshot", &error))?;
        let row = session.query_one("SELECT pg_catalog.pg_current_snapshot()::text", &[]);
        let seen: String = row.map_err(|error| session.failed("cannot read the snapshot", &error))?.get(0);
        // As of the snapshot: a table that was made since is not in it.
        let sites = Sites::load(self)?;
        for query in sites.index_queries() {
            query.fill(&mut session, index)?;
        }
        Ok((seen, sites.router, leaves(&mut session, are_noted)?))
    }
}

impl Prepared {
    /// Nothing came of it: the slot is dropped, which would keep the server's log for nobody.
    pub fn abandon(self) {
        let Self { of, slot, session, .. } = self;
        drop(session); // it made the slot, and may still hold it
        let _ = of.connect().and_then(|mut session| drop_slot(&mut session, &slot));
    }

    /// Begins to follow; the snapshot ends.
    pub fn begin(self) -> Result<Following, Error> {
        let stream = CaptureStream::begin(&self.of, self.session, &self.slot, self.begins)?;
        Ok(Following { stream, router: self.router, partly: self.coverage.partly() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_behind_a_page_s_header_is_where_the_page_before_ended() {
        let check = |insert: u64, want: u64| assert_eq!(without_header(Lsn(insert)), Lsn(want), "{insert}");
        check(8_192 * 5, 8_192 * 5);
        check(8_192 * 5 + 24, 8_192 * 5);
        check((16 << 20) + 40, 16 << 20);
        check(8_192 * 5 + 56, 8_192 * 5 + 56);
    }
}
