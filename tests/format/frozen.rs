//! Version 1 is frozen: its vectors are for ever what they were on the day.
//!
//! Whoever has to change this file is about to make repositories unreadable that are in use. Another layout is another
//! version, with vectors of its own beside these.

use sha2::{Digest, Sha256};

use crate::vectors;

/// The SHA-256 of `vectors.sha256`, which lists each vector with its own.
const LIST: &str = "a6ad85b66b8bacd299976d13f9d13d5a1f1dfb3c9d0cf2d2175297eed736a037";
const VECTORS: usize = 27;

#[test]
fn the_vectors_of_version_one_are_read_and_are_those_of_the_day_it_was_frozen() {
    let list = std::fs::read(vectors::folder().join("vectors.sha256")).unwrap();
    let hash: String = Sha256::digest(&list).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, LIST, "the vectors of a frozen version changed");
    let lines = String::from_utf8(list).unwrap();
    assert_eq!(lines.lines().count(), VECTORS);
    for line in lines.lines() {
        let (hash, name) = line.split_once("  ").unwrap();
        let bytes = std::fs::read(vectors::folder().join(name)).unwrap();
        let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, hash, "{name}");
        let vector = vectors::all().into_iter().find(|vector| vector.name == name).unwrap();
        (vector.read)(&bytes).unwrap_or_else(|error| panic!("{name} cannot be read any more: {error}"));
    }
}
