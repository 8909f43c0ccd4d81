//! The routing index on disk: whose each row of a captured database is, by hashes of its keys.
//!
//! ```text
//! lifeboat.catalog/routing-<source>.sqlite      mode 0600
//!   row      key (16 bytes of a hash) ─▶ table, site
//!   counted_on   what was so of each table when its rows were put: when it is not, the rows are of no use
//!   place    up to which position of which epoch of the change log it has come
//! ```
//!
//! What was put since the last [`RoutingFile::commit`] is held in memory and written in one transaction
//! with the new place, so that a crash leaves an index that belongs to one position of the log. It is synced to
//! the disk: what it has may be confirmed to the server then, and never comes again. It is a
//! cache: deleted, it is filled again from the database when the next epoch begins.
//!
//! Keys are random, so that each commit visits most pages of a file that is not much larger: seldom and many rows at
//! once is much less work ([`RoutingFile::is_full`]).
//!
//! What is not here: what the hashes are of, and who asks (`lifeboat-source`).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use lifeboat_model::{Lsn, SiteId, SourceName};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::Error;
use held::{Held, Key, Row};

mod held;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -4096;
    CREATE TABLE IF NOT EXISTS place (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), epoch INTEGER NOT NULL,
        position INTEGER NOT NULL, unrouted INTEGER NOT NULL, repository BLOB NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS counted_on (name TEXT PRIMARY KEY, counted TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS site (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE IF NOT EXISTS tables (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE IF NOT EXISTS row (key BLOB PRIMARY KEY, tables INTEGER NOT NULL, site INTEGER NOT NULL)
        STRICT, WITHOUT ROWID";
/// So many puts are written at once: about 4 MiB of memory.
const WAITING_MAX: usize = 110_000;

/// The index of one source.
pub struct RoutingFile {
    file: PathBuf,
    connection: Connection,
    held: Held,
    sites: Names,
    tables: Names,
    /// It has no place yet: nobody relies on what is in it.
    is_being_filled: bool,
}

/// How far an index has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutingPlace {
    pub repository: [u8; 16],
    pub epoch: u32,
    pub position: Lsn,
    /// Changes since the epoch began that are nobody's.
    pub unrouted: u64,
}

/// Texts that are written once, by their numbers.
#[derive(Default)]
struct Names {
    by_name: HashMap<String, u32>,
    by_number: HashMap<u32, String>,
    /// Not written yet.
    new: Vec<u32>,
}

impl Names {
    fn load(connection: &Connection, query: &str) -> rusqlite::Result<Self> {
        let mut names = Self::default();
        let mut statement = connection.prepare(query)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            names.add(row.get(0)?, row.get(1)?);
        }
        Ok(names)
    }

    fn add(&mut self, number: u32, name: String) {
        self.by_name.insert(name.clone(), number);
        self.by_number.insert(number, name);
    }

    fn number_of(&mut self, name: &str) -> u32 {
        if let Some(number) = self.by_name.get(name) {
            return *number;
        }
        let number = self.by_number.len() as u32 + 1; // none is ever taken away, and each takes memory
        self.add(number, name.to_owned());
        self.new.push(number);
        number
    }

    fn write(&mut self, connection: &Connection, statement: &str) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached(statement)?;
        for number in std::mem::take(&mut self.new) {
            statement.execute(params![number, self.by_number.get(&number)])?;
        }
        Ok(())
    }
}

