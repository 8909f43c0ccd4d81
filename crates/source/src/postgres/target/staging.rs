//! Staging: unlogged tables in a schema of the restore's own, loaded from the spool.
//!
//! A crash of the server empties them and a killed run leaves them behind; both cost nothing but
//! another run: the schema's name holds the restore's id, so that it is found and dropped again.

use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use lifeboat_model::{RestoreId, RowsDigests};

use super::super::digests::RowsDigester;
use super::super::{Server, Session};
use super::fail::{Ask, Fail, Outcome};
use super::scope::Scope;
use super::spool::Spool;
use super::{Conflict, ConflictKind, sql};
use crate::Error;

/// So many tables are loaded at once.
const LOADERS_MAX: usize = 4;
const BUFFER: usize = 1 << 17;
/// So many tables are made or dropped in one transaction.
const AT_ONCE: usize = 100;

/// Where tables are the session's own, seen by nobody else and gone with it.
pub(super) const TEMPORARY: &str = "pg_temp";

/// `lifeboat_stage_<16 hex digits>`: sources pass over schemas of such names.
pub(super) fn schema_name(restore: RestoreId) -> String {
    let hex: String = restore.0.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("lifeboat_stage_{hex}")
}

/// A session that may write, whatever the role's or the database's default is.
pub(super) fn connect(server: &Server) -> Outcome<Session> {
    let mut session = server.connect()?;
    session.run("cannot prepare the session", "SET default_transaction_read_only = off")?;
    Ok(session)
}

/// Drops the staging schema, some tables at a time: every table dropped is a lock held until the end
/// of the transaction, and a server has room for so many. Where there is none nothing is dropped: an event
/// trigger might refuse even that.
pub(super) fn drop_schema(session: &mut Session, schema: &str) -> Outcome<()> {
    let action = "cannot remove the staging tables";
    let is_there = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'");
    if session.number(action, &is_there)? == 0 {
        return Ok(());
    }
    let query = format!(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = '{schema}' AND c.relkind = 'r'"
    );
    let tables: Vec<String> = session.rows(action, &query)?.iter().map(|row| row.get(0)).collect();
    for some in tables.chunks(AT_ONCE) {
        session.run(action, &format!("DROP TABLE IF EXISTS {}", some.join(", ")))?;
    }
    session.run(action, &format!("DROP SCHEMA IF EXISTS {schema} CASCADE"))
}

/// Makes the staging tables anew. Their columns are those of the live tables: type and collation.
pub(super) fn create(session: &mut Session, schema: &str, scopes: &[Scope]) -> Outcome<()> {
    let is_temporary = schema == TEMPORARY;
    if !is_temporary {
        drop_schema(session, schema)?;
        session.run("cannot make a schema for staging", &format!("CREATE SCHEMA {schema}"))?;
    }
    let kind = if is_temporary { "TEMPORARY" } else { "UNLOGGED" };
    let mut statements = Vec::new();
    for scope in scopes.iter().filter(|scope| scope.is_usable()) {
        let live = scope.live_item();
        let mut make = |table: &str, columns: &str| {
            statements.push(format!("CREATE {kind} TABLE {table} AS SELECT {columns} FROM {live} t WITH NO DATA"));
        };
        let columns = sql::list("t", &scope.columns);
        make(&scope.stage, &columns);
        make(&scope.gone, &sql::gone_columns(scope, "t"));
        if scope.key.is_empty() {
            make(&scope.fresh, &columns);
        }
    }
    // Several in one transaction: each one costs a flush of the log.
    for some in statements.chunks(AT_ONCE) {
        session.run("cannot make the staging tables", &some.join("; "))?;
    }
    Ok(())
}

