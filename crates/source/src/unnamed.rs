//! Files without a name, for content on its way: gone with whoever has them open.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use crate::Error;

/// An empty one, where temporary files are.
pub fn unnamed_file() -> Result<File, Error> {
    unnamed().map_err(failed)
}

/// `TMPDIR`, else `/var/tmp`: `/tmp` is memory on many systems.
fn directory() -> PathBuf {
    match std::env::var_os("TMPDIR") {
        Some(directory) if !directory.is_empty() => directory.into(),
        _ => ["/var/tmp", "/tmp"].iter().map(PathBuf::from).find(|path| path.is_dir()).unwrap_or_else(|| ".".into()),
    }
}

/// A file without a name: from the start where the file system can do that; else its name is taken away.
fn unnamed() -> io::Result<File> {
    let directory = directory();
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(&directory, flags | OFlags::TMPFILE, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => Ok(File::from(fd)),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::NOENT) => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let path = directory.join(format!(".lifeboat-{}-{}", std::process::id(), now.as_nanos()));
            let fd = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR)?;
            std::fs::remove_file(&path)?;
            Ok(File::from(fd))
        }
        Err(errno) => Err(errno.into()),
    }
}

pub(crate) fn failed(io: io::Error) -> Error {
    use std::os::unix::ffi::OsStrExt;
    Error::io("cannot keep content on its way (set TMPDIR)", directory().as_os_str().as_bytes(), io)
}