impl RoutingFile {
    /// Opens the index of a source, or begins one. One that cannot be read is begun anew.
    pub fn open(directory: &Path, source: &SourceName) -> Result<Self, Error> {
        let file = file_of(directory, source);
        match Self::open_file(&file) {
            Err(Error::Damaged { .. }) => {
                for suffix in ["", "-wal", "-shm"] {
                    let path = PathBuf::from(format!("{}{suffix}", file.display()));
                    match std::fs::remove_file(&path) {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                            return Err(Error::of_io(&path, &error));
                        }
                        _ => {}
                    }
                }
                Self::open_file(&file)
            }
            opened => opened,
        }
    }

    fn open_file(file: &Path) -> Result<Self, Error> {
        use std::os::unix::fs::OpenOptionsExt;
        let made = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file);
        made.map_err(|error| Error::of_io(file, &error))?;
        let failed = |error| Error::of_sqlite(file, error);
        let connection = Connection::open(file).map_err(failed)?;
        connection.execute_batch(SCHEMA).map_err(failed)?;
        let sites = Names::load(&connection, "SELECT number, id FROM site").map_err(failed)?;
        let tables = Names::load(&connection, "SELECT number, name FROM tables").map_err(failed)?;
        let mut index =
            Self { file: file.to_owned(), connection, held: Held::default(), sites, tables, is_being_filled: false };
        index.is_being_filled = index.place()?.is_none();
        Ok(index)
    }

    /// How far the index of a source has come, if there is one: looks, and changes nothing.
    pub fn peek(directory: &Path, source: &SourceName) -> Result<Option<RoutingPlace>, Error> {
        let file = file_of(directory, source);
        if !file.exists() {
            return Ok(None);
        }
        let failed = |error| Error::of_sqlite(&file, error);
        let connection = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
        read_place(&connection).map_err(failed)
    }

    /// How far it has come; `None`: it was never filled to its end.
    pub fn place(&self) -> Result<Option<RoutingPlace>, Error> {
        read_place(&self.connection).map_err(|error| self.failed(error))
    }

    /// Forgets everything: an epoch begins, and the index is filled anew.
    pub fn clear(&mut self) -> Result<(), Error> {
        self.held.forget_all();
        self.end_reading()?;
        self.is_being_filled = true;
        let cleared = self.connection.execute_batch("DELETE FROM place; DELETE FROM row");
        cleared.map_err(|error| self.failed(error))
    }

    /// What it counts on, by table.
    pub fn counted_on(&self) -> Result<BTreeMap<String, String>, Error> {
        let read = || {
            let mut statement = self.connection.prepare("SELECT name, counted FROM counted_on")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| self.failed(error))
    }

    /// Counts on this from now on, at once.
    pub fn count_on(&mut self, tables: &BTreeMap<String, String>) -> Result<(), Error> {
        self.end_reading()?;
        let written = (|| {
            let transaction = self.connection.transaction()?;
            transaction.execute("DELETE FROM counted_on", [])?;
            for (name, counted) in tables {
                transaction.execute("INSERT INTO counted_on VALUES (?1, ?2)", params![name, counted])?;
            }
            transaction.commit()
        })();
        written.map_err(|error| Error::of_sqlite(&self.file, error))
    }

    pub fn site_of(&mut self, key: &[u8; 16]) -> Result<Option<SiteId>, Error> {
        let row = match self.held.recall(&Key(*key)) {
            Some(row) => row,
            None => {
                let row = self.look_up(key).map_err(|error| self.failed(error))?;
                self.held.note(Key(*key), row);
                row
            }
        };
        let name = row.and_then(|row| self.sites.by_number.get(&row.site));
        Ok(name.and_then(|name| SiteId::new(name.as_str()).ok()))
    }

    /// One transaction for all that is looked up until something is written: each of its own would cost more than what
    /// it reads.
    fn look_up(&self, key: &[u8; 16]) -> rusqlite::Result<Option<Row>> {
        if self.connection.is_autocommit() {
            self.connection.execute_batch("BEGIN")?;
        }
        let mut statement = self.connection.prepare_cached("SELECT tables, site FROM row WHERE key = ?1")?;
        let row = |row: &rusqlite::Row<'_>| Ok(Row { table: row.get(0)?, site: row.get(1)? });
        statement.query_row([key.as_slice()], row).optional()
    }

    fn end_reading(&self) -> Result<(), Error> {
        match self.connection.is_autocommit() {
            true => Ok(()),
            false => self.connection.execute_batch("COMMIT").map_err(|error| self.failed(error)),
        }
    }

    pub fn put(&mut self, table: &str, key: &[u8; 16], site: &SiteId) -> Result<(), Error> {
        let row = Row { table: self.tables.number_of(table), site: self.sites.number_of(site.as_str()) };
        self.held.put(Key(*key), Some(row));
        if self.is_full() && self.is_being_filled {
            self.write(None)?; // being filled: until it has a place, nobody relies on it
        }
        Ok(())
    }

    /// Whether so much waits to be written that it should be soon.
    pub fn is_full(&self) -> bool {
        self.held.waiting() >= WAITING_MAX
    }

    pub fn remove(&mut self, key: &[u8; 16]) {
        self.held.put(Key(*key), None);
    }

    pub fn forget_table(&mut self, table: &str) -> Result<(), Error> {
        let number = self.tables.number_of(table);
        self.held.forget_table(number);
        let query = "SELECT key FROM row WHERE tables = ?1";
        let keys = self.connection.prepare_cached(query).and_then(|mut statement| {
            let keys = statement.query_map([number], |row| row.get::<_, [u8; 16]>(0))?;
            keys.collect::<rusqlite::Result<Vec<_>>>()
        });
        keys.map_err(|error| self.failed(error))?.into_iter().for_each(|key| self.held.forget(Key(key)));
        Ok(())
    }

    /// Everything so far belongs to this place of the log now.
    pub fn commit(&mut self, place: &RoutingPlace) -> Result<(), Error> {
        self.is_being_filled = false;
        self.write(Some(place))
    }

    fn write(&mut self, place: Option<&RoutingPlace>) -> Result<(), Error> {
        self.end_reading()?;
        let rows = self.held.in_order();
        let (sites, tables) = (&mut self.sites, &mut self.tables);
        let written = (|| {
            let transaction = self.connection.transaction()?;
            sites.write(&transaction, "INSERT OR REPLACE INTO site (number, id) VALUES (?1, ?2)")?;
            tables.write(&transaction, "INSERT OR REPLACE INTO tables (number, name) VALUES (?1, ?2)")?;
            {
                let mut put =
                    transaction.prepare_cached("INSERT OR REPLACE INTO row (key, tables, site) VALUES (?1, ?2, ?3)")?;
                let mut remove = transaction.prepare_cached("DELETE FROM row WHERE key = ?1")?;
                for (Key(key), row) in &rows {
                    match row {
                        Some(Row { table, site }) => put.execute(params![key.as_slice(), table, site])?,
                        None => remove.execute([key.as_slice()])?,
                    };
                }
            }
            if let Some(RoutingPlace { repository, epoch, position, unrouted }) = place {
                transaction.execute(
                    "INSERT OR REPLACE INTO place (only_one, epoch, position, unrouted, repository)
                     VALUES (1, ?1, ?2, ?3, ?4)",
                    params![epoch, position.0 as i64, *unrouted as i64, repository.as_slice()],
                )?;
            }
            transaction.commit()
        })();
        drop(rows);
        written.map_err(|error| Error::of_sqlite(&self.file, error))?;
        self.held.written();
        Ok(())
    }

    fn failed(&self, error: rusqlite::Error) -> Error {
        Error::of_sqlite(&self.file, error)
    }
}

