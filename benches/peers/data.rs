//! The data: sites made from seeds, the same everywhere.
//!
//! | site | what | for |
//! |---|---|---|
//! | `mix` | rows of JSON, which compress (49 %); large random files, which do not (35 %); 7,400 small ones | everything |
//! | `text` | the rows of the mix alone | what compression costs |
//! | `small` | 100,000 small files | a backup that finds nothing changed |
//! | `one`, `many` | the same bytes as one file and as files of 1 MB | large objects beside many |
//! | `five` | 5 MB in 40 files | a link to far away |
//!
//! Made by a process of its own (`errands`): the one that measures must stay small.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use lifeboat_bench::rows::{write_random, write_rows};
use lifeboat_bench::{Outcome, Random};

const MEGABYTE: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    Mix,
    Text,
    Small,
    One,
    Many,
    Five,
}

impl Site {
    pub const ALL: [Site; 6] = [Site::Mix, Site::Text, Site::Small, Site::One, Site::Many, Site::Five];

    pub fn name(self) -> &'static str {
        match self {
            Site::Mix => "mix",
            Site::Text => "text",
            Site::Small => "small",
            Site::One => "one",
            Site::Many => "many",
            Site::Five => "five",
        }
    }

    /// As a table calls it.
    pub fn title(self) -> &'static str {
        match self {
            Site::Mix => "the mix",
            Site::Text => "its text",
            Site::Small => "many small files",
            Site::One => "one large file",
            Site::Many => "the same as files of 1 MB",
            Site::Five => "a site of 5 MB",
        }
    }
}

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Only shows that the bench works: `cargo test --benches`.
    Test,
    /// The same, with every program: `--quick`.
    Quick,
    /// What is measured.
    Normal,
    /// The large objects are 10 GB: `--full`.
    Full,
}

impl Size {
    pub fn name(self) -> &'static str {
        match self {
            Size::Test => "test",
            Size::Quick => "quick",
            Size::Normal => "normal",
            Size::Full => "full",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Rows,
    Random,
}

/// Files of one kind in one folder of a site.
#[derive(Debug, Clone, Copy)]
struct Files {
    folder: &'static str,
    content: Content,
    count: u64,
    bytes_min: u64,
    bytes_max: u64,
    seed: u64,
}

/// What a site consists of.
fn layout(site: Site, size: Size) -> Vec<Files> {
    let (text, video, attachments, small, large) = match size {
        Size::Test => ((2, 200_000), 300_000, 20, 200, 4),
        Size::Quick => ((2, 12 * MEGABYTE), 6 * MEGABYTE, 400, 5_000, 64),
        Size::Normal => ((10, 49 * MEGABYTE), 118 * MEGABYTE, 7_400, 100_000, 2_000),
        Size::Full => ((10, 49 * MEGABYTE), 118 * MEGABYTE, 7_400, 100_000, 10_000),
    };
    let files = |folder, content, count, bytes: (u64, u64), seed| Files {
        folder,
        content,
        count,
        bytes_min: bytes.0,
        bytes_max: bytes.1,
        seed,
    };
    let rows = |folder| files(folder, Content::Rows, text.0, (text.1, text.1), 0);
    match site {
        Site::Text => vec![rows("")],
        Site::Mix => vec![
            rows("rows"),
            files("media", Content::Random, 3, (video, video), 100),
            files("attachments", Content::Random, attachments, (2_000, 40_000), 10_000),
        ],
        Site::Small => vec![files("notes", Content::Random, small, (200, 4_000), 1_000_000)],
        Site::One => vec![files("", Content::Random, 1, (large * MEGABYTE, large * MEGABYTE), 2_000_000)],
        Site::Many => vec![files("blobs", Content::Random, large, (MEGABYTE, MEGABYTE), 3_000_000)],
        Site::Five => vec![
            files("rows", Content::Rows, 4, (MEGABYTE, MEGABYTE), 4_000_000),
            files("attachments", Content::Random, 36, (20_000, 36_000), 4_100_000),
        ],
    }
}

/// Makes a site at `live`, and a copy of it at `plain` to compare with, unless a run before this one did.
pub fn make(site: Site, size: Size, (live, plain): (&Path, &Path)) -> Outcome<()> {
    let made = live.with_extension("made");
    let layout = layout(site, size);
    let label = format!("{layout:?}");
    if fs::read_to_string(&made).is_ok_and(|is| is == label) {
        return Ok(());
    }
    for old in [live, plain] {
        let _ = fs::remove_dir_all(old);
    }
    let _ = fs::remove_file(&made);
    layout.iter().try_for_each(|files| write_files(live, files))?;
    fs::create_dir_all(plain.parent().unwrap_or(plain))?;
    let copied = Command::new("cp").arg("-a").args([live, plain]).status()?;
    if !copied.success() {
        return Err(format!("cp -a {} {}: {copied}", live.display(), plain.display()).into());
    }
    Ok(fs::write(made, label)?)
}

/// Says that the live site is not what was made: the next run makes it again.
pub fn spoil(live: &Path) {
    let _ = fs::remove_file(live.with_extension("made"));
}

fn write_files(site: &Path, files: &Files) -> Outcome<()> {
    let mut random = Random::new(files.seed);
    for number in 0..files.count {
        let folder = site.join(files.folder);
        // A hundred to a directory, where they are many.
        let folder = if files.count > 100 { folder.join(format!("{:02}", number / 100)) } else { folder };
        fs::create_dir_all(&folder)?;
        let bytes = files.bytes_min + random.below(files.bytes_max - files.bytes_min + 1);
        let name = match files.content {
            Content::Rows => format!("rows-{number}.jsonl"),
            Content::Random => format!("file-{number}.bin"),
        };
        let mut file = BufWriter::with_capacity(1 << 20, File::create(folder.join(name))?);
        match files.content {
            Content::Rows => write_rows(&mut file, Random::of(files.seed, [0, number]), bytes)?,
            Content::Random => write_random(&mut file, Random::of(files.seed, [0, number]), bytes)?,
        }
        file.flush()?;
    }
    Ok(())
}
