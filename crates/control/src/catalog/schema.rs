//! The tables, and whose they are.
//!
//! A changed schema raises `VERSION`; there are no migrations, because a catalog of another version
//! is moved aside and filled anew from the bucket.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::Refusal;
use crate::Error;

/// "LBCT": tells our file from any other SQLite database.
const APPLICATION_ID: i64 = 0x4c42_4354;
const VERSION: i64 = 1;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const WHOLE: &str = "CREATE TABLE IF NOT EXISTS whole (only_one INTEGER PRIMARY KEY CHECK (only_one = 1)) STRICT";
const FOOTER: &str = "CREATE TABLE IF NOT EXISTS footer (
  number INTEGER PRIMARY KEY, object TEXT NOT NULL UNIQUE, bytes BLOB NOT NULL
) STRICT";
const PROVEN: &str = "CREATE TABLE IF NOT EXISTS proven (
  handle BLOB PRIMARY KEY, proven_at INTEGER, moment INTEGER, took_micros INTEGER, drill BLOB,
  failed_at INTEGER, failed_drill BLOB
) WITHOUT ROWID, STRICT";
const AUDIT: &str = "CREATE TABLE IF NOT EXISTS audit (
  only_one INTEGER PRIMARY KEY CHECK (only_one = 1), number INTEGER NOT NULL, hash BLOB NOT NULL
) STRICT";
const JOB: &str =
    "CREATE TABLE IF NOT EXISTS job (name TEXT PRIMARY KEY, ended_at INTEGER NOT NULL) WITHOUT ROWID, STRICT";
const JOB_TROUBLE: &str = "CREATE TABLE IF NOT EXISTS job_trouble (
  name TEXT PRIMARY KEY, since INTEGER NOT NULL, reason TEXT NOT NULL, hint TEXT
) WITHOUT ROWID, STRICT";
const READ_BACK: &str = "CREATE TABLE IF NOT EXISTS read_back (
  handle BLOB PRIMARY KEY, read_at INTEGER NOT NULL, findings INTEGER NOT NULL
) WITHOUT ROWID, STRICT";
const STANDING: &str =
    "CREATE TABLE IF NOT EXISTS standing (handle BLOB PRIMARY KEY, standing TEXT NOT NULL) WITHOUT ROWID, STRICT";
// What this host saw or did, and no bucket says.
const CHECKED: &str = "CREATE TABLE IF NOT EXISTS checked (
  scope TEXT PRIMARY KEY, read_at INTEGER, found_at INTEGER, findings INTEGER NOT NULL, first TEXT,
  by_reading INTEGER NOT NULL, sweep_from INTEGER, sweep_percent INTEGER, sweep_turn INTEGER
) WITHOUT ROWID, STRICT";
const ALARM: &str =
    "CREATE TABLE IF NOT EXISTS alarm (id TEXT PRIMARY KEY, since INTEGER NOT NULL) WITHOUT ROWID, STRICT";
const TOLD: &str = "CREATE TABLE IF NOT EXISTS told (
  notifier TEXT NOT NULL, id TEXT NOT NULL, told_at INTEGER NOT NULL, alarm TEXT NOT NULL, PRIMARY KEY (notifier, id)
) WITHOUT ROWID, STRICT";
const NOTIFIER: &str = "CREATE TABLE IF NOT EXISTS notifier (
  name TEXT PRIMARY KEY, sent INTEGER NOT NULL, failed INTEGER NOT NULL, failing_since INTEGER, reason TEXT
) WITHOUT ROWID, STRICT";
const LISTED: &str =
    "CREATE TABLE IF NOT EXISTS listed (site TEXT PRIMARY KEY, first_at INTEGER NOT NULL) WITHOUT ROWID, STRICT";
/// Tables that came later: a catalog of before gets them when it is opened.
const YOUNGER: [&str; 13] =
    [WHOLE, FOOTER, PROVEN, AUDIT, JOB, JOB_TROUBLE, READ_BACK, STANDING, CHECKED, ALARM, TOLD, NOTIFIER, LISTED];
const TABLES: &str = "
CREATE TABLE repository (identity TEXT NOT NULL);
CREATE TABLE site (
  handle BLOB PRIMARY KEY, site TEXT NOT NULL UNIQUE, generation INTEGER NOT NULL, hash BLOB NOT NULL,
  latest BLOB, latest_at INTEGER, logical_bytes INTEGER NOT NULL, entries INTEGER NOT NULL,
  good INTEGER NOT NULL, incomplete INTEGER NOT NULL, suspect INTEGER NOT NULL, undo INTEGER NOT NULL,
  holds INTEGER NOT NULL, has_intent INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
CREATE TABLE run (number INTEGER PRIMARY KEY, finished_at INTEGER NOT NULL) STRICT;
CREATE TABLE site_run (
  handle BLOB PRIMARY KEY, run INTEGER NOT NULL, seen_at INTEGER NOT NULL, snapshot BLOB,
  outcome INTEGER NOT NULL, reason TEXT
) WITHOUT ROWID, STRICT;
CREATE TABLE fingerprint (
  handle BLOB PRIMARY KEY, generation INTEGER NOT NULL, hash BLOB NOT NULL, digest BLOB NOT NULL,
  snapshot TEXT NOT NULL
) WITHOUT ROWID, STRICT;
";

/// Makes the tables in an empty database, and refuses one that is not ours. True when it was empty.
pub(super) fn prepare(connection: &Connection, repository: &str) -> Result<bool, Refusal> {
    let refused = |error| Refusal::of(std::path::Path::new(""), error);
    connection.busy_timeout(BUSY_TIMEOUT).map_err(refused)?;
    connection.execute_batch("BEGIN IMMEDIATE").map_err(refused)?;
    let prepared = prepare_inside(connection, repository);
    let end = if prepared.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = connection.execute_batch(end).map_err(refused);
    let is_new = prepared?;
    ended?;
    // Not before: a file that is not ours stays as it is. On a file system without shared memory,
    // or while others are at work, the mode stays as it is too, which is as right and slower.
    let _ = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
    // A power loss may take the newest marks: the bucket has them.
    connection.execute_batch("PRAGMA synchronous = NORMAL").map_err(refused)?;
    Ok(is_new)
}

/// Inside a write transaction: two processes that start at once make the tables once.
fn prepare_inside(connection: &Connection, repository: &str) -> Result<bool, Refusal> {
    let refused = |error| Refusal::of(std::path::Path::new(""), error);
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0)).map_err(refused);
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    if tables == 0 && application == 0 {
        connection.execute_batch(TABLES).map_err(refused)?;
        YOUNGER.iter().try_for_each(|table| connection.execute_batch(table)).map_err(refused)?;
        connection
            .execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}"))
            .map_err(refused)?;
        connection.execute("INSERT INTO repository (identity) VALUES (?1)", [repository]).map_err(refused)?;
        return Ok(true);
    }
    if application != APPLICATION_ID {
        return Err(Refusal::Foreign("it is another program's database".into()));
    }
    if version != VERSION {
        return Err(Refusal::Foreign(format!("it is of version {version}, this Lifeboat uses {VERSION}")));
    }
    let identity: Option<String> =
        connection.query_row("SELECT identity FROM repository", [], |row| row.get(0)).optional().map_err(refused)?;
    if identity.as_deref() != Some(repository) {
        return Err(Refusal::Failed(Error::OtherRepository { file: String::new() }));
    }
    // The one row of the first says that every site is known.
    YOUNGER.iter().try_for_each(|table| connection.execute_batch(table)).map_err(refused)?;
    Ok(false)
}
