//! Rows of the catalog's tables and the values they stand for.

use std::time::Duration;

use lifeboat_model::{
    DrillFailed, Generation, Proven, RecoveryId, RunNumber, RunOutcome, SiteHandle, SiteId, SnapshotId, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::{Head, Noted, RunSeen, SiteFingerprint, SiteHead, SiteRow, SiteRun, SiteSummary, record, standing};

pub(super) fn head(connection: &Connection, handle: SiteHandle) -> rusqlite::Result<Option<Head>> {
    let sql = "SELECT generation, hash FROM site WHERE handle = ?1";
    connection.prepare_cached(sql)?.query_row([handle.0], |row| head_of(row, 0)).optional()
}

pub(super) fn last_run(connection: &Connection) -> rusqlite::Result<Option<RunNumber>> {
    let number: Option<i64> = connection.query_row("SELECT max(number) FROM run", [], |row| row.get(0))?;
    Ok(number.map(|number| RunNumber(number.cast_unsigned())))
}

pub(super) fn sites(connection: &Connection) -> rusqlite::Result<Vec<SiteRow>> {
    let mut statement = connection.prepare_cached(&format!("{SELECT_SITES} ORDER BY site.site"))?;
    statement.query_map([], row_of)?.collect()
}

pub(super) fn site(connection: &Connection, site: &SiteId) -> rusqlite::Result<Option<SiteRow>> {
    let mut statement = connection.prepare_cached(&format!("{SELECT_SITES} WHERE site.site = ?1"))?;
    statement.query_row([site.as_str()], row_of).optional()
}

pub(super) fn fingerprint(connection: &Connection, handle: SiteHandle) -> rusqlite::Result<Option<SiteFingerprint>> {
    let sql = "SELECT generation, hash, digest, snapshot FROM fingerprint WHERE handle = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row([handle.0], |row| {
        let snapshot = record::from_text(row.get_ref(3)?.as_str()?);
        Ok(snapshot.map(|snapshot| (head_of(row, 0), row.get(2), snapshot)))
    });
    let Some((head, digest, snapshot)) = found.optional()?.flatten() else { return Ok(None) };
    Ok(Some(SiteFingerprint { head: head?, digest: digest?, snapshot }))
}

pub(super) fn note_fingerprint(
    connection: &Connection,
    handle: SiteHandle,
    fingerprint: &SiteFingerprint,
) -> rusqlite::Result<()> {
    let SiteFingerprint { head, digest, snapshot } = fingerprint;
    let Some(snapshot) = record::to_text(snapshot) else { return Ok(()) };
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO fingerprint (handle, generation, hash, digest, snapshot) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    statement.execute(params![handle.0, head.generation.0.cast_signed(), head.hash, digest, snapshot])?;
    Ok(())
}

/// In a write transaction of its own: what was compared is what is replaced.
pub(super) fn note_head(connection: &mut Connection, site: &SiteHead) -> rusqlite::Result<Noted> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match head(&transaction, site.handle)? {
        Some(known) if known.generation > site.head.generation => return Ok(Noted::Older { known }),
        Some(known) if known.generation == site.head.generation && known.hash != site.head.hash => {
            return Ok(Noted::Forked { known });
        }
        _ => {}
    }
    write_head(&transaction, site)?;
    transaction.commit()?;
    Ok(Noted::Current)
}

pub(super) fn write_head(connection: &Connection, site: &SiteHead) -> rusqlite::Result<()> {
    let SiteHead { site, handle, head, summary } = site;
    let mut statement = connection.prepare_cached(
        "INSERT INTO site (handle, site, generation, hash, latest, latest_at, logical_bytes, entries, good, incomplete,
           suspect, undo, holds, has_intent)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
         ON CONFLICT (handle) DO UPDATE SET site = ?2, generation = ?3, hash = ?4, latest = ?5, latest_at = ?6,
           logical_bytes = ?7, entries = ?8, good = ?9, incomplete = ?10, suspect = ?11, undo = ?12, holds = ?13,
           has_intent = ?14",
    )?;
    statement.execute(params![
        handle.0,
        site.as_str(),
        head.generation.0.cast_signed(),
        head.hash,
        summary.latest.map(|id| id.0),
        summary.latest_at.map(|time| time.0),
        summary.logical_bytes.cast_signed(),
        summary.entries.cast_signed(),
        summary.good.cast_signed(),
        summary.incomplete.cast_signed(),
        summary.suspect.cast_signed(),
        summary.undo.cast_signed(),
        summary.holds.cast_signed(),
        summary.has_intent,
    ])?;
    let (proven, failed) = (summary.proven, summary.drill_failed);
    match proven.is_some() || failed.is_some() {
        false => connection.prepare_cached("DELETE FROM proven WHERE handle = ?1")?.execute([handle.0])?,
        true => {
            let took = proven.map(|proven| i64::try_from(proven.took.as_micros()).unwrap_or(i64::MAX));
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO proven (handle, proven_at, moment, took_micros, drill, failed_at, failed_drill)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    handle.0,
                    proven.map(|proven| proven.at.0),
                    proven.map(|proven| proven.moment.0),
                    took,
                    proven.map(|proven| proven.drill.0),
                    failed.map(|failed| failed.at.0),
                    failed.map(|failed| failed.drill.0),
                ])?
        }
    };
    standing::write(connection, *handle, summary.standing.as_ref())
}

