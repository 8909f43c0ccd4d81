//! Applications that write without a pause, and what they wrote when: the oracle, which knows nothing of backups.
//!
//! Each writer holds the lock while it changes its source and what is remembered of it. So a moment that is taken with
//! the lock held lies between two transactions, and what was there is known to the row.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lifeboat_model::Timestamp;
use lifeboat_testkit::postgres::run_sql;
use postgres::{Client, NoTls};

use crate::place::Place;

/// Sites of all sources.
pub const SITES: [&str; 4] = ["acme", "globex", "initech", SHORT];
/// Its points end soon.
pub const SHORT: &str = "short";
/// Comes when it storms already.
pub const BORN: &str = "newborn";
const PULSE: &str = "pulse";
/// Rows of a site, about.
const ROWS: usize = 60;
const PAUSE: Duration = Duration::from_millis(80);
/// Longer than scans are apart: a file stays for so many steps after its row went.
const FILES_STAY: usize = 60;

/// Rows of one site: of `note` and, below each, of `tag`.
pub type Rows = BTreeMap<i64, (String, BTreeSet<String>)>;

/// What was there at a moment.
#[derive(Clone)]
pub struct Moment {
    pub at: Timestamp,
    /// In PostgreSQL.
    pub rows: BTreeMap<String, Rows>,
    /// Per site, how many states its database file had had.
    pub seen: BTreeMap<String, usize>,
    pub history: Arc<Mutex<BTreeMap<String, History>>>,
    pub removed: Arc<Mutex<Removed>>,
}

/// Each state of a site's database file: since when, and which rows.
pub type History = Vec<(Timestamp, Vec<i64>)>;

/// When an attachment of a site was removed.
pub type Removed = BTreeMap<PathBuf, Timestamp>;

pub struct Fleet {
    database: String,
    srv: PathBuf,
    state: Arc<Mutex<State>>,
}

struct State {
    seed: Seed,
    next: i64,
    rows: BTreeMap<String, Rows>,
    history: Arc<Mutex<BTreeMap<String, History>>>,
    removed: Arc<Mutex<Removed>>,
}

/// The writers at work.
pub struct Writing {
    state: Arc<Mutex<State>>,
    is_over: Arc<AtomicBool>,
    is_born: Arc<AtomicBool>,
    writers: Vec<JoinHandle<()>>,
}

struct Seed(u64);

impl Seed {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    /// Text that does not compress well, and is longer than a segment.
    fn text(&mut self) -> String {
        (0..90).map(|_| format!("{:08x} ", self.below(usize::MAX >> 33) as u32 ^ (self.0 >> 20) as u32)).collect()
    }
}

impl Fleet {
    pub fn begin(place: &Place, database: &str, seed: u64) -> Self {
        let tables = "CREATE TABLE sites (id text PRIMARY KEY);
            CREATE TABLE note (id bigint PRIMARY KEY, site_id text NOT NULL REFERENCES sites, body text NOT NULL);
            CREATE TABLE tag (note_id bigint NOT NULL REFERENCES note ON DELETE CASCADE, name text NOT NULL,
                PRIMARY KEY (note_id, name))";
        run_sql(database, tables).expect("tables");
        let (history, removed) = (Arc::default(), Arc::default());
        let state = State { seed: Seed(seed), next: 1, rows: BTreeMap::new(), history, removed };
        let fleet = Self { database: database.to_owned(), srv: place.path("srv"), state: Arc::new(Mutex::new(state)) };
        SITES.iter().for_each(|site| bear(&fleet.srv, database, &fleet.state, site));
        fleet
    }

