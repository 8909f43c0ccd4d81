//! The switch: one transaction, in which live rows become the snapshot's.
//!
//! ```text
//! site's advisory lock ▸ begin ▸ lock tables ▸ unchanged since the undo? ▸ note what goes
//!   ▸ large objects ▸ delete ▸ update ▸ insert ▸ sequences ▸ what was put off to the end
//!   ▸ prove: counters, content, references
//!   ▸ whose the large objects are ▸ commit
//! ```
//!
//! A fresh session each time: counters of earlier transactions would mix with ours. Tables are
//! locked before the snapshot is taken, so that nobody alters or truncates them in between.

use std::time::Duration;

use lifeboat_model::{Check, Fault, TransactionId};

use super::super::locks::Watch;
use super::super::tenancy::SiteTable;
use super::super::{Server, Session, TableKind, TableName};
use super::fail::{Ask, Fail, Outcome};
use super::scope::Scope;
use super::sequences::raise;
use super::{RowsTarget, SwitchedRows, TableDiff, VerifiedRows, Work, large_objects, prove, sql, staging};
use crate::Error;

/// A transaction that lost against another one is tried again this often.
pub(super) const ATTEMPTS_MAX: u32 = 6;
/// How long it asks what became of a COMMIT whose answer was lost: a server may be restarting.
const FATE_PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn switch(target: &RowsTarget, work: &Work, verified: &VerifiedRows) -> Result<SwitchedRows, Error> {
    let mut attempt = 1;
    loop {
        match switch_once(target, work, verified) {
            Err(fail) if fail.is_passing() && attempt < ATTEMPTS_MAX => {
                tracing::info!(attempt, "the transaction lost against another one and is tried again");
                std::thread::sleep(Duration::from_millis(50 << attempt));
                attempt += 1;
            }
            other => return other.map_err(Error::from),
        }
    }
}

fn switch_once(target: &RowsTarget, work: &Work, verified: &VerifiedRows) -> Outcome<SwitchedRows> {
    let (mut session, mut switched) = watched(target, |session| transact(session, target, work, verified))?;
    let has_written = switched.tables.iter().any(|diff| diff.writes() > 0);
    switched.transaction = commit(&mut session, &target.server, has_written)?;
    Ok(switched)
}

/// A fresh session at work; should it wait too long for a lock, the error says for whom.
pub(super) fn watched<T>(target: &RowsTarget, work: impl FnOnce(&mut Session) -> Outcome<T>) -> Outcome<(Session, T)> {
    let mut session = staging::connect(&target.server)?;
    let watch = Watch::over(&target.server, &mut session);
    match work(&mut session) {
        Ok(done) => Ok((session, done)),
        Err(fail) => Err(fail.naming(&watch, target.patience)),
    }
}

fn transact(session: &mut Session, target: &RowsTarget, work: &Work, verified: &VerifiedRows) -> Outcome<SwitchedRows> {
    begin(session, target, work, &verified.diffs)?;
    let before = prove::counters(session, &target.schema)?;
    let mut checks = vec![unchanged(session, target, work)?];
    check_tables(session, target, work)?;
    let steps = &verified.objects;
    check_objects(session, target, work, steps)?;
    let before = large_objects::write_counted(session, target, (work, steps), before)?;
    change(session, &work.scopes, &verified.diffs)?;
    let raised = raise(session, &target.catalogue, &work.wanted.sequences, &work.scopes, &|scope| scope.stage.clone())?;
    prove::fire_deferred(session)?;
    checks.extend(prove::references(session, &target.catalogue, &work.scopes, verified)?);
    checks.push(prove::content(session, &work.scopes)?);
    checks.extend(large_objects::content(session, work, steps)?);
    let after = prove::counters(session, &target.schema)?;
    checks.push(counted(session, &before, &after, &work.scopes, &verified.diffs)?);
    let mut notes = verified.notes.clone();
    notes.extend(large_objects::give_counted(session, target, (work, steps), &after)?);
    Ok(SwitchedRows { tables: verified.diffs.clone(), checks, sequences: raised, notes, transaction: None })
}

/// The large objects are still those that were compared.
fn check_objects(session: &mut Session, target: &RowsTarget, work: &Work, steps: &large_objects::Steps) -> Outcome<()> {
    let (now, conflicts) = large_objects::decide(session, target, work, (&work.kept.objects, steps.asked()))?;
    if now == *steps && conflicts.is_empty() {
        return Ok(());
    }
    Err(written_to(session.source_name(), &format!("`{}`", large_objects::OBJECTS)))
}