pub(super) fn note_run(connection: &mut Connection, run: &RunSeen) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    write_run(&transaction, run)?;
    transaction.commit()
}

pub(super) fn write_run(connection: &Connection, run: &RunSeen) -> rusqlite::Result<()> {
    let RunSeen { number, finished_at, sites } = run;
    connection.execute(
        "INSERT INTO run (number, finished_at) VALUES (?1, ?2) ON CONFLICT (number) DO UPDATE SET finished_at = ?2",
        params![number.0.cast_signed(), finished_at.0],
    )?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO site_run (handle, run, seen_at, snapshot, outcome, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (handle) DO UPDATE SET run = ?2, seen_at = ?3, snapshot = ?4, outcome = ?5, reason = ?6
         WHERE run <= ?2",
    )?;
    for (handle, site) in sites {
        let (outcome, reason) = match &site.outcome {
            RunOutcome::Published => (0, None),
            RunOutcome::Unchanged => (1, None),
            RunOutcome::Failed { reason } => (2, Some(reason)),
            RunOutcome::Vanished => (3, None),
        };
        let snapshot = site.snapshot.map(|id| id.0);
        statement.execute(params![handle.0, number.0.cast_signed(), site.seen_at.0, snapshot, outcome, reason])?;
    }
    Ok(())
}

const SELECT_SITES: &str = "SELECT site.handle, site.site, generation, hash, latest, latest_at, logical_bytes, entries,
    good, incomplete, suspect, undo, holds, has_intent, run, seen_at, site_run.snapshot, outcome, reason,
    proven_at, moment, took_micros, drill, failed_at, failed_drill, standing
  FROM site LEFT JOIN site_run ON site_run.handle = site.handle LEFT JOIN proven ON proven.handle = site.handle
    LEFT JOIN standing ON standing.handle = site.handle";

fn head_of(row: &Row<'_>, first: usize) -> rusqlite::Result<Head> {
    Ok(Head { generation: Generation(row.get::<_, i64>(first)?.cast_unsigned()), hash: row.get(first + 1)? })
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<SiteRow> {
    let number = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
    let site: String = row.get(1)?;
    let summary = SiteSummary {
        latest: row.get::<_, Option<[u8; 8]>>(4)?.map(SnapshotId),
        latest_at: row.get::<_, Option<i64>>(5)?.map(Timestamp),
        logical_bytes: number(6)?,
        entries: number(7)?,
        good: number(8)?,
        incomplete: number(9)?,
        suspect: number(10)?,
        undo: number(11)?,
        holds: number(12)?,
        has_intent: row.get(13)?,
        proven: row.get::<_, Option<i64>>(19)?.map(|at| proven_of(row, at)).transpose()?,
        drill_failed: row.get::<_, Option<i64>>(23)?.map(|at| failed_of(row, at)).transpose()?,
        standing: row.get_ref(25)?.as_str_or_null()?.and_then(standing::of_text),
    };
    Ok(SiteRow {
        site: SiteId::new(site).map_err(|error| unreadable(1, error))?,
        handle: SiteHandle(row.get(0)?),
        head: head_of(row, 2)?,
        summary,
        last_run: row.get::<_, Option<i64>>(14)?.map(|run| run_of(row, run)).transpose()?,
    })
}

fn proven_of(row: &Row<'_>, at: i64) -> rusqlite::Result<Proven> {
    let took = Duration::from_micros(row.get::<_, i64>(21)?.cast_unsigned());
    Ok(Proven { at: Timestamp(at), moment: Timestamp(row.get(20)?), took, drill: RecoveryId(row.get(22)?) })
}

fn failed_of(row: &Row<'_>, at: i64) -> rusqlite::Result<DrillFailed> {
    Ok(DrillFailed { at: Timestamp(at), drill: RecoveryId(row.get(24)?) })
}

fn run_of(row: &Row<'_>, run: i64) -> rusqlite::Result<SiteRun> {
    let outcome = match row.get::<_, i64>(17)? {
        0 => RunOutcome::Published,
        1 => RunOutcome::Unchanged,
        2 => RunOutcome::Failed { reason: row.get::<_, Option<String>>(18)?.unwrap_or_default() },
        3 => RunOutcome::Vanished,
        other => return Err(rusqlite::Error::IntegralValueOutOfRange(17, other)),
    };
    Ok(SiteRun {
        run: RunNumber(run.cast_unsigned()),
        seen_at: Timestamp(row.get(15)?),
        snapshot: row.get::<_, Option<[u8; 8]>>(16)?.map(SnapshotId),
        outcome,
    })
}

fn unreadable(column: usize, error: lifeboat_model::IdError) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}
