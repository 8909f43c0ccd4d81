//! The database that is captured: a made-up PostgreSQL, and the truth about it.
//!
//! ```text
//!   begin ─▶ open, for a moment or for days ─▶ commit: in the log ─▶ seen by others, unless a standby keeps it waiting
//!     each row is one transaction's alone till the others see it
//! ```
//!
//! It remembers what every site had after each commit, so that any moment can be asked for.
//!
//! What is not here: writing its changes into the change log (`capture`), and asking for moments (`moments`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifeboat_model::{
    ChangedColumn, ChangedTable, ChangedValue, Lsn, RowChange, SourceName, Timestamp, TransactionHead, TransactionId,
};

use super::{HOUR, Random};

pub const SYSTEM: &str = "7300000000000000001";
/// Rows of a site.
const ROWS: u64 = 6;
/// Each transaction's part of the log.
const LSN_STEP: u64 = 100;

/// What a site has in its table.
pub type Rows = BTreeMap<u64, u64>;

/// One row of a site as it is to be; `None`: it goes.
type Written = (String, u64, Option<u64>);

/// What a transaction did, as the log has it.
#[derive(Debug, Clone)]
pub struct Committed {
    pub head: TransactionHead,
    /// By site, in order.
    pub changes: Vec<(String, RowChange)>,
    /// Others see it from then on.
    seen_from: Timestamp,
    written: Vec<Written>,
}

/// Where a base of all sites is cut, and what it has.
#[derive(Debug, Clone)]
pub struct View {
    pub lsn: Lsn,
    /// As `pg_current_snapshot()` prints it.
    pub snapshot: String,
    pub rows: BTreeMap<String, Rows>,
}

pub struct App {
    inner: Mutex<Inner>,
}

struct Inner {
    now: Timestamp,
    lsn: Lsn,
    next: u64,
    open: Vec<Open>,
    /// In the order of their commits.
    committed: Vec<Committed>,
    /// Up to here of them, all are seen by everybody.
    seen: usize,
    /// After the last commit.
    rows: BTreeMap<String, Rows>,
    /// As others see it.
    visible: BTreeMap<String, Rows>,
    /// After each commit that changed something.
    history: BTreeMap<String, BTreeMap<Timestamp, Rows>>,
    /// Till then the standby does not answer, and no commit is seen.
    stalled_till: Timestamp,
}

struct Open {
    id: TransactionId,
    ends_at: Timestamp,
    written: Vec<Written>,
}

pub fn source() -> SourceName {
    SourceName::new("app").unwrap()
}

pub fn table() -> Arc<ChangedTable> {
    let column = |name: &str| ChangedColumn { name: name.into(), type_name: "text".into() };
    Arc::new(ChangedTable { name: "notes".into(), columns: vec![column("id"), column("body")], key: vec![0] })
}

/// As `COPY` prints them.
pub fn copied(rows: &Rows) -> String {
    rows.iter().map(|(row, value)| format!("{row}\t{value}\n")).collect()
}

impl App {
    pub fn new(now: Timestamp, sites: &[&str]) -> Self {
        let empty = || sites.iter().map(|site| ((*site).to_owned(), Rows::new())).collect::<BTreeMap<_, _>>();
        let history = empty().into_keys().map(|site| (site, BTreeMap::from([(now, Rows::new())]))).collect();
        let inner = Inner {
            now,
            lsn: Lsn(1 << 20),
            next: 700,
            open: Vec::new(),
            committed: Vec::new(),
            seen: 0,
            rows: empty(),
            visible: empty(),
            history,
            stalled_till: now,
        };
        Self { inner: Mutex::new(inner) }
    }

    /// What its sites do till then.
    pub fn work(&self, till: Timestamp, random: &mut Random) {
        let mut inner = self.lock();
        let mut begins: Vec<i64> = (0..random.below(5)).map(|_| inner.moment(till, random)).collect();
        begins.sort_unstable();
        for at in begins {
            inner.end_till(Timestamp(at));
            let lasts = match random.below(12) {
                0 => HOUR + random.below(3 * 24) as i64 * HOUR,
                1 => random.below(60) as i64 * 60_000_000,
                _ => random.below(2_000_000) as i64,
            };
            inner.begin(Timestamp(at + 1 + lasts), random);
            if random.one_in(60) {
                inner.stalled_till = Timestamp(at + (1 + random.below(20)) as i64 * HOUR / 2);
            }
        }
        inner.end_till(till);
        inner.write_on(till);
    }

    /// One transaction that writes a row of a site.
    pub fn write(&self, site: &str, (row, value): (u64, u64), ends_at: Timestamp) {
        let mut inner = self.lock();
        let id = TransactionId(inner.next);
        inner.next += 1;
        inner.open.push(Open { id, ends_at, written: vec![(site.to_owned(), row, Some(value))] });
    }

    /// The standby does not answer: till then nobody sees what is committed.
    pub fn stall(&self, till: Timestamp) {
        self.lock().stalled_till = till;
    }

    /// Lets time pass, in which nobody begins anything.
    pub fn wait(&self, till: Timestamp) {
        let mut inner = self.lock();
        inner.end_till(till);
        inner.write_on(till);
    }

    /// Ends all that is open, and nothing waits any more.
    pub fn settle(&self, now: Timestamp) {
        let mut inner = self.lock();
        inner.open.iter_mut().for_each(|open| open.ends_at = open.ends_at.min(now));
        inner.end_till(now);
        inner.write_on(now);
    }