    /// Somebody else of the same sources goes on writing: a log that nobody adds to is extended once a minute only.
    pub fn pulse(&self) {
        let path = self.srv.join(PULSE).join("notes.db");
        if !path.exists() {
            std::fs::create_dir_all(self.srv.join(PULSE)).expect("a directory");
            crate::place::make_database(&path, PULSE, 0);
            run_sql(&self.database, &format!("INSERT INTO sites VALUES ('{PULSE}')")).expect("a site");
        }
        let database = rusqlite::Connection::open(path).expect("a database");
        database.execute("INSERT INTO note (body) VALUES ('a beat')", []).expect("a row");
        let row = format!("INSERT INTO note SELECT max(id) + 1, '{PULSE}', 'a beat' FROM note");
        run_sql(&self.database, &row).expect("a row");
    }

    pub fn write(&self, seed: u64) -> Writing {
        let (is_over, is_born) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut writers = Vec::new();
        let (state, over, url) = (Arc::clone(&self.state), Arc::clone(&is_over), self.database.clone());
        writers.push(std::thread::spawn(move || {
            let mut client = Client::connect(&url, NoTls).expect("a connection");
            while !over.load(Ordering::Relaxed) {
                lock(&state).transact(&mut client);
                std::thread::sleep(PAUSE);
            }
        }));
        let (state, over, born) = (Arc::clone(&self.state), Arc::clone(&is_over), Arc::clone(&is_born));
        let (srv, url) = (self.srv.clone(), self.database.clone());
        writers.push(std::thread::spawn(move || {
            let mut sites: Vec<Notes> = SITES.iter().map(|site| Notes::open(&srv, site)).collect();
            let mut number = seed as usize;
            while !over.load(Ordering::Relaxed) {
                if born.swap(false, Ordering::Relaxed) {
                    bear(&srv, &url, &state, BORN);
                    sites.push(Notes::open(&srv, BORN));
                }
                number += 1;
                let at = number % sites.len();
                sites[at].step(&state);
                std::thread::sleep(PAUSE * 3);
            }
        }));
        Writing { state: Arc::clone(&self.state), is_over, is_born, writers }
    }
}

impl Writing {
    /// What is there, and when that is: between two transactions.
    pub fn moment(&self) -> Moment {
        let state = lock(&self.state);
        std::thread::sleep(Duration::from_millis(3));
        let moment = state.moment();
        std::thread::sleep(Duration::from_millis(3));
        moment
    }

    /// One more site.
    pub fn bear(&self) {
        self.is_born.store(true, Ordering::Relaxed);
    }

    /// Nobody writes any more: what there is at last.
    pub fn end(self) -> Moment {
        self.is_over.store(true, Ordering::Relaxed);
        self.writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
        std::thread::sleep(Duration::from_millis(3));
        lock(&self.state).moment()
    }
}

impl State {
    fn moment(&self) -> Moment {
        let seen = lock(&self.history).iter().map(|(site, history)| (site.clone(), history.len())).collect();
        let (history, removed) = (Arc::clone(&self.history), Arc::clone(&self.removed));
        Moment { at: now(), rows: self.rows.clone(), seen, history, removed }
    }

    /// One transaction over one to three sites; one in twenty is rolled back.
    fn transact(&mut self, client: &mut Client) {
        let (mut sql, mut rows) = (String::from("BEGIN;"), self.rows.clone());
        for _ in 0..1 + self.seed.below(3) {
            let site = rows.keys().nth(self.seed.below(rows.len())).expect("a site").clone();
            sql += &self.change(&site, rows.get_mut(&site).expect("a site"));
        }
        let is_kept = self.seed.below(20) > 0;
        sql += if is_kept { "COMMIT" } else { "ROLLBACK" };
        client.batch_execute(&sql).expect("a transaction");
        if is_kept {
            self.rows = rows;
        }
    }