/// Loads every table and compares its digest with the wanted one, several at once.
///
/// Gives the conflicts that only loading shows: values that do not fit today's types.
pub(super) fn load_all(server: &Server, scopes: &[Scope], spool: &Spool) -> Result<Vec<Conflict>, Error> {
    let mut order: Vec<usize> = (0..scopes.len()).filter(|at| scopes[*at].is_usable()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(scopes[*at].size));
    let next = AtomicUsize::new(0);
    let conflicts = Mutex::new(Vec::new());
    let work = || -> Result<(), Error> {
        let mut session = connect(server)?;
        while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let loaded = load(&mut session, &scopes[*at], *at, spool);
            if loaded.is_err() {
                next.store(order.len(), Ordering::Relaxed); // the others need not begin another table
            }
            conflicts.lock().unwrap_or_else(PoisonError::into_inner).extend(loaded?);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let loaders: Vec<_> = (0..LOADERS_MAX.min(order.len())).map(|_| scope.spawn(work)).collect();
        // A panic goes on in this thread.
        let mut joined = loaders.into_iter().map(|loader| loader.join());
        joined.try_for_each(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(conflicts.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The same in one session, whose own tables no other one sees.
pub(super) fn load_here(session: &mut Session, scopes: &[Scope], spool: &Spool) -> Result<Vec<Conflict>, Error> {
    let usable = scopes.iter().enumerate().filter(|(_, scope)| scope.is_usable());
    let loaded: Result<Vec<Option<Conflict>>, Error> =
        usable.map(|(at, scope)| load(session, scope, at, spool)).collect();
    Ok(loaded?.into_iter().flatten().collect())
}

fn load(session: &mut Session, scope: &Scope, at: usize, spool: &Spool) -> Result<Option<Conflict>, Error> {
    let conflict = |detail: String| Conflict::new(&scope.name, ConflictKind::ColumnRetyped, scope.rows, detail);
    let retyped = scope.retyped.join(", ");
    match copy_in(session, scope, &scope.stage, at, spool) {
        Err(fail) if fail.is_refused_value() => {
            let code = fail.code.as_ref().map_or("", |code| code.code());
            let what = if retyped.is_empty() { "a type was redefined" } else { retyped.as_str() };
            return Ok(Some(conflict(format!("a row does not fit today's types (SQLSTATE {code}): {what}"))));
        }
        other => other?,
    }
    let action = format!("cannot read staging for table `{}` back", scope.name);
    let content = digest(session, &action, &sql::select_wanted(scope, &scope.stage, "true"))?;
    if content.digests.are(&scope.digest) && content.rows == scope.rows {
        session.run("cannot analyse a staging table", &format!("ANALYZE {}", scope.stage))?;
        return Ok(None);
    }
    if !retyped.is_empty() {
        return Ok(Some(conflict(format!("values do not look the same in today's types: {retyped}"))));
    }
    Err(Error::Damaged {
        path: scope.name.to_string(),
        detail: format!(
            "what was staged is not what the snapshot says: rows=`{}`, wanted=`{}`",
            content.rows, scope.rows
        ),
        hint: "run `lifeboat check` on the site; if it finds nothing, the server prints values otherwise than the one \
               that was backed up: restore into one of the same version"
            .into(),
    })
}

/// Copies a table's content from the spool into `table`; the rows must be as many as the snapshot says.
pub(super) fn copy_in(session: &mut Session, scope: &Scope, table: &str, at: usize, spool: &Spool) -> Outcome<()> {
    let columns = scope.columns.iter().map(|column| column.quoted.as_str()).collect::<Vec<_>>().join(", ");
    let statement = format!("COPY {table} ({columns}) FROM STDIN");
    copy_from(session, &format!("cannot load the rows of table `{}`", scope.name), &statement, (spool, at))
}

/// Gives a table's content in the spool to a `COPY … FROM STDIN`.
pub(super) fn copy_from(
    session: &mut Session,
    action: &str,
    statement: &str,
    (spool, at): (&Spool, usize),
) -> Outcome<()> {
    let mut failed_read = None;
    let copied: Result<Result<u64, io::Error>, postgres::Error> = session.copy_in(statement).map(|mut writer| {
        let (mut buffer, mut offset) = (vec![0; BUFFER], 0_u64);
        loop {
            match spool.read_at(at, offset, &mut buffer) {
                Ok(0) => break,
                Ok(len) => {
                    writer.write_all(buffer.get(..len).unwrap_or_default())?;
                    offset += len as u64;
                }
                Err(error) => {
                    failed_read = Some(error);
                    return Ok(0); // dropped unfinished: the server takes none of it
                }
            }
        }
        writer.finish().map_err(io::Error::other)
    });
    if let Some(error) = failed_read {
        return Err(error.into());
    }
    match copied {
        Err(error) => Err(Fail::new(session, action, &error)),
        Ok(Err(error)) => Err(Fail::of_copy(session, action, error)),
        Ok(Ok(_)) => Ok(()),
    }
}

/// What a query gives as COPY text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentDigest {
    pub rows: u64,
    pub digests: RowsDigests,
}

/// Digests of a query's rows, over all of their bytes.
pub(super) fn digest(session: &mut Session, action: &str, query: &str) -> Outcome<ContentDigest> {
    let read = session.copy_out(&format!("COPY ({query}) TO STDOUT")).map(|mut reader| {
        let mut digester = RowsDigester::default();
        loop {
            let row = reader.fill_buf()?;
            if row.is_empty() {
                break;
            }
            // Of a very long row only a part: it must not be in memory twice.
            let bytes = &row[..row.len().min(BUFFER)];
            digester.take(bytes);
            let len = bytes.len();
            reader.consume(len);
        }
        let (rows, digests) = digester.finish();
        Ok(ContentDigest { rows, digests })
    });
    match read {
        Err(error) => Err(Fail::new(session, action, &error)),
        Ok(Err(error)) => Err(Fail::of_copy(session, action, error)),
        Ok(Ok(content)) => Ok(content),
    }
}