/// What was written is what was planned.
pub(super) fn counted(
    session: &Session,
    before: &prove::Counters,
    after: &prove::Counters,
    scopes: &[Scope],
    diffs: &[TableDiff],
) -> Outcome<Check> {
    prove::check_counters(before, after, scopes, diffs).map_err(|detail| {
        let hint = "a trigger or rule that fires always writes when the site's rows are written: `lifeboat sources \
                    inspect` lists them; disable it for the restore";
        prove::refuted(session, "it wrote what was not planned", detail, hint)
    })
}

/// Locks, and only then takes the snapshot.
pub(super) fn begin(session: &mut Session, target: &RowsTarget, work: &Work, diffs: &[TableDiff]) -> Outcome<()> {
    begin_alone(session, target)?;
    let locks = work.scopes.iter().zip(diffs).map(|(scope, diff)| {
        // A late unique key is checked by a trigger, which does not fire for us: until our own check
        // counts for all, nobody else may write there.
        let late = diff.writes() > 0 && !scope.deferrable.is_empty();
        let mode = if late { "SHARE ROW EXCLUSIVE" } else { "ROW EXCLUSIVE" };
        format!("LOCK TABLE {} IN {mode} MODE", scope.live_item())
    });
    let mut locks: Vec<String> = locks.collect();
    locks.sort(); // in the same order as others of our kind
    session.run("cannot lock the site's tables", &locks.join("; "))
}

/// Begins the transaction as the only one that restores this site.
pub(super) fn begin_alone(session: &mut Session, target: &RowsTarget) -> Outcome<()> {
    let timeout = target.patience.as_millis().max(1);
    session.run("cannot limit the wait", &format!("SET lock_timeout = '{timeout}ms'"))?;
    session.rows(
        "the site is being restored by somebody else",
        &format!("SELECT pg_advisory_lock({})", target.advisory_key()),
    )?;
    session.run(
        "cannot begin the transaction",
        &format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE; SET LOCAL session_replication_role = replica; {}",
            sql::PLANNING
        ),
    )
}

/// The live rows are still those that were kept for the undo.
pub(super) fn unchanged(session: &mut Session, target: &RowsTarget, work: &Work) -> Outcome<Check> {
    let known = |name: &TableName| work.kept.tables.iter().find(|known| known.name == *name);
    let is_wanted = |name: &TableName| work.scopes.iter().any(|scope| scope.name == *name);
    let checked = |live: &&SiteTable| known(&live.table.name).is_some() || is_wanted(&live.table.name);
    let now = prove::live_rows(session, target.live.values().filter(checked))?;
    for table in &now.tables {
        // Of a table that was not kept nothing may be lost.
        if known(&table.name).map_or(table.rows > 0, |kept| kept != table) {
            return Err(written_to(session.source_name(), &format!("`{}`", table.name)));
        }
    }
    if large_objects::live(session, target)? != work.kept.objects {
        return Err(written_to(session.source_name(), &format!("`{}`", large_objects::OBJECTS)));
    }
    Ok(prove::passed("live rows were those kept for the undo", format!("{} tables", now.tables.len())))
}

pub(super) fn written_to(source_name: &str, table: &str) -> Fail {
    Fail::from(Error::Database {
        source_name: source_name.to_owned(),
        action: "the site was written to while it was restored, nothing is changed".into(),
        detail: format!("table={table}"),
        hint: "keep the application away from the site (hooks.freeze), then run the same command again".into(),
        fault: Fault::Retry,
    })
}

/// The tables are those that were compared: same columns, same keys.
pub(super) fn check_tables(session: &mut Session, target: &RowsTarget, work: &Work) -> Outcome<()> {
    let now = super::super::Catalogue::read(&mut **session, target.home.schema.as_deref())
        .map_err(|error| Fail::new(session, "cannot read the catalogue", &error))?;
    for scope in &work.scopes {
        let Some(live) = &scope.live else { continue };
        let same = now.tables.get(&scope.name).is_some_and(|table| {
            let was = &live.table;
            (table.oid, &table.columns, &table.primary_key, &table.unique_keys, &table.always_triggers)
                == (was.oid, &was.columns, &was.primary_key, &was.unique_keys, &was.always_triggers)
        });
        if !same {
            let hint = "run the same command again: it is planned anew";
            let detail = format!("table=`{}`", scope.name);
            return Err(prove::refuted(session, "the table was altered while the restore went on", detail, hint));
        }
    }
    if now.foreign_keys != target.catalogue.foreign_keys {
        let hint = "run the same command again: it is planned anew";
        return Err(prove::refuted(
            session,
            "foreign keys were altered while the restore went on",
            String::new(),
            hint,
        ));
    }
    Ok(())
}