fn file_of(directory: &Path, source: &SourceName) -> PathBuf {
    directory.join(format!("routing-{source}.sqlite"))
}

fn read_place(connection: &Connection) -> rusqlite::Result<Option<RoutingPlace>> {
    let query = "SELECT repository, epoch, position, unrouted FROM place";
    let place = connection.query_row(query, [], |row| {
        Ok(RoutingPlace {
            repository: row.get(0)?,
            epoch: row.get(1)?,
            position: Lsn(row.get::<_, i64>(2)? as u64),
            unrouted: row.get::<_, i64>(3)? as u64,
        })
    });
    place.optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(id: &str) -> SiteId {
        SiteId::new(id).unwrap()
    }

    fn source() -> SourceName {
        SourceName::new("app").unwrap()
    }

    const PLACE: RoutingPlace =
        RoutingPlace { repository: [7; 16], epoch: 2, position: Lsn(u64::MAX - 5), unrouted: 3 };

    #[test]
    fn what_was_committed_is_there_again_and_what_was_not_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = RoutingFile::open(dir.path(), &source()).unwrap();
        assert_eq!(index.place().unwrap(), None);
        index.put("public.a", &[1; 16], &site("acme")).unwrap();
        index.put("public.b", &[2; 16], &site("beta")).unwrap();
        index.commit(&PLACE).unwrap();
        index.put("public.a", &[3; 16], &site("gamma")).unwrap();
        index.remove(&[1; 16]);
        assert_eq!(index.site_of(&[3; 16]).unwrap(), Some(site("gamma")));
        assert_eq!(index.site_of(&[1; 16]).unwrap(), None);
        drop(index); // killed before the next commit
        let mut index = RoutingFile::open(dir.path(), &source()).unwrap();
        assert_eq!(index.place().unwrap(), Some(PLACE));
        assert_eq!(index.site_of(&[1; 16]).unwrap(), Some(site("acme")));
        assert_eq!(index.site_of(&[3; 16]).unwrap(), None);
        index.remove(&[2; 16]);
        index.commit(&RoutingPlace { position: Lsn(9), ..PLACE }).unwrap();
        assert_eq!(index.site_of(&[2; 16]).unwrap(), None);
        assert_eq!(index.place().unwrap().unwrap().position, Lsn(9));
        let tables = BTreeMap::from([("public.a".to_owned(), "x".to_owned())]);
        index.count_on(&BTreeMap::from([("public.b".to_owned(), "y".to_owned())])).unwrap();
        index.count_on(&tables).unwrap();
        assert_eq!(RoutingFile::open(dir.path(), &source()).unwrap().counted_on().unwrap(), tables);
        index.clear().unwrap();
        assert_eq!((index.place().unwrap(), index.site_of(&[1; 16]).unwrap()), (None, None));
    }

    #[test]
    fn a_truncated_table_is_forgotten_written_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = RoutingFile::open(dir.path(), &source()).unwrap();
        index.put("public.a", &[1; 16], &site("acme")).unwrap();
        index.put("public.b", &[2; 16], &site("acme")).unwrap();
        index.commit(&PLACE).unwrap();
        index.put("public.a", &[3; 16], &site("acme")).unwrap();
        index.forget_table("public.a").unwrap();
        for (key, want) in [([1; 16], None), ([2; 16], Some(site("acme"))), ([3; 16], None)] {
            assert_eq!(index.site_of(&key).unwrap(), want, "{key:?}");
        }
        index.put("public.a", &[1; 16], &site("beta")).unwrap();
        assert_eq!(index.site_of(&[1; 16]).unwrap(), Some(site("beta")));
    }

    #[test]
    fn one_that_cannot_be_read_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("routing-app.sqlite");
        std::fs::write(&file, b"this was a database once, and is none any more, for quite some bytes").unwrap();
        let index = RoutingFile::open(dir.path(), &source()).unwrap();
        assert_eq!(index.place().unwrap(), None);
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        RoutingFile::open(dir.path(), &source()).unwrap();
        let mode = std::fs::metadata(dir.path().join("routing-app.sqlite")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
