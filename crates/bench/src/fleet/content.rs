//! What is in a site: files of rows, of random bytes, many small ones, a database.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use rusqlite::{Connection, params};

use super::{Data, Shape};
use crate::random::Random;
use crate::rows::{self, WORDS};
use crate::{Error, at};

/// The database of a site with [`Data::Sqlite`].
pub const DATABASE: &str = "notes.db";

const TEXT_FILE_BYTES_MAX: u64 = 50_000_000;
const RANDOM_FILE_BYTES_MAX: u64 = 96_000_000;
const SMALL_FILE_BYTES: std::ops::Range<u64> = 2_000..40_000;
/// Small files in a directory.
const DIRECTORY_LEN: u64 = 100;
/// Of a row of a database.
const ROW_BYTES: usize = 900;

/// Numbers of files below which each kind has its own: no two files have one sequence.
const MEDIA_FROM: u64 = 1 << 32;
const SMALL_FROM: u64 = 2 << 32;

pub(super) fn make_site(dir: &Path, shape: &Shape, (number, bytes): (u64, u64)) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(at(dir))?;
    let site = Site { dir, seed: shape.seed, number };
    let made = match shape.data {
        Data::Mix => {
            let (text, media) = (bytes / 2, bytes * 35 / 100);
            site.text("rows", text)
                .and_then(|()| site.media("media", media))
                .and_then(|()| site.small("attachments", bytes - text - media))
        }
        Data::Text => site.text("rows", bytes),
        Data::Random => site.media("media", bytes),
        Data::Small => site.small("attachments", bytes),
        Data::One => write_random(&dir.join("one.bin"), site.random(MEDIA_FROM), bytes),
        Data::Sqlite => return site.database(bytes),
    };
    made.map_err(at(dir))
}

struct Site<'a> {
    dir: &'a Path,
    seed: u64,
    number: u64,
}

impl Site<'_> {
    fn random(&self, file: u64) -> Random {
        Random::of(self.seed, [self.number, file])
    }

    fn text(&self, name: &str, bytes: u64) -> io::Result<()> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir)?;
        parts(bytes, TEXT_FILE_BYTES_MAX)
            .enumerate()
            .try_for_each(|(n, len)| write_text(&dir.join(format!("rows-{n}.jsonl")), self.random(n as u64), len))
    }

    fn media(&self, name: &str, bytes: u64) -> io::Result<()> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir)?;
        parts(bytes, RANDOM_FILE_BYTES_MAX).enumerate().try_for_each(|(n, len)| {
            write_random(&dir.join(format!("video-{n}.bin")), self.random(MEDIA_FROM + n as u64), len)
        })
    }

    fn small(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut random = self.random(SMALL_FROM);
        let (mut left, mut n) = (bytes, 0);
        while left > 0 {
            let dir = self.dir.join(name).join(format!("{:03}", n / DIRECTORY_LEN));
            if n % DIRECTORY_LEN == 0 {
                fs::create_dir_all(&dir)?;
            }
            let wanted = SMALL_FILE_BYTES.start + random.below(SMALL_FILE_BYTES.end - SMALL_FILE_BYTES.start);
            let len = wanted.min(left);
            write_random(&dir.join(format!("file-{n}.bin")), self.random(SMALL_FROM + 1 + n), len)?;
            left -= len;
            n += 1;
        }
        Ok(())
    }

    /// One transaction, and no log beside the file when it is done: its bytes are the same each time.
    fn database(&self, bytes: u64) -> Result<(), Error> {
        let path = self.dir.join(DATABASE);
        let mut random = self.random(0);
        let made = Connection::open(&path).and_then(|mut connection| {
            connection.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF")?;
            let transaction = connection.transaction()?;
            transaction.execute_batch("CREATE TABLE note (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")?;
            // A page of 4096 bytes holds four rows.
            for id in 0..(bytes / 1024).max(1) {
                transaction.execute("INSERT INTO note VALUES (?1, ?2)", params![id as i64, row(&mut random)])?;
            }
            transaction.commit()
        });
        made.map_err(|error| Error::Database { path, detail: error.to_string() })
    }
}

/// `bytes` in as few equal parts as are no larger than `max`.
fn parts(bytes: u64, max: u64) -> impl Iterator<Item = u64> {
    let count = bytes.div_ceil(max).max(1);
    (0..count).map(move |n| bytes / count + u64::from(n < bytes % count))
}

fn write_text(path: &Path, random: Random, len: u64) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 18, File::create(path)?);
    rows::write_rows(&mut file, random, len)?;
    file.flush()
}

fn write_random(path: &Path, random: Random, len: u64) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 17, File::create(path)?);
    rows::write_random(&mut file, random, len)?;
    file.flush()
}

/// Half words, half noise.
fn row(random: &mut Random) -> Vec<u8> {
    let mut row = Vec::with_capacity(ROW_BYTES + 16);
    while row.len() < ROW_BYTES / 2 {
        row.extend_from_slice(WORDS[random.below(16) as usize].as_bytes());
        row.push(b' ');
    }
    while row.len() < ROW_BYTES {
        row.extend_from_slice(&random.next().to_le_bytes());
    }
    row.truncate(ROW_BYTES);
    row
}

/// The database of a site, as an application opens it: with a log beside it.
///
/// # Errors
/// As SQLite has them.
pub fn open_database(site: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(site.join(DATABASE))?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -200")?;
    Ok(connection)
}

/// One transaction of an application: it writes one row anew.
///
/// # Errors
/// As SQLite has them.
pub fn update_row(connection: &Connection, random: &mut Random) -> rusqlite::Result<()> {
    let rows: i64 = connection.prepare_cached("SELECT max(id) + 1 FROM note")?.query_row([], |row| row.get(0))?;
    let id = random.below(rows.unsigned_abs()) as i64;
    connection.prepare_cached("UPDATE note SET body = ?2 WHERE id = ?1")?.execute(params![id, row(random)]).map(|_| ())
}
