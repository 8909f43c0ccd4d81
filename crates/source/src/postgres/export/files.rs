//! The files of an export: written into a staging directory, made durable, renamed at once.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};

use super::super::digests::RowsDigester;
use super::super::large_objects::WantedLargeObject;
use super::super::target::WantedTable;
use super::super::target::spool::Spool;
use super::csv::ToCsv;
use crate::Error;

/// A tenant's rows are nobody else's to read.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const BUFFER: usize = 1 << 17;
/// Bytes of a large object in one statement, which `psql` holds in memory.
const OBJECT_PIECE: usize = 1 << 16;

fn failed(action: &'static str, path: &Path, io: impl Into<io::Error>) -> Error {
    Error::io(action, path.as_os_str().as_bytes(), io)
}

/// Makes the staging directory anew.
pub(super) fn begin(staging: &Path) -> Result<(), Error> {
    if let Some(parent) = staging.parent() {
        std::fs::create_dir_all(parent).map_err(|io| failed("cannot make the directory of the export", parent, io))?;
    }
    remove(staging)?;
    let make = |path: &Path| DirBuilder::new().mode(DIRECTORY_MODE).create(path);
    let action = "cannot make the staging directory of the export";
    make(staging).map_err(|io| failed(action, staging, io))?;
    make(&staging.join("data")).map_err(|io| failed(action, staging, io))
}

/// Removes a staging directory, if there is one.
pub(super) fn remove(staging: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(staging) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|io| failed("cannot remove the staging directory of the export", staging, io)),
    }
}

fn create(staging: &Path, name: &str) -> Result<File, Error> {
    let path = staging.join(name);
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path);
    file.map_err(|io| failed("cannot make a file of the export", &path, io))
}

pub(super) fn write(staging: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let mut file = create(staging, name)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|io| failed("cannot write a file of the export", &staging.join(name), io))
}

/// Writes one table's rows as CSV, and compares them with the snapshot's digest; gives the file's.
pub(super) fn write_table(
    staging: &Path,
    name: &str,
    table: &WantedTable,
    (spool, at): (&Spool, usize),
) -> Result<[u8; 32], Error> {
    let path = staging.join(name);
    let cannot = |io| failed("cannot write a file of the export", &path, io);
    let mut file = BufWriter::with_capacity(BUFFER, create(staging, name)?);
    let (mut rows, mut csv) = (RowsDigester::default(), blake3::Hasher::new());
    let mut out = ToCsv::header(table.definition.columns.iter().map(|column| column.name.as_str()));
    let mut to_csv = ToCsv::new(table.definition.columns.len());
    let (mut buffer, mut offset) = (vec![0; BUFFER], 0_u64);
    loop {
        csv.update(&out);
        file.write_all(&out).map_err(cannot)?;
        out.clear();
        let len = spool.read_at(at, offset, &mut buffer)?;
        if len == 0 {
            break;
        }
        let text = buffer.get(..len).unwrap_or_default();
        rows.take(text);
        to_csv.push(text, &mut out)?;
        offset += len as u64;
    }
    let count = to_csv.finish()?;
    if !rows.finish().1.are(&table.digest) || count != table.rows {
        return Err(Error::Damaged {
            path: table.name.to_string(),
            detail: format!("the rows are not what the snapshot says: rows=`{count}`, wanted=`{}`", table.rows),
            hint: "run `lifeboat check` on the site".into(),
        });
    }
    let file = file.into_inner().map_err(|error| cannot(error.into_error()))?;
    file.sync_all().map_err(cannot)?;
    Ok(*csv.finalize().as_bytes())
}

/// Writes large objects as SQL, and compares each with the snapshot's digest; gives the file's.
/// `first`: the place of the first of them in the spool.
pub(super) fn write_objects(
    staging: &Path,
    name: &str,
    objects: &[WantedLargeObject],
    (spool, first): (&Spool, usize),
) -> Result<[u8; 32], Error> {
    let path = staging.join(name);
    let cannot = |io| failed("cannot write a file of the export", &path, io);
    let mut file = BufWriter::with_capacity(BUFFER, create(staging, name)?);
    let mut written = blake3::Hasher::new();
    let mut put = |text: &str| {
        written.update(text.as_bytes());
        file.write_all(text.as_bytes()).map_err(cannot)
    };
    let mut buffer = vec![0; OBJECT_PIECE];
    for (at, object) in objects.iter().enumerate() {
        let (mut digest, mut offset) = (blake3::Hasher::new(), 0_u64);
        put(&format!("SELECT pg_catalog.lo_create({});\n", object.oid))?;
        loop {
            let len = spool.read_at(first + at, offset, &mut buffer)?;
            if len == 0 {
                break;
            }
            let piece = buffer.get(..len).unwrap_or_default();
            digest.update(piece);
            put(&format!("SELECT pg_catalog.lo_put({}, {offset}, '\\x{}');\n", object.oid, super::hex(piece)))?;
            offset += len as u64;
        }
        if *digest.finalize().as_bytes() != object.digest {
            return Err(Error::Damaged {
                path: super::super::large_objects::large_object_path(object.oid),
                detail: "the large object is not what the snapshot says".into(),
                hint: "run `lifeboat check` on the site".into(),
            });
        }
    }
    let file = file.into_inner().map_err(|error| cannot(error.into_error()))?;
    file.sync_all().map_err(cannot)?;
    Ok(*written.finalize().as_bytes())
}

/// Makes the names in the staging directory durable.
pub(super) fn sync(staging: &Path) -> Result<(), Error> {
    for directory in [staging.join("data"), staging.to_owned()] {
        sync_directory(&directory)?;
    }
    Ok(())
}

fn sync_directory(directory: &Path) -> Result<(), Error> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|io| failed("cannot make the export durable", directory, io))
}

/// Gives the staging directory its name.
pub(super) fn switch(staging: &Path, directory: &Path) -> Result<(), Error> {
    match rustix::fs::renameat_with(CWD, staging, CWD, directory, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        // Some file systems cannot refuse; an empty directory is all that a rename would replace.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !directory.exists() => {
            std::fs::rename(staging, directory).map_err(|io| failed("cannot name the export", directory, io))?;
        }
        Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY) => {
            return Err(Error::Conflict {
                path: crate::error::shown(directory.as_os_str().as_bytes()),
                detail: "there is something else already".into(),
                hint: "name a new or empty directory".into(),
            });
        }
        Err(errno) => return Err(failed("cannot name the export", directory, errno)),
    }
    directory.parent().map_or(Ok(()), sync_directory)
}

/// BLAKE3 of a file.
pub(super) fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, blake3::Hasher::new(), vec![0; BUFFER]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(*hasher.finalize().as_bytes()),
            len => {
                hasher.update(buffer.get(..len).unwrap_or_default());
            }
        }
    }
}
