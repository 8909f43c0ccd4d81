//! What the file system says of a database, and the stamp made of it.
//!
//! A commit changes the database file, its write-ahead log, or its rollback journal, so equal stats
//! mean an equal database - unless the stat was taken within one tick of the file system's clock
//! after a write, when a further write could leave no trace. Such a stat is *young*.

use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lifeboat_model::{FileTime, Position};

use crate::Error;
use crate::error::shown;

/// A stamp of a file younger than this never equals another one, as in git's index, where times
/// have no digits below a millisecond: file systems with clocks of one or two seconds exist (FAT,
/// some network ones).
const STAMP_AGE_MIN: Duration = Duration::from_secs(2);
/// Where times carry digits below a millisecond, the clock ticks every 10 ms at worst (Linux,
/// CONFIG_HZ=100); five ticks are enough.
const FINE_AGE_MIN: Duration = Duration::from_millis(50);

const STAMP_RACY: u8 = 0;
const STAMP_VERSION: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStat {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    pub modified: FileTime,
    pub changed: FileTime,
}

/// A database file and what lies beside it, at one moment.
#[derive(Debug, Clone)]
pub(super) struct DatabaseStat {
    pub main: FileStat,
    pub wal: Option<FileStat>,
    pub journal: Option<FileStat>,
    /// The clock just before the first stat.
    taken: Duration,
}

/// The file beside the database whose name ends with `suffix`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) const WAL: &str = "-wal";
pub(super) const SHM: &str = "-shm";
pub(super) const JOURNAL: &str = "-journal";

/// Takes one file's stat without opening it; `None`: nothing is there.
pub(super) fn file_stat(path: &Path) -> Result<Option<FileStat>, Error> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(io) if io.kind() == ErrorKind::NotFound => return Ok(None),
        Err(io) => return Err(Error::io("cannot look at the database", path.as_os_str().as_bytes(), io)),
    };
    if !metadata.is_file() {
        return Err(Error::Conflict {
            detail: "not a regular file where a database should be".into(),
            path: shown(path.as_os_str().as_bytes()),
            hint: "move it away, or mend the source's `path` in the configuration".into(),
        });
    }
    let time = |seconds, nanoseconds: i64| FileTime { seconds, nanoseconds: nanoseconds.clamp(0, 999_999_999) as u32 };
    Ok(Some(FileStat {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: time(metadata.mtime(), metadata.mtime_nsec()),
        changed: time(metadata.ctime(), metadata.ctime_nsec()),
    }))
}

/// A log's or journal's stat without its `ctime`: SQLite sets the owner of these whenever root opens
/// them (os_unix.c, `robustFchown`), so that reading alone would look like a write.
fn companion_stat(path: &Path, suffix: &str) -> Result<Option<FileStat>, Error> {
    Ok(file_stat(&beside(path, suffix))?.map(|stat| FileStat { changed: stat.modified, ..stat }))
}

impl DatabaseStat {
    /// `None`: there is no database file.
    pub fn take(path: &Path) -> Result<Option<Self>, Error> {
        let taken = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let Some(main) = file_stat(path)? else { return Ok(None) };
        Ok(Some(Self { main, wal: companion_stat(path, WAL)?, journal: companion_stat(path, JOURNAL)?, taken }))
    }

