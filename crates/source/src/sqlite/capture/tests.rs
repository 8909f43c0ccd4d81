//! Version upon version of real databases, put together from their pages, beside the files themselves.
#![allow(clippy::unwrap_used)] // every function here is part of a test

use std::path::Path;
use std::time::{Duration, Instant};

use lifeboat_model::{FileState, PageHash};
use rusqlite::Connection;

use super::super::connect::open_read_only;
use super::super::pages::Pages;
use super::wal::WalScan;
use super::*;
use crate::Error;

/// What a capture keeps of one file, and the image made of all versions so far.
struct Follower {
    hashes: Vec<PageHash>,
    known: Option<FileState>,
    mark: Option<FileMark>,
    file: std::fs::File,
    full_reads: u32,
    hinted_reads: u32,
}

impl Follower {
    fn new() -> Self {
        let file = tempfile::tempfile().unwrap();
        Self { hashes: Vec::new(), known: None, mark: None, file, full_reads: 0, hinted_reads: 0 }
    }

    /// Reads the next version, and puts it over the image; whether there was one.
    fn follow(&mut self, path: &Path) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        let stat = loop {
            match look(path, self.mark.as_ref(), &[]).unwrap() {
                Look::Absent => panic!("no database"),
                Look::Unchanged(_) => return false,
                Look::Changed(stat) => break stat,
                Look::Settling(_) => std::thread::sleep(Duration::from_millis(10)),
            }
            assert!(Instant::now() < deadline, "the file never settles");
        };
        let opened = VersionReader::open(path, stat, (self.known, self.mark.as_ref()), true).unwrap();
        let mut reader = opened.unwrap();
        match reader.is_full() {
            true => self.full_reads += 1,
            false => self.hinted_reads += 1,
        }
        let mut pages = Vec::new();
        let before = self.hashes.clone();
        let mut hash_before = |number: u32| Ok::<_, Error>(before[number as usize - 1]);
        while let Some(page) = reader.next(&mut hash_before).unwrap() {
            pages.push(page);
        }
        let Finished { state, mark } = reader.finish(&mut hash_before).unwrap().expect("nobody writes");
        let mut image = match self.known {
            Some(known) => PageImage::over(&self.file, known.page_size).unwrap(),
            None => PageImage::empty(&self.file).unwrap(),
        };
        self.hashes.resize(state.page_count as usize, PageHash([0; 16]));
        for page in &pages {
            image.put(page.number, &page.bytes).unwrap();
            self.hashes[page.number as usize - 1] = page.hash;
        }
        assert!(image.become_state(&state).unwrap(), "the sum is another one: {state:?}");
        let is_version = self.known != Some(state);
        (self.known, self.mark) = (Some(state), Some(mark));
        is_version
    }

    /// Whether the image is, byte for byte, what an ordinary reader finds.
    fn expect_as(&self, path: &Path, when: &str) {
        let mut pages = Pages::begin(open_read_only(path).unwrap()).unwrap();
        let mut want = vec![0; pages.len() as usize];
        assert_eq!(pages.read(&mut want).unwrap(), want.len());
        let mut got = vec![0; self.file.metadata().unwrap().len() as usize];
        std::os::unix::fs::FileExt::read_exact_at(&self.file, &mut got, 0).unwrap();
        assert!(got == want, "{when}: another image, {} and {} bytes", got.len(), want.len());
    }
}

fn open(path: &Path, mode: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    let setup = format!("PRAGMA journal_mode = {mode}; PRAGMA wal_autocheckpoint = 40; PRAGMA synchronous = OFF");
    connection.execute_batch(&setup).unwrap();
    connection
}

/// Some of everything that an application does, by the number of the step.
fn work(connection: &Connection, step: u32) {
    let sql = match step % 11 {
        0 => "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, body BLOB)".to_owned(),
        7 => "BEGIN; INSERT INTO note (body) VALUES (randomblob(40000)); ROLLBACK".to_owned(),
        8 => "DELETE FROM note WHERE id % 3 = 1".to_owned(),
        9 if step % 4 == 1 => "VACUUM".to_owned(),
        10 => "INSERT INTO note (body) VALUES (randomblob(150000))".to_owned(),
        _ => format!("INSERT INTO note (body) VALUES (randomblob({}))", 100 + step * 37 % 3_000),
    };
    connection.execute_batch(&sql).unwrap();
}

fn follow_all(mode: &str) -> Follower {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.db");
    let connection = open(&path, mode);
    let mut follower = Follower::new();
    let mut versions = 0;
    for step in 0..120 {
        work(&connection, step);
        if step % 3 != 1 {
            versions += u32::from(follower.follow(&path));
            follower.expect_as(&path, &format!("{mode}, step {step}"));
        }
    }
    assert!(versions > 50, "{versions}");
    follower
}

