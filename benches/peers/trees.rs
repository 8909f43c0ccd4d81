//! Trees of files: read, compared, and put out of the way.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lifeboat_bench::{Outcome, tree};

/// Files from here on give their bytes back when they are put out of the way.
const SHED_BYTES_MIN: u64 = 64 << 10;

/// Bytes of all files below `dir`, which are read: after that they lie in the page cache.
pub fn warm(dir: &Path) -> Outcome<u64> {
    let mut sum = 0;
    for path in tree::listing(dir)?.iter().filter(|path| path.is_file()) {
        sum += io::copy(&mut File::open(path)?, &mut io::sink())?;
    }
    Ok(sum)
}

/// Empties large files and leaves everything where it is: what was put away keeps its inodes, and not
/// its bytes.
///
/// For minutes after many inodes were freed, ext4 looks at each of them before it makes a new file, and
/// would make every restore pay for those before it. Freed blocks do no such thing.
pub fn shed(dir: &Path) -> Outcome<()> {
    for path in tree::listing(dir)? {
        let meta = fs::symlink_metadata(&path)?;
        if meta.is_file() && meta.len() >= SHED_BYTES_MIN {
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            File::options().write(true).open(&path)?.set_len(0)?;
        }
    }
    Ok(())
}

/// Fails unless a restored tree has the names, bytes, modes and times of the original.
pub fn expect_same(original: &Path, restored: &Path) -> Outcome<()> {
    // Other programs restore into a top directory that is there already.
    let was = fs::metadata(original)?;
    fs::set_permissions(restored, was.permissions())?;
    File::open(restored)?.set_modified(was.modified()?)?;
    match tree::difference(original, restored)? {
        None => Ok(()),
        Some(name) => Err(format!("it was restored otherwise: {}", restored.join(name).display()).into()),
    }
}
