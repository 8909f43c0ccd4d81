//! Trees of files: what is in them, whether two are the same.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Everything below `dir` and itself, sorted.
///
/// # Errors
/// When a part of it cannot be read.
pub fn listing(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = vec![dir.to_owned()];
    let mut next = 0;
    while next < all.len() {
        if fs::symlink_metadata(&all[next])?.is_dir() {
            let children: io::Result<Vec<PathBuf>> =
                fs::read_dir(&all[next])?.map(|entry| entry.map(|entry| entry.path())).collect();
            all.extend(children?);
        }
        next += 1;
    }
    all.sort();
    Ok(all)
}

/// Bytes of all files below `dir`.
///
/// # Errors
/// When a part of it cannot be read.
pub fn bytes_of(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for path in listing(dir)? {
        let meta = fs::symlink_metadata(&path)?;
        sum += if meta.is_file() { meta.len() } else { 0 };
    }
    Ok(sum)
}

/// The first name that is not the same in both trees, or of both files: missing, more, or with other content, time or mode.
///
/// # Errors
/// When one of them cannot be read.
pub fn difference(original: &Path, other: &Path) -> io::Result<Option<PathBuf>> {
    let (names, found) = (relative(original)?, relative(other)?);
    if names != found {
        let missing = names.iter().find(|name| found.binary_search(name).is_err());
        return Ok(missing.or_else(|| found.iter().find(|name| names.binary_search(name).is_err())).cloned());
    }
    for name in names {
        let below = |tree: &Path| if name.as_os_str().is_empty() { tree.to_owned() } else { tree.join(&name) };
        let (a, b) = (below(original), below(other));
        let (was, is) = (fs::symlink_metadata(&a)?, fs::symlink_metadata(&b)?);
        let evidence = |meta: &fs::Metadata| (meta.mode(), meta.mtime(), meta.mtime_nsec());
        if evidence(&was) != evidence(&is) || (was.is_file() && !same_bytes(&a, &b)?) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn relative(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let all = listing(dir)?;
    Ok(all.iter().filter_map(|path| path.strip_prefix(dir).ok()).map(Path::to_owned).collect())
}

/// Whether two files have the same content.
///
/// # Errors
/// When one of them cannot be read.
pub fn same_bytes(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut left, mut right) = (vec![0; 1 << 17], vec![0; 1 << 17]);
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
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_that_differ_in_anything_are_not_the_same() {
        let check = |change: &dyn Fn(&Path), want: Option<&str>| {
            let dir = tempfile::tempdir().unwrap();
            let (a, b) = (dir.path().join("a"), dir.path().join("b"));
            for tree in [&a, &b] {
                fs::create_dir_all(tree.join("sub")).unwrap();
                fs::write(tree.join("sub/file"), b"content").unwrap();
            }
            let settle = |tree: &Path| {
                for path in listing(tree).unwrap() {
                    File::open(path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
                }
            };
            settle(&a);
            settle(&b);
            change(&b);
            assert_eq!(difference(&a, &b).unwrap(), want.map(PathBuf::from));
        };
        check(&|_| {}, None);
        check(&|b| fs::remove_file(b.join("sub/file")).unwrap(), Some("sub/file"));
        check(&|b| fs::write(b.join("more"), b"").unwrap(), Some("more"));
        check(&|b| File::open(b.join("sub")).unwrap().set_modified(std::time::SystemTime::now()).unwrap(), Some("sub"));
        let other = |b: &Path| {
            let file = fs::OpenOptions::new().write(true).open(b.join("sub/file")).unwrap();
            io::Write::write_all(&mut &file, b"c0ntent").unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        };
        check(&other, Some("sub/file"));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        assert_eq!(difference(&file, &file).unwrap(), None, "a file alone is compared as well");
    }
}