// Explains invariant: whole-version
#[test]
fn versions_of_a_logged_database_are_the_file_by_hint_and_by_comparison() {
    let follower = follow_all("WAL");
    assert!(follower.hinted_reads > 10 && follower.full_reads > 5, "{} {}", follower.hinted_reads, follower.full_reads);
}

#[test]
fn versions_of_a_database_in_rollback_mode_are_the_file() {
    let follower = follow_all("DELETE");
    assert_eq!(follower.hinted_reads, 0);
}

#[test]
fn a_log_that_is_begun_anew_while_it_is_looked_through_is_no_hint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.db");
    let connection = open(&path, "WAL");
    (0..3).for_each(|step| work(&connection, step));
    let mark = WalScan::read(&path, 4_096, None).unwrap().unwrap().mark;
    work(&connection, 4);
    assert!(WalScan::read(&path, 4_096, Some(&mark)).unwrap().unwrap().goes_on);
    // The header is read, then the log is begun anew: what was committed since the mark is overwritten.
    let (mut scan, header) = WalScan::begin(&path, 4_096, Some(&mark)).unwrap().unwrap();
    connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
    work(&connection, 10);
    scan.take_frames(&header, 4_096).unwrap();
    assert!(scan.goes_on && scan.pages().count() == 0, "frames of the new log are not of the old one");
    scan.confirm(&header, 4_096).unwrap();
    assert!(!scan.goes_on);
}

#[test]
fn a_file_that_settles_is_read_once_more_and_then_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.db");
    drop({
        let connection = open(&path, "WAL");
        work(&connection, 0);
        connection
    });
    let listing = || {
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = (listing(), std::fs::metadata(dir.path()).unwrap().modified().unwrap());
    let mut follower = Follower::new();
    assert!(follower.follow(&path));
    std::thread::sleep(Duration::from_millis(2_100));
    follower.follow(&path);
    let reads = follower.full_reads + follower.hinted_reads;
    assert!(!follower.follow(&path));
    assert_eq!(follower.full_reads + follower.hinted_reads, reads, "it was read although nothing happened");
    assert_eq!((listing(), std::fs::metadata(dir.path()).unwrap().modified().unwrap()), before, "a trace was left");
    // What an earlier process kept of its mark says the same.
    let stamp = follower.mark.as_ref().unwrap().stamp();
    assert!(matches!(look(&path, None, &stamp).unwrap(), Look::Unchanged(Some(_))));
    let connection = open(&path, "WAL");
    work(&connection, 1);
    assert!(!matches!(look(&path, None, &stamp).unwrap(), Look::Unchanged(_)));
}

#[test]
fn a_page_that_the_log_has_newer_than_the_transaction_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.db");
    let connection = open(&path, "WAL");
    work(&connection, 0);
    let mut follower = Follower::new();
    follower.follow(&path);
    let Look::Changed(stat) = ({
        work(&connection, 1);
        look(&path, follower.mark.as_ref(), &[]).unwrap()
    }) else {
        panic!("it was written")
    };
    let known = (follower.known, follower.mark.as_ref());
    let mut reader = VersionReader::open(&path, stat, known, true).unwrap().unwrap();
    // As if the log had been looked through a moment later: a commit that the transaction does not see.
    work(&connection, 2);
    reader.wal = wal::WalScan::read(&path, reader.page_size(), follower.mark.as_ref().unwrap().wal.as_ref()).unwrap();
    let before = follower.hashes.clone();
    let mut hash_before = |number: u32| Ok::<_, Error>(before[number as usize - 1]);
    let mut pages = Vec::new();
    while let Some(page) = reader.next(&mut hash_before).unwrap() {
        pages.push(page);
    }
    let Finished { state, mark } = reader.finish(&mut hash_before).unwrap().unwrap();
    assert!(!mark.recheck.is_empty(), "the commit would be lost: the next look begins behind it");
    let mut image = PageImage::over(&follower.file, state.page_size).unwrap();
    follower.hashes.resize(state.page_count as usize, PageHash([0; 16]));
    for page in &pages {
        image.put(page.number, &page.bytes).unwrap();
        follower.hashes[page.number as usize - 1] = page.hash;
    }
    assert!(image.become_state(&state).unwrap());
    (follower.known, follower.mark) = (Some(state), Some(mark));
    assert!(follower.follow(&path));
    follower.expect_as(&path, "after the page was read again");
    assert_eq!(follower.full_reads, 1);
}
