//! One moment of a database, which several sessions read.
//!
//! `COPY` reads the file that a table has now, not the one it had at the snapshot: after a TRUNCATE or
//! a rewriting ALTER it returns no rows and no error. So every table is locked in ACCESS SHARE before
//! the snapshot is taken, which both of them have to wait for, and the files are compared once more.

use std::time::{Duration, Instant};

use postgres::error::SqlState;

use super::connect::LOCK_TIMEOUT;
use super::describe::{Cut, SequenceState};
use super::locks::Watch;
use super::tenancy::Owners;
use super::{Catalogue, PostgresConfig, Sequence, Server, Session, Table};
use crate::Error;

/// A table that was altered while the cut was taken is looked at again this often.
const ATTEMPTS_MAX: usize = 5;
/// A snapshot keeps the server from removing dead rows: it is not held longer than this.
const AGE_MAX: Duration = Duration::from_secs(600);

/// Sequences that one query reads.
const SEQUENCES_AT_ONCE: usize = 200;

/// One site is a small part of its tables: look it up rather than read everybody's rows, and do not
/// compile a plan that runs for milliseconds.
pub(super) const PLANNING: &str = "SET LOCAL jit = off; SET LOCAL random_page_cost = 1.1";

/// How a failure begins that is over when others let the tables go.
pub const CANNOT_LOCK: &str = "cannot lock the tables for reading";

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// An exported snapshot; it ends when this is dropped.
pub(super) struct ExportedCut {
    /// Keeps the snapshot, and the locks, for the others.
    exporter: Session,
    /// By which other sessions, and `pg_dump`, see the same.
    pub name: String,
    pub cut: Cut,
    taken: Instant,
}

/// Takes a cut of the tables whose rows are sites', and gives the catalogue of that very moment, and
/// whose they are.
pub(super) fn take(
    server: &Server,
    schema: Option<&str>,
    config: &PostgresConfig,
) -> Result<(ExportedCut, Catalogue, Owners), Error> {
    let mut looking = server.connect()?;
    for _ in 0..ATTEMPTS_MAX {
        let before = Catalogue::load_schema(&mut looking, schema)?;
        let owners = Owners::of(server.source_name(), &before, config)?;
        let read: Vec<&Table> =
            before.tables.values().filter(|table| owners.is_of_sites(table, schema) && table.privileges[0]).collect();
        let mut exporter = server.connect()?;
        begin_locked(server, &mut exporter, &read)?;
        let exported = export(exporter, &before)?;
        // With the locks held nobody alters a table any more.
        let after = Catalogue::load_schema(&mut looking, schema)?;
        if is_same(&before, &after)
            && let Some(cut) = exported
        {
            return Ok((cut, after, owners));
        }
    }
    Err(Error::Busy {
        path: server.source_name().to_owned(),
        detail: "tables are altered or truncated faster than a snapshot can be taken".into(),
        hint: "wait until the migration is over, then run the same command again".into(),
    })
}

fn begin_locked(server: &Server, session: &mut Session, tables: &[&Table]) -> Result<(), Error> {
    session.batch_execute(BEGIN).map_err(|error| session.failed("cannot begin a snapshot", &error))?;
    if tables.is_empty() {
        return Ok(());
    }
    // Partitions are locked with their root; LOCK takes no snapshot yet.
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
    let watch = Watch::over(server, session);
    session.batch_execute(&lock).map_err(|error| {
        let action = CANNOT_LOCK;
        match error.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => watch.tell(server.source_name(), action, LOCK_TIMEOUT),
            _ => session.failed(action, &error),
        }
    })
}