    /// What a backup that is cut now sees.
    pub fn view(&self) -> View {
        let inner = self.lock();
        let unseen = inner.committed[inner.seen..].iter().map(|one| one.head.id);
        let mut running: Vec<u64> = inner.open.iter().map(|open| open.id).chain(unseen).map(|id| id.0).collect();
        running.sort_unstable();
        // The number after the newest one that is over: what is above it is not listed.
        let xmax = (1..inner.next).rev().find(|id| running.binary_search(id).is_err()).map_or(1, |id| id + 1);
        running.retain(|id| *id < xmax);
        let snapshot = snapshot(xmax, &running);
        View { lsn: inner.lsn, snapshot, rows: inner.visible.clone() }
    }

    /// Where an epoch that is begun now begins, and what is not in it: who reads the log waits for no standby.
    pub fn begin_following(&self) -> (Lsn, String) {
        let inner = self.lock();
        let mut running: Vec<u64> = inner.open.iter().map(|open| open.id.0).collect();
        running.sort_unstable();
        (inner.lsn, snapshot(inner.next, &running))
    }

    /// What was committed since, and up to where that is all.
    pub fn since(&self, lsn: Lsn) -> (Vec<Committed>, Lsn) {
        let inner = self.lock();
        let from = inner.committed.partition_point(|one| one.head.commit <= lsn);
        (inner.committed[from..].to_vec(), inner.lsn)
    }

    /// What has changed a site, is in the log, and is not seen yet: a base that is cut meanwhile needs it from there.
    pub fn unseen_of(&self, site: &str) -> Vec<TransactionId> {
        let inner = self.lock();
        let changes = |one: &&Committed| one.written.iter().any(|(of, ..)| of == site);
        inner.committed[inner.seen..].iter().filter(changes).map(|one| one.head.id).collect()
    }

    /// What a site had at a moment.
    pub fn rows_at(&self, site: &str, at: Timestamp) -> Rows {
        self.lock().history[site].range(..=at).next_back().map(|(_, rows)| rows.clone()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// A server writes to its log though nobody writes to it.
    fn write_on(&mut self, now: Timestamp) {
        (self.lsn, self.now) = (Lsn(self.lsn.0 + 1), now);
    }

    fn moment(&self, till: Timestamp, random: &mut Random) -> i64 {
        let between = (till.0 - self.now.0).max(1);
        self.now.0 + 1 + random.below(between as u64) as i64
    }

    /// A transaction writes some rows that nobody else has written since others see them.
    fn begin(&mut self, ends_at: Timestamp, random: &mut Random) {
        let id = TransactionId(self.next);
        self.next += 1;
        let sites: Vec<String> = self.rows.keys().cloned().collect();
        let mut written: Vec<Written> = Vec::new();
        for _ in 0..1 + random.below(3) {
            let (site, row) = (&sites[random.below(sites.len() as u64) as usize], random.below(ROWS));
            let is_it = |one: &Written| one.0 == *site && one.1 == row;
            let unseen = self.committed[self.seen..].iter().flat_map(|one| &one.written);
            let of_others = self.open.iter().flat_map(|open| &open.written).chain(unseen);
            if !of_others.chain(&written).any(is_it) {
                let value = (!random.one_in(4)).then(|| id.0 * 10 + random.below(10));
                written.push((site.clone(), row, value));
            }
        }
        self.open.push(Open { id, ends_at, written });
    }

    /// Commits what ends till then, and shows what waits no longer.
    fn end_till(&mut self, till: Timestamp) {
        self.open.sort_by_key(|open| (open.ends_at, open.id));
        while self.open.first().is_some_and(|open| open.ends_at <= till) {
            let open = self.open.remove(0);
            self.show(open.ends_at);
            self.commit(open);
        }
        self.show(till);
    }

    fn commit(&mut self, open: Open) {
        self.lsn = Lsn(self.lsn.0 + LSN_STEP);
        // No two commits are of the same moment.
        let last = self.committed.last().map_or(Timestamp(0), |last| last.head.committed_at);
        let at = open.ends_at.max(Timestamp(last.0 + 1));
        let head = TransactionHead { id: open.id, commit: self.lsn, committed_at: at };
        let mut changes = Vec::new();
        for (site, row, value) in &open.written {
            let rows = self.rows.get_mut(site).unwrap();
            let text = |number: u64| ChangedValue::Text(number.to_string().into());
            let change = match (rows.contains_key(row), value) {
                (true, Some(value)) => RowChange::Update { row: vec![text(*row), text(*value)], key_before: None },
                (false, Some(value)) => RowChange::Insert { row: vec![text(*row), text(*value)] },
                (true, None) => RowChange::Delete { key: vec![text(*row)] },
                (false, None) => continue,
            };
            write(rows, *row, *value);
            changes.push((site.clone(), change));
            self.history.get_mut(site).unwrap().insert(at, self.rows[site].clone());
        }
        let seen_from = at.max(self.stalled_till);
        self.committed.push(Committed { head, changes, seen_from, written: open.written });
    }

    fn show(&mut self, now: Timestamp) {
        while let Some(one) = self.committed.get(self.seen).filter(|one| one.seen_from <= now) {
            for (site, row, value) in &one.written {
                write(self.visible.get_mut(site).unwrap(), *row, *value);
            }
            self.seen += 1;
        }
    }
}

fn write(rows: &mut Rows, row: u64, value: Option<u64>) {
    match value {
        Some(value) => drop(rows.insert(row, value)),
        None => drop(rows.remove(&row)),
    }
}

fn snapshot(xmax: u64, running: &[u64]) -> String {
    let xmin = running.first().copied().unwrap_or(xmax);
    let running: Vec<String> = running.iter().map(u64::to_string).collect();
    format!("{xmin}:{xmax}:{}", running.join(","))
}
