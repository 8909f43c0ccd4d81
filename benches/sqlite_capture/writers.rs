//! The applications: a process that writes to all files at an even pace, and says how often it did.

use std::path::Path;
use std::time::{Duration, Instant};

use lifeboat_testkit::world::noise;
use rusqlite::{Connection, params};

use crate::Load;
use lifeboat_bench::Outcome;

/// Of the environment: where the files are, and what is to be done to them.
pub const DIRECTORY: &str = "LIFEBOAT_BENCH_WRITERS";
pub const LOAD: &str = "LIFEBOAT_BENCH_LOAD";

const ROWS: u64 = 1_000;
const ROW_BYTES: usize = 900;

pub fn site(number: usize) -> String {
    format!("site-{number:04}")
}

pub fn to_text(load: &Load) -> String {
    let Load { files, transactions_a_second, seconds, log_pages } = load;
    format!("{files} {transactions_a_second} {seconds} {}", log_pages.unwrap_or(0))
}

fn of_text(text: &str) -> Outcome<Load> {
    let numbers = text.split(' ').map(str::parse).collect::<Result<Vec<u32>, _>>()?;
    let [files, transactions_a_second, seconds, log_pages] = numbers[..] else { return Err("no load".into()) };
    let log_pages = Some(log_pages).filter(|pages| *pages > 0);
    Ok(Load { files: files as usize, transactions_a_second, seconds: seconds.into(), log_pages })
}

pub fn make_files(root: &Path, load: &Load) -> Outcome<()> {
    for number in 0..load.files {
        std::fs::create_dir_all(root.join("srv").join(site(number)))?;
        let mut connection = open(root, number, load)?;
        let transaction = connection.transaction()?;
        transaction.execute_batch("CREATE TABLE note (id INTEGER PRIMARY KEY, body BLOB)")?;
        for id in 0..ROWS {
            let body = noise(number as u64 * ROWS + id, ROW_BYTES);
            transaction.execute("INSERT INTO note VALUES (?1, ?2)", params![id as i64, body])?;
        }
        transaction.commit()?;
    }
    Ok(())
}

fn open(root: &Path, number: usize, load: &Load) -> Outcome<Connection> {
    let connection = Connection::open(root.join("srv").join(site(number)).join("notes.db"))?;
    connection.busy_timeout(Duration::from_secs(10))?;
    let log_pages = load.log_pages.unwrap_or(1_000);
    let setup = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = {log_pages}; \
         PRAGMA cache_size = -200"
    );
    connection.execute_batch(&setup)?;
    Ok(connection)
}

/// Writes until the time is up, and prints how many transactions that were.
pub fn run(root: &Path) -> Outcome<()> {
    let load = of_text(&std::env::var(LOAD)?)?;
    let all = (0..load.files).map(|number| open(root, number, &load)).collect::<Outcome<Vec<_>>>()?;
    let (began, mut written) = (Instant::now(), 0_u64);
    while began.elapsed() < Duration::from_secs(load.seconds + load.warm_up()) {
        let random = noise(written, 8).iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        let connection = &all[(random >> 20) as usize % all.len()];
        let mut statement = connection.prepare_cached("UPDATE note SET body = ?2 WHERE id = ?1")?;
        statement.execute(params![(random % ROWS) as i64, noise(random, ROW_BYTES)])?;
        written += 1;
        let due = Duration::from_secs_f64(written as f64 / f64::from(load.transactions_a_second));
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    println!("{written}");
    Ok(())
}