/// Exports the snapshot; `None`: a table's file is not the one that the snapshot sees.
fn export(mut exporter: Session, catalogue: &Catalogue) -> Result<Option<ExportedCut>, Error> {
    let lsn = "CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
               ELSE pg_catalog.pg_current_wal_insert_lsn() END";
    let clock =
        "pg_catalog.to_char(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    // After a failover the checkpoint's own is the old one, until the next checkpoint; a file's name has the new one.
    let timeline = "CASE WHEN pg_catalog.pg_is_in_recovery() \
                    THEN (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()) \
                    ELSE ('x' || pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8)\
                    )::bit(32)::int4 END";
    // A standby lists none of the transactions that ran on the primary: by that list all of them were seen.
    let seen = "CASE WHEN pg_catalog.pg_is_in_recovery() THEN '' ELSE pg_catalog.pg_current_snapshot()::text END";
    let query = format!("SELECT pg_catalog.pg_export_snapshot(), ({lsn})::text, ({timeline}), {seen}, {clock}");
    let row = exporter.query_one(&query, &[]).map_err(|error| exporter.failed("cannot export a snapshot", &error))?;
    let timeline: i32 = row.get(2);
    let cut = Cut {
        lsn: row.get::<_, Option<String>>(1).unwrap_or_default(),
        timeline: timeline.unsigned_abs(),
        snapshot: row.get(3),
        clock: row.get(4),
    };
    let name = row.get(0);
    let oids: Vec<u32> = catalogue.tables.values().map(|table| table.oid).collect();
    let moved = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c WHERE c.oid = ANY($1) AND c.relfilenode <> 0 \
                 AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)";
    let moved = exporter
        .query_one(moved, &[&oids])
        .map_err(|error| exporter.failed("cannot look at the tables' files", &error))?;
    let is_whole = moved.get::<_, i64>(0) == 0;
    Ok(is_whole.then(|| ExportedCut { exporter, name, cut, taken: Instant::now() }))
}

/// Estimates change at any time and mean nothing.
fn is_same(before: &Catalogue, after: &Catalogue) -> bool {
    let without_estimates = |catalogue: &Catalogue| {
        let mut catalogue = catalogue.clone();
        catalogue.tables.values_mut().for_each(|table| table.rows_estimate = 0);
        catalogue
    };
    without_estimates(before) == without_estimates(after)
}

impl ExportedCut {
    /// A further session that sees the same rows.
    pub fn join(&self, server: &Server) -> Result<Session, Error> {
        let mut session = server.connect()?;
        let adopt = format!("{BEGIN}; SET TRANSACTION SNAPSHOT '{}'; {PLANNING}", self.name);
        session.batch_execute(&adopt).map_err(|error| session.failed("cannot join the snapshot", &error))?;
        Ok(session)
    }

    pub fn is_old(&self) -> bool {
        self.taken.elapsed() > AGE_MAX
    }

    /// Where the sequences stand. They do not keep to transactions: this is now, not at the cut, and
    /// so never below what any row of the cut holds.
    ///
    /// `all`: those that belong to no column as well.
    pub fn sequences(&mut self, catalogue: &Catalogue, all: bool) -> Result<Vec<SequenceState>, Error> {
        let wanted: Vec<&Sequence> = catalogue.sequences.iter().filter(|one| all || one.owner.is_some()).collect();
        let mut states = Vec::with_capacity(wanted.len());
        for some in wanted.chunks(SEQUENCES_AT_ONCE) {
            let read = |(at, sequence): (usize, &&Sequence)| {
                format!("SELECT {at} AS number, last_value, is_called FROM {}", sequence.name)
            };
            let reads: Vec<String> = some.iter().enumerate().map(read).collect();
            let rows = self.exporter.query(&format!("{} ORDER BY number", reads.join(" UNION ALL ")), &[]);
            let rows = rows.map_err(|error| self.exporter.failed("cannot read the sequences", &error))?;
            for (sequence, row) in some.iter().zip(rows) {
                let owner = sequence.owner.as_ref().and_then(|(name, at)| {
                    let column = catalogue.tables.get(name)?.columns.get(*at)?;
                    Some((name.as_str().to_owned(), column.name.clone()))
                });
                states.push(SequenceState {
                    name: sequence.name.as_str().to_owned(),
                    last_value: row.get(1),
                    is_called: row.get(2),
                    owner,
                });
            }
        }
        Ok(states)
    }
}
