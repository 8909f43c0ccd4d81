//! A digest over what change detection compares: equal digests mean that nothing was written.

use lifeboat_model::{Entry, EntryKind, FileTime, RowsDigest, SourceName};
use sha2::{Digest, Sha256};

/// Digests the parts of one site, in the order in which they are given.
#[derive(Default)]
pub(crate) struct Fingerprinter {
    hash: Sha256,
}

impl Fingerprinter {
    /// `present`: whether the site has the part at all.
    pub(crate) fn part(&mut self, source: &SourceName, present: bool) {
        self.field(b"part");
        self.field(source.as_str().as_bytes());
        self.hash.update([u8::from(present)]);
    }

    /// A database: its stamp says all there is to know without opening it.
    pub(crate) fn database(&mut self, stamp: &[u8]) {
        self.field(b"database");
        self.field(stamp);
    }

    /// Everything of an entry but where its content is stored.
    pub(crate) fn entry(&mut self, entry: &Entry) {
        if let EntryKind::Database { stamp, .. } = &entry.kind {
            return self.database(stamp);
        }
        self.field(entry.path.as_bytes());
        if let EntryKind::Table { digest, definition, .. } = &entry.kind {
            match digest {
                RowsDigest::InOrder(digest) => self.field(digest),
                RowsDigest::AnyOrder(sum) => {
                    self.field(b"any order");
                    self.field(sum);
                }
            }
            return self.field(definition);
        }
        let tag: u8 = match &entry.kind {
            EntryKind::File => 1,
            EntryKind::Directory => 2,
            EntryKind::Symlink { .. } => 3,
            EntryKind::HardLink { .. } => 4,
            EntryKind::Fifo => 5,
            EntryKind::Absent => 6,
            EntryKind::Database { .. } | EntryKind::Table { .. } => 7, // told above
        };
        self.hash.update([tag]);
        match &entry.kind {
            EntryKind::Symlink { target } => self.field(target),
            EntryKind::HardLink { to } => self.field(to.as_bytes()),
            _ => {}
        }
        let meta = &entry.metadata;
        self.hash.update(meta.mode.to_le_bytes());
        self.hash.update(meta.uid.to_le_bytes());
        self.hash.update(meta.gid.to_le_bytes());
        self.time(meta.modified);
        self.time(meta.changed);
        self.hash.update(meta.inode.to_le_bytes());
        self.hash.update(meta.size.to_le_bytes());
        self.hash.update((meta.xattrs.len() as u64).to_le_bytes());
        for xattr in &meta.xattrs {
            self.field(&xattr.name);
            self.field(&xattr.value);
        }
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.hash.finalize().into()
    }

    fn time(&mut self, time: FileTime) {
        self.hash.update(time.seconds.to_le_bytes());
        self.hash.update(time.nanoseconds.to_le_bytes());
    }

    /// Length first, so that no two lists of fields digest alike.
    fn field(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }
}
