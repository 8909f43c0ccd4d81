//! What a site is, for comparison: independent of everything that backs it up and restores it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rusqlite::Connection;
use sha2::{Digest, Sha256};

/// Path → everything that must be the same.
pub type Picture = BTreeMap<String, String>;

/// Every byte, mode, owner and time below a directory, as the file system has it: for sites that
/// nothing may have touched.
pub fn exact(directory: &Path) -> io::Result<Picture> {
    let mut picture = Picture::new();
    walk(directory, directory, &mut picture)?;
    Ok(picture)
}

/// The same for the attachments, and every row of the database: SQLite may arrange equal rows in
/// another file.
pub fn logical(attachments: &Path, database: &Path) -> io::Result<Picture> {
    let mut picture = if attachments.exists() { exact(attachments)? } else { Picture::new() };
    if database.exists() {
        picture.insert("notes.db".into(), rows(database).map_err(io::Error::other)?);
    }
    Ok(picture)
}

fn walk(directory: &Path, root: &Path, picture: &mut Picture) -> io::Result<()> {
    let metadata = fs::symlink_metadata(directory)?;
    let name = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    let seen = |metadata: &fs::Metadata| {
        let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
        format!("{mode:o} {uid}:{gid} {}.{:09}", metadata.mtime(), metadata.mtime_nsec())
    };
    picture.insert(name(directory), seen(&metadata));
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            walk(&path, root, picture)?;
        } else {
            picture.insert(name(&path), format!("{} {}", seen(&metadata), digest(&path)?));
        }
    }
    Ok(())
}

fn digest(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0u8; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            len => hash.update(&buffer[..len]),
        }
    }
}

fn rows(database: &Path) -> rusqlite::Result<String> {
    let connection = Connection::open(database)?;
    let mut hash = Sha256::new();
    let mut statement = connection.prepare("SELECT id, author, body FROM note ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut count = 0u64;
    while let Some(row) = rows.next()? {
        count += 1;
        let (id, author, body): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        hash.update(format!("{id} {} {author} {} {body}", author.len(), body.len()));
    }
    Ok(format!("{count} rows {}", hex(&hash.finalize())))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
