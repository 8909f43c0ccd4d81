//! A made-up fleet: for each site a database and a tree of attachments.
//!
//! ```text
//!   <root>/sites/<site>/notes.db
//!   <root>/sites/<site>/attachments/<year>/<month>/…
//! ```
//!
//! Text that compresses, pictures that do not, and a file that lies there twice: what real sites have.

use std::io;
use std::path::{Path, PathBuf};

use lifeboat_model::SiteId;
use rusqlite::{Connection, params};

pub const SITES: usize = 50;

/// Bytes of one attachment of noise, at full scale.
const PICTURE_BYTES: usize = 300_000;
const TEXT_BYTES: usize = 60_000;

const NAMES: [&str; 10] =
    ["acme", "globex", "initech", "umbrella", "hooli", "stark", "wayne", "wonka", "tyrell", "cyberdyne"];
const WORDS: [&str; 24] = [
    "customer", "invoice", "meeting", "budget", "release", "support", "ticket", "contract", "review", "quarter",
    "draft", "approved", "pending", "shipping", "the", "a", "and", "with", "for", "was", "is", "on", "next", "Monday",
];

/// Where a site's parts are.
pub fn site_directory(root: &Path, site: &SiteId) -> PathBuf {
    root.join("sites").join(site.as_str())
}

pub fn database(root: &Path, site: &SiteId) -> PathBuf {
    site_directory(root, site).join("notes.db")
}

pub fn attachments(root: &Path, site: &SiteId) -> PathBuf {
    site_directory(root, site).join("attachments")
}

/// The ids of the fleet: `acme-01` and so on.
pub fn site_ids() -> Vec<SiteId> {
    let name = |number: usize| format!("{}-{:02}", NAMES[number % NAMES.len()], number / NAMES.len() + 1);
    (0..SITES).filter_map(|number| SiteId::new(name(number)).ok()).collect()
}

/// Makes every site, on all cores. `percent` scales the sizes.
pub fn make(root: &Path, sites: &[SiteId], percent: u32) -> io::Result<()> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let share = |worker: usize| sites.iter().enumerate().skip(worker).step_by(workers);
        let made: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn(move || share(worker).try_for_each(|(number, site)| make_site(root, site, number, percent)))
            })
            .collect();
        made.into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))))
    })
}

fn make_site(root: &Path, site: &SiteId, number: usize, percent: u32) -> io::Result<()> {
    let mut random = Random::new(number as u64);
    // Most sites are small, a few are not: tenants are like that.
    let weight = match number % 25 {
        7 => 12,
        3 | 13 | 19 => 4,
        _ => 1,
    };
    let directory = attachments(root, site);
    let scaled = |bytes: usize| (bytes * percent as usize / 100).max(64);
    for item in 0..6 * weight {
        let month = directory.join(format!("{}/{:02}", 2021 + item % 3, 1 + item % 12));
        std::fs::create_dir_all(&month)?;
        std::fs::write(month.join(format!("photo-{item}.jpg")), random.noise(scaled(PICTURE_BYTES)))?;
        std::fs::write(month.join(format!("minutes-{item}.txt")), random.text(scaled(TEXT_BYTES)))?;
    }
    let logo = random.noise(scaled(PICTURE_BYTES));
    std::fs::write(directory.join("logo.png"), &logo)?;
    std::fs::write(directory.join("logo copy.png"), &logo)?;
    let rows = (500 * weight * percent as usize / 100).max(20);
    make_database(&database(root, site), rows, &mut random).map_err(io::Error::other)
}

fn make_database(path: &Path, rows: usize, random: &mut Random) -> rusqlite::Result<()> {
    let mut connection = Connection::open(path)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE note (id INTEGER PRIMARY KEY, author TEXT NOT NULL, body TEXT NOT NULL);
         CREATE INDEX note_author ON note (author);",
    )?;
    for id in 0..rows {
        let author = NAMES[random.below(NAMES.len())];
        transaction.execute("INSERT INTO note VALUES (?1, ?2, ?3)", params![id as i64, author, random.text(400)])?;
    }
    transaction.commit()
}

/// A day's work at a site: a few notes and one attachment.
pub fn work(root: &Path, site: &SiteId, percent: u32) -> io::Result<()> {
    let mut random = Random(0xda3e_39cb_94b9_5bdb);
    let mut connection = Connection::open(database(root, site)).map_err(io::Error::other)?;
    let written = connection.transaction().and_then(|transaction| {
        for _ in 0..10 {
            let body = random.text(400);
            transaction.execute("INSERT INTO note (author, body) VALUES ('today', ?1)", params![body])?;
        }
        transaction.commit()
    });
    written.map_err(io::Error::other)?;
    let bytes = (PICTURE_BYTES * percent as usize / 100).max(64);
    std::fs::write(attachments(root, site).join("today.jpg"), random.noise(bytes))
}

/// Numbers that only look random: the same fleet every time.
pub struct Random(u64);

impl Random {
    /// The `number`-th sequence.
    pub fn new(number: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (number + 1).wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    /// xorshift64*
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit
    }

    pub fn noise(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    pub fn text(&mut self, len: usize) -> String {
        let mut text = String::with_capacity(len + 16);
        while text.len() < len {
            text.push_str(WORDS[self.below(WORDS.len())]);
            text.push(if self.below(12) == 0 { '\n' } else { ' ' });
        }
        text
    }
}
