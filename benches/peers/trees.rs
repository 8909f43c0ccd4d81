//! Trees of files: listed, read, compared, and put out of the way.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lifeboat_bench::Outcome;

/// Files from here on give their bytes back when they are put out of the way.
const SHED_BYTES_MIN: u64 = 64 << 10;

/// Bytes of all files below `dir`, which are read: after that they lie in the page cache.
pub fn warm(dir: &Path) -> Outcome<u64> {
    let (mut sum, mut buffer) = (0, vec![0; 1 << 20]);
    for path in listing(dir)?.iter().filter(|path| path.is_file()) {
        let mut file = File::open(path)?;
        loop {
            let len = fill(&mut file, &mut buffer)?;
            sum += len as u64;
            if len < buffer.len() {
                break;
            }
        }
    }
    Ok(sum)
}

/// Empties large files and leaves everything where it is: what was put away keeps its inodes, and not
/// its bytes.
///
/// For minutes after many inodes were freed, ext4 looks at each of them before it makes a new file, and
/// would make every restore pay for those before it. Freed blocks do no such thing.
pub fn shed(dir: &Path) -> Outcome<()> {
    for path in listing(dir)? {
        let meta = fs::symlink_metadata(&path)?;
        if meta.is_file() && meta.len() >= SHED_BYTES_MIN {
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            File::options().write(true).open(&path)?.set_len(0)?;
        }
    }
    Ok(())
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
        let evidence = |meta: &fs::Metadata| (meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec());
        if evidence(&is) != evidence(&was) || (was.is_file() && !same_bytes(&a, &b)?) {
            return Err(format!("it was restored otherwise: {}", b.display()).into());
        }
    }
    Ok(())
}

/// Gives the top directory the mode and the time of the original: other programs restore into one that
/// is there already.
pub fn settle_root(original: &Path, restored: &Path) -> Outcome<()> {
    let was = fs::metadata(original)?;
    fs::set_permissions(restored, was.permissions())?;
    Ok(File::open(restored)?.set_modified(was.modified()?)?)
}

fn same_bytes(a: &Path, b: &Path) -> Outcome<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut of_a, mut of_b) = (vec![0; 1 << 18], vec![0; 1 << 18]);
    loop {
        let (len, other) = (fill(&mut a, &mut of_a)?, fill(&mut b, &mut of_b)?);
        if of_a[..len] != of_b[..other] {
            return Ok(false);
        }
        if len == 0 {
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
            len => filled += len,
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
