//! A history of transactions that is the same whenever it is told: what a file holds after each is known without it.

use std::path::Path;
use std::time::Duration;

use lifeboat_testkit::world::noise;
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

pub fn open(path: &Path, mode: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    let setup = format!("PRAGMA journal_mode = {mode}; PRAGMA wal_autocheckpoint = 40; PRAGMA synchronous = OFF");
    connection.execute_batch(&setup).unwrap();
    connection
}

pub fn begin(connection: &Connection) {
    connection
        .execute_batch(
            "BEGIN IMMEDIATE; CREATE TABLE note (id INTEGER PRIMARY KEY, body BLOB); CREATE TABLE counter (n INTEGER);
             INSERT INTO counter VALUES (0); COMMIT",
        )
        .unwrap();
}

/// The transaction `number` (the first is 1) of a history.
pub fn step(connection: &Connection, seed: u64, number: u64) {
    let random = noise(seed * 1_000_003 + number, 8);
    let insert = |rows: usize, len: usize| {
        for row in 0..rows {
            let body = noise(seed * 7_919 + number * 31 + row as u64, len);
            connection.execute("INSERT INTO note (body) VALUES (?1)", params![body]).unwrap();
        }
    };
    if random[0].is_multiple_of(40) {
        connection.execute_batch("VACUUM").unwrap();
    }
    if random[0] % 10 == 3 {
        // More than the cache takes: pages of a transaction that never commits reach the log or the file.
        connection.execute_batch("PRAGMA cache_size = 10; BEGIN IMMEDIATE").unwrap();
        insert(30, 3_000);
        connection.execute_batch("ROLLBACK").unwrap();
    }
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let which = i64::from(random[2]);
    match random[1] % 10 {
        0..=4 => insert(1 + usize::from(random[2] % 4), 50 + usize::from(random[3]) * 4),
        5 | 6 => {
            let body = noise(number, 300);
            connection.execute("UPDATE note SET body = ?1 WHERE id % 9 = ?2", params![body, which % 9]).unwrap();
        }
        7 => {
            connection.execute("DELETE FROM note WHERE id % 5 = ?1", [which % 5]).unwrap();
        }
        8 => insert(40, 2_500),
        _ => connection
            .execute_batch("CREATE INDEX IF NOT EXISTS by_len ON note (length(body)); DELETE FROM note WHERE id < 4")
            .unwrap(),
    }
    connection.execute_batch("UPDATE counter SET n = n + 1; COMMIT").unwrap();
}

/// How many transactions a file has seen, and a digest of everything in it.
pub fn content(connection: &Connection) -> (u64, [u8; 32]) {
    let count: i64 = connection.query_row("SELECT n FROM counter", [], |row| row.get(0)).unwrap();
    let mut sha = Sha256::new();
    let mut statement = connection.prepare("SELECT id, body FROM note ORDER BY id").unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        sha.update(row.get::<_, i64>(0).unwrap().to_le_bytes());
        sha.update(row.get::<_, Vec<u8>>(1).unwrap());
    }
    let mut statement = connection.prepare("SELECT name FROM sqlite_schema ORDER BY name").unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        sha.update(row.get::<_, String>(0).unwrap());
    }
    (count as u64, sha.finalize().into())
}

/// The content after each transaction up to `last`, told anew.
pub fn contents(seed: u64, last: u64) -> Vec<[u8; 32]> {
    let connection = Connection::open_in_memory().unwrap();
    begin(&connection);
    let mut all = vec![content(&connection).1];
    for number in 1..=last {
        step(&connection, seed, number);
        all.push(content(&connection).1);
    }
    all
}