/// Notes everything first, while all rows are as they were: whose a row is may depend on another row.
fn change(session: &mut Session, scopes: &[Scope], diffs: &[TableDiff]) -> Outcome<()> {
    let all = || scopes.iter().zip(diffs).filter(|(_, diff)| diff.writes() > 0);
    let is_all = |diff: &TableDiff| diff.live_rows() == 0;
    for (scope, diff) in all() {
        let action = format!("cannot compare table `{}`", scope.name);
        if let Some(query) = sql::keys_elsewhere(scope).filter(|_| diff.update > 0 || !scope.deferrable.is_empty()) {
            let rows = session.number(&action, &query)?;
            expect(session, scope, "rows of its keys that are somebody else's", rows, 0)?;
        }
        if diff.delete + diff.replace > 0 {
            let rows = session.touch(&action, &sql::fill_gone(scope))?;
            expect(session, scope, "to delete", rows, diff.delete + diff.replace)?;
        }
        if scope.key.is_empty() && diff.insert > 0 && !is_all(diff) {
            let rows = session.touch(&action, &sql::fill_fresh(scope))?;
            expect(session, scope, "to insert", rows, diff.insert)?;
        }
    }
    // What the tables themselves compute and check (generated columns, constraints) may name things as
    // the application does. Our own statements name everything in full.
    session.run("cannot set the search path", "SET LOCAL search_path TO DEFAULT")?;
    for (scope, diff) in all().filter(|(_, diff)| diff.delete + diff.replace > 0) {
        let rows = session.touch(&format!("cannot delete from `{}`", scope.name), &sql::delete(scope))?;
        expect(session, scope, "deleted", rows, diff.delete + diff.replace)?;
    }
    for (scope, diff) in all().filter(|(_, diff)| diff.update > 0) {
        let rows = session.touch(&format!("cannot update `{}`", scope.name), &sql::update(scope))?;
        expect(session, scope, "updated", rows, diff.update)?;
    }
    for (scope, diff) in all().filter(|(_, diff)| diff.insert + diff.replace > 0) {
        let statement = sql::insert(scope, is_all(diff));
        let rows = session.touch(&format!("cannot insert into `{}`", scope.name), &statement)?;
        expect(session, scope, "inserted", rows, diff.insert + diff.replace)?;
    }
    session.run("cannot set the search path", "SET LOCAL search_path = ''")
}

fn expect(session: &Session, scope: &Scope, what: &str, rows: u64, planned: u64) -> Outcome<()> {
    if rows == planned {
        return Ok(());
    }
    let detail = format!("table=`{}`, {what}: rows=`{rows}`, planned=`{planned}`", scope.name);
    let hint = "rows were written since they were compared, or a trigger or rule that fires always changes what is \
                written: run the same command again, and see `lifeboat sources inspect`";
    Err(prove::refuted(session, "it came out otherwise than planned", detail, hint))
}

/// Commits, and gives the number of the transaction if it has written. When the answer is lost, that number tells
/// what became of it.
pub(super) fn commit(session: &mut Session, server: &Server, has_written: bool) -> Outcome<Option<TransactionId>> {
    let action = "cannot commit";
    let number: Option<String> = if has_written {
        session.rows(action, "SELECT pg_current_xact_id()::text")?.first().map(|row| row.get(0))
    } else {
        None
    };
    let id = number.as_ref().and_then(|number| number.parse().ok()).map(TransactionId);
    let Err(fail) = session.run(action, "COMMIT") else { return Ok(id) };
    let Some(number) = number.filter(|_| fail.is_lost()) else { return Err(fail) };
    let query = format!("SELECT pg_xact_status('{number}'::xid8)");
    let has_committed = fate(server, |session| {
        let rows = session.rows(action, &query)?;
        let status: Option<String> = rows.first().and_then(|row| row.get(0));
        Ok(match status.as_deref() {
            Some("committed") => Some(true),
            Some("aborted") => Some(false),
            _ => None,
        })
    });
    told(server, has_committed, fail).map(|()| id)
}

/// Whether a step whose answer was lost was done: asked until the server is up and knows; `None`: it did
/// not come back.
pub(super) fn fate(server: &Server, ask: impl Fn(&mut Session) -> Outcome<Option<bool>>) -> Option<bool> {
    let began = std::time::Instant::now();
    while began.elapsed() < FATE_PATIENCE {
        let answer = server.connect().ok().and_then(|mut session| ask(&mut session).ok().flatten());
        if answer.is_some() {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    None
}

/// What to say of a step whose answer was lost, by its fate.
pub(super) fn told(server: &Server, is_done: Option<bool>, fail: Fail) -> Outcome<()> {
    match is_done {
        Some(true) => Ok(()),
        Some(false) => Err(fail),
        None => {
            let source_name = server.source_name().to_owned();
            Err(Error::Unsure { source_name, detail: fail.error.to_string() }.into())
        }
    }
}

/// Whether a table's partitions may be written through it; a foreign table's rows are elsewhere.
pub(super) fn is_writable(kind: &TableKind) -> bool {
    matches!(kind, TableKind::Ordinary | TableKind::PartitionRoot | TableKind::Inherits { .. })
}