    /// Whether both describe the same files with the same times.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.main, self.wal, self.journal) == (other.main, other.wal, other.journal)
    }

    /// No log and no journal with anything in it lies beside it: the file is the whole database, as
    /// far as stat can tell.
    pub fn is_whole(&self) -> bool {
        self.wal.iter().chain(&self.journal).all(|file| file.size == 0)
    }

    /// Neither a log nor a journal lies beside it, not even an empty one.
    pub fn is_alone(&self) -> bool {
        self.wal.is_none() && self.journal.is_none()
    }

    fn files(&self) -> impl Iterator<Item = &FileStat> {
        std::iter::once(&self.main).chain(&self.wal).chain(&self.journal)
    }

    /// How long to wait until a write after the stat is sure to show in the times; zero when a
    /// write would show already.
    pub fn settles_in(&self) -> Duration {
        let is_fine = self.files().all(|file| file.changed.nanoseconds % 1_000_000 != 0);
        self.younger_than(if is_fine { FINE_AGE_MIN } else { STAMP_AGE_MIN })
    }

    /// How much is missing until the youngest file is `age` old; zero when it is.
    fn younger_than(&self, age: Duration) -> Duration {
        let newest = self.files().flat_map(|file| [file.modified, file.changed]).max().unwrap_or_default();
        let newest = Duration::new(u64::try_from(newest.seconds).unwrap_or(0), newest.nanoseconds);
        // A time in the future is as young as can be, but no reason to wait for it.
        (newest.saturating_add(age)).saturating_sub(self.taken).min(age)
    }

    /// The change detector; equal stamps mean that nothing was written between.
    pub fn stamp(&self) -> Vec<u8> {
        if !self.settles_in().is_zero() {
            return racy_stamp();
        }
        let mut stamp = vec![STAMP_VERSION];
        stamp.extend(self.main.inode.to_le_bytes());
        for file in [Some(&self.main), self.wal.as_ref(), self.journal.as_ref()] {
            stamp.push(u8::from(file.is_some()));
            let Some(file) = file else { continue };
            stamp.extend(file.size.to_le_bytes());
            for time in [file.modified, file.changed] {
                stamp.extend(time.seconds.to_le_bytes());
                stamp.extend(time.nanoseconds.to_le_bytes());
            }
        }
        stamp
    }

    /// The point in the database's history, for a person.
    pub fn position(&self) -> Position {
        let time = |time: FileTime| format!("{}.{:09}", time.seconds, time.nanoseconds);
        let mut text = format!("db {}@{}", self.main.size, time(self.main.modified));
        if let Some(wal) = &self.wal {
            text += &format!(" wal {}@{}", wal.size, time(wal.modified));
        }
        Position(text)
    }
}

/// A stamp that equals no other, not even another racy one.
pub(super) fn racy_stamp() -> Vec<u8> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut stamp = vec![STAMP_RACY];
    stamp.extend(now.to_le_bytes());
    stamp.extend(std::process::id().to_le_bytes());
    stamp.extend(COUNT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    stamp
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(age: Duration, nanoseconds: u32) -> DatabaseStat {
        let time = FileTime { seconds: 1_700_000_000, nanoseconds };
        let main = FileStat { device: 1, inode: 2, size: 3, modified: time, changed: time };
        let taken = Duration::new(1_700_000_000, nanoseconds) + age;
        DatabaseStat { main, wal: None, journal: None, taken }
    }

    #[test]
    fn a_stamp_of_a_young_file_equals_nothing_not_even_itself() {
        for young in [stat(Duration::from_millis(49), 123), stat(Duration::from_millis(1_999), 0)] {
            assert_ne!(young.stamp(), young.stamp());
        }
        assert_eq!(stat(Duration::from_millis(50), 123).stamp(), stat(Duration::from_secs(9), 123).stamp());
        let old = stat(Duration::from_secs(2), 123);
        assert_eq!(old.stamp(), stat(Duration::from_secs(100), 123).stamp());
        assert_ne!(old.stamp(), stat(Duration::from_secs(100), 124).stamp());
    }

    #[test]
    fn the_wait_for_a_quiet_file_follows_the_grain_of_its_times() {
        let check = |age_ms: u64, nanoseconds: u32, want_ms: u64| {
            let got = stat(Duration::from_millis(age_ms), nanoseconds).settles_in();
            assert_eq!(got, Duration::from_millis(want_ms), "{age_ms} {nanoseconds}");
        };
        check(0, 123_456_789, 50);
        check(30, 123_456_789, 20);
        check(50, 123_456_789, 0);
        check(50, 0, 1_950);
        check(2_000, 0, 0);
    }

    #[test]
    fn a_log_that_grew_or_appeared_is_another_stamp() {
        let base = stat(Duration::from_secs(9), 1);
        let with = |size| DatabaseStat { wal: Some(FileStat { size, ..base.main }), ..base.clone() };
        assert_ne!(base.stamp(), with(0).stamp());
        assert_ne!(with(0).stamp(), with(1).stamp());
        let journal = DatabaseStat { journal: Some(base.main), ..base.clone() };
        assert_ne!(journal.stamp(), DatabaseStat { wal: Some(base.main), ..base.clone() }.stamp());
    }
}