    fn change(&mut self, site: &str, rows: &mut Rows) -> String {
        let body = self.seed.text();
        let kind = if rows.len() < ROWS / 2 { 0 } else { self.seed.below(6) };
        let id = rows.keys().nth(self.seed.below(rows.len().max(1))).copied().unwrap_or_default();
        match kind {
            0 | 1 if rows.len() < ROWS => {
                let id = self.next;
                self.next += 1;
                let tag = format!("first of {id}");
                let sql = format!(
                    "INSERT INTO note VALUES ({id}, '{site}', '{body}'); INSERT INTO tag VALUES ({id}, '{tag}');"
                );
                rows.insert(id, (body, BTreeSet::from([tag])));
                sql
            }
            0..=2 => {
                rows.remove(&id);
                format!("DELETE FROM note WHERE id = {id};")
            }
            3 => {
                let (row, tag) = (rows.get_mut(&id).expect("a row"), format!("tag {}", self.next));
                self.next += 1;
                row.1.insert(tag.clone());
                let sql =
                    format!("UPDATE note SET body = '{body}' WHERE id = {id}; INSERT INTO tag VALUES ({id}, '{tag}');");
                row.0 = body;
                sql
            }
            _ => {
                rows.get_mut(&id).expect("a row").0.clone_from(&body);
                format!("UPDATE note SET body = '{body}' WHERE id = {id};")
            }
        }
    }
}

/// The database file of a site and its attachments.
struct Notes {
    site: String,
    files: PathBuf,
    database: rusqlite::Connection,
    rows: Vec<i64>,
    /// Files whose rows are gone, oldest first.
    stay: Vec<i64>,
    next: i64,
}

impl Notes {
    fn open(srv: &Path, site: &str) -> Self {
        let path = srv.join(site);
        let database = rusqlite::Connection::open(path.join("notes.db")).expect("a database");
        Self { site: site.to_owned(), files: path.join("files"), database, rows: Vec::new(), stay: Vec::new(), next: 1 }
    }

    /// A file, and the row that names it; where there are many, the oldest row goes, and its file long after it.
    fn step(&mut self, state: &Mutex<State>) {
        let (state, id) = (lock(state), self.next);
        self.next += 1;
        std::fs::write(attachment(&self.files, id), content(&self.site, id)).expect("a file");
        self.database.execute("INSERT INTO note VALUES (?1, 'with its file')", [id]).expect("a row");
        self.rows.push(id);
        self.remember(&state);
        if self.rows.len() > ROWS {
            let gone = self.rows.remove(0);
            self.database.execute("DELETE FROM note WHERE id = ?1", [gone]).expect("a row less");
            self.remember(&state);
            self.stay.push(gone);
        }
        if self.stay.len() > FILES_STAY {
            let gone = attachment(&self.files, self.stay.remove(0));
            std::fs::remove_file(&gone).expect("a file less");
            lock(&state.removed).insert(gone, now());
        }
    }

    fn remember(&self, state: &MutexGuard<'_, State>) {
        lock(&state.history).get_mut(&self.site).expect("a site").push((now(), self.rows.clone()));
    }
}

/// A site in all sources.
fn bear(srv: &Path, url: &str, state: &Mutex<State>, site: &str) {
    let mut state = lock(state);
    std::fs::create_dir_all(srv.join(site).join("files")).expect("a directory");
    std::fs::write(srv.join(site).join("files/readme"), format!("of {site}")).expect("a file");
    crate::place::make_database(&srv.join(site).join("notes.db"), site, 0);
    lock(&state.history).insert(site.to_owned(), vec![(now(), Vec::new())]);
    let sql =
        format!("INSERT INTO sites VALUES ('{site}'); INSERT INTO note VALUES ({}, '{site}', 'first')", state.next);
    run_sql(url, &sql).expect("a site");
    let id = state.next;
    state.next += 1;
    state.rows.insert(site.to_owned(), BTreeMap::from([(id, ("first".to_owned(), BTreeSet::new()))]));
}

pub fn attachment(files: &Path, id: i64) -> PathBuf {
    files.join(format!("attachment-{id}.txt"))
}

/// What is in a file, from its row alone.
pub fn content(site: &str, id: i64) -> String {
    format!("{site} {id}\n").repeat(1 + id as usize % 40)
}

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    Timestamp(i64::try_from(since.as_micros()).expect("a time"))
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
