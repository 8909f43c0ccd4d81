//! Following a database file from one look at it to the next, page by page.
//!
//! ```text
//! stat as before? ─yes▶ nothing happened
//!        └─no▶ read transaction ▸ frames of the log since the last look? ─yes▶ those pages
//!                                          └─no (log begun anew, rollback mode)▶ all pages, by their hashes
//!        ▸ pages that are new ▸ the file's state: page count, sum of all hashes
//! ```
//!
//! What the log's frames say is only a hint which pages to read. Their content comes from the read
//! transaction, and a page that is not yet what the newest frame says is read again the next time.
//!
//! Invariant (whole-version): every page that differs between two looks is among those of the later look;
//! whoever puts them together finds the sum that was told.
//! What is not here: where pages go, and where hashes are kept (`lifeboat-engine`).

mod image;
mod mark;
mod version;
mod wal;

use lifeboat_model::PageHash;

pub use image::PageImage;
pub use mark::{FileMark, FileStat, Look, look};
pub use version::{Finished, ReadPage, VersionReader};

/// What a page adds to the sum of its file.
pub fn page_hash(number: u32, page: &[u8]) -> PageHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(page); // first: it fills whole chunks, which are hashed side by side
    hasher.update(&number.to_le_bytes());
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    PageHash(hash)
}

#[cfg(test)]
mod tests;
