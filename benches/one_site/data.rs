//! The data: one site of mixed files, made from a seed, the same everywhere.
//!
//! | files | each | what |
//! |---|---|---|
//! | 8 | 50 MB | rows of JSON, which compress |
//! | 3 | 96 MB | random bytes, which do not |
//! | 6,000 | 2 to 40 KB | random bytes, 100 to a directory |

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lifeboat_bench::Outcome;

/// How much data: the measured size, or one that only shows that the bench works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub text_files: u64,
    pub text_bytes: u64,
    pub random_files: u64,
    pub random_bytes: u64,
    pub small_files: u64,
}

impl Shape {
    pub const FULL: Self =
        Self { text_files: 8, text_bytes: 50_000_000, random_files: 3, random_bytes: 96_000_000, small_files: 6_000 };
    pub const TINY: Self =
        Self { text_files: 2, text_bytes: 200_000, random_files: 1, random_bytes: 300_000, small_files: 20 };
}

/// SplitMix64: small, fast, the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Makes both sites below `srv` unless a run before this one did: `mix`, and `text`, which is the
/// text part of it alone; and a copy of all of it in `plain`, to compare with.
pub fn make(srv: &Path, plain: &Path, shape: Shape) -> Outcome<()> {
    let done = srv.with_extension("done");
    let label = format!("{shape:?}");
    if fs::read_to_string(&done).is_ok_and(|made| made == label) {
        return Ok(());
    }
    let _ = fs::remove_file(&done);
    let _ = fs::remove_dir_all(srv);
    make_text(&srv.join("text"), shape)?;
    make_text(&srv.join("mix/rows"), shape)?;
    fs::create_dir_all(srv.join("mix/media"))?;
    for n in 0..shape.random_files {
        write_random(&srv.join(format!("mix/media/video-{n}.bin")), 100 + n, shape.random_bytes)?;
    }
    let mut random = Random::new(7);
    for n in 0..shape.small_files {
        let dir = srv.join(format!("mix/attachments/{:02}", n / 100));
        fs::create_dir_all(&dir)?;
        let len = 2_000 + random.below(38_000);
        write_random(&dir.join(format!("file-{n}.bin")), 10_000 + n, len)?;
    }
    let _ = fs::remove_dir_all(plain);
    let copied = Command::new("cp").arg("-a").args([srv, plain]).status()?;
    if !copied.success() {
        return Err(format!("cp -a {} {}: {copied}", srv.display(), plain.display()).into());
    }
    fs::write(done, label)?;
    Ok(())
}

fn make_text(dir: &Path, shape: Shape) -> Outcome<()> {
    fs::create_dir_all(dir)?;
    (0..shape.text_files).try_for_each(|n| write_text(&dir.join(format!("rows-{n}.jsonl")), n, shape.text_bytes))
}

/// Rows as an application would export them: repeated keys, few words, many numbers.
fn write_text(path: &Path, seed: u64, len: u64) -> Outcome<()> {
    const WORDS: [&str; 16] = [
        "review", "backlog", "customer", "release", "meeting", "invoice", "broken", "deploy", "question", "urgent",
        "design", "contract", "server", "refund", "draft", "account",
    ];
    let mut random = Random::new(seed);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let (mut written, mut id) = (0u64, seed * 1_000_000);
    while written < len {
        id += 1 + random.below(9);
        let mut row = format!(
            r#"{{"id":{id},"author":{},"created":"2026-{:02}-{:02}T{:02}:{:02}:{:02}Z","state":"{}","title":""#,
            random.below(5_000),
            1 + random.below(12),
            1 + random.below(28),
            random.below(24),
            random.below(60),
            random.below(60),
            ["open", "closed", "waiting"][random.below(3) as usize],
        );
        for _ in 0..4 + random.below(12) {
            row.push_str(WORDS[random.below(16) as usize]);
            row.push(' ');
        }
        row.push_str(&format!("{:x}\"}}\n", random.below(1 << 32)));
        let take = row.len().min((len - written) as usize);
        file.write_all(&row.as_bytes()[..take])?;
        written += take as u64;
    }
    file.flush()?;
    Ok(())
}

fn write_random(path: &Path, seed: u64, len: u64) -> Outcome<()> {
    let mut random = Random::new(seed);
    let mut file = BufWriter::with_capacity(1 << 18, File::create(path)?);
    for _ in 0..len / 8 {
        file.write_all(&random.next().to_le_bytes())?;
    }
    file.write_all(&random.next().to_le_bytes()[..(len % 8) as usize])?;
    file.flush()?;
    Ok(())
}

/// Bytes of all files below `dir`.
pub fn bytes_of(dir: &Path) -> Outcome<u64> {
    let mut sum = 0;
    for path in listing(dir)? {
        let meta = fs::symlink_metadata(&path)?;
        sum += if meta.is_file() { meta.len() } else { 0 };
    }
    Ok(sum)
}

/// Fails unless both trees hold the same names with the same content, times and modes.
pub fn expect_same(original: &Path, restored: &Path) -> Outcome<()> {
    let (names, found) = (relative(original)?, relative(restored)?);
    if names != found {
        return Err(format!("{} has {} names instead of {}", restored.display(), found.len(), names.len()).into());
    }
    for name in names {
        let (a, b) = (original.join(&name), restored.join(&name));
        let (is, was) = (fs::symlink_metadata(&b)?, fs::symlink_metadata(&a)?);
        let evidence = |meta: &fs::Metadata| (meta.mode(), meta.mtime(), meta.mtime_nsec());
        if evidence(&is) != evidence(&was) || (was.is_file() && !same_bytes(&a, &b)?) {
            return Err(format!("it was restored otherwise: {}", b.display()).into());
        }
    }
    Ok(())
}

/// Gives the top directory the mode and the time of the original: restic makes one of its own when it
/// restores into it.
pub fn settle_root(original: &Path, restored: &Path) -> Outcome<()> {
    let was = fs::metadata(original)?;
    fs::set_permissions(restored, was.permissions())?;
    Ok(File::open(restored)?.set_modified(was.modified()?)?)
}

fn same_bytes(a: &Path, b: &Path) -> Outcome<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut left, mut right) = (vec![0; 1 << 18], vec![0; 1 << 18]);
    loop {
        let (m, n) = (fill(&mut a, &mut left)?, fill(&mut b, &mut right)?);
        if left[..m] != right[..n] {
            return Ok(false);
        }
        if m == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
pub fn fill(file: &mut File, buffer: &mut [u8]) -> Outcome<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn relative(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let all = listing(dir)?;
    Ok(all.iter().filter_map(|path| path.strip_prefix(dir).ok()).map(Path::to_owned).collect())
}

/// Everything below `dir` and itself, sorted.
pub fn listing(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let mut all = vec![dir.to_owned()];
    let mut next = 0;
    while next < all.len() {
        if fs::symlink_metadata(&all[next])?.is_dir() {
            let children: Result<Vec<PathBuf>, _> =
                fs::read_dir(&all[next])?.map(|entry| entry.map(|entry| entry.path())).collect();
            all.extend(children?);
        }
        next += 1;
    }
    all.sort();
    Ok(all)
}
