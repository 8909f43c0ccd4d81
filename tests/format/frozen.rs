//! Version 1 is frozen: its vectors are for ever what they were on the day.
//!
//! Whoever has to change this file is about to make repositories unreadable that are in use. Another layout is another
//! version, with vectors of its own beside these.

use sha2::{Digest, Sha256};

use crate::vectors::{self, Folder};

/// Of each folder the SHA-256 of its `vectors.sha256`, which lists each vector with its own, and how many there are.
///
/// Kinds of objects that came later have a folder of their own: a reader of the day never opens them, and nothing of
/// what it reads has changed.
const FROZEN: [(Folder, &str, usize); 8] = [
    (Folder::V1, "a6ad85b66b8bacd299976d13f9d13d5a1f1dfb3c9d0cf2d2175297eed736a037", 27),
    (Folder::Recoveries, "64bd8cd0824cf7e7bf31b357a95249667ff8cdf1cfaa0c5c9b9bab7056e1caf7", 4),
    (Folder::Drills, "c470e827a34fe94cc163614af57122e4dd12104acaae0995f89c91a59c419f8c", 3),
    (Folder::Lifecycle, "3bacf669101b6d82378e1a384bac8c73bf2878c01b7190581dfe0b0710afe082", 5),
    (Folder::Audit, "fc09ba2c6e58532875d8dbf6b5d76c067e1f2015d9d548fb7cae841281cc046c", 3),
    (Folder::LogPruning, "14c6dac42ac4317556775d749efa5ce26c01a73a15d4fc33af97b77cf12bc1d3", 2),
    (Folder::LogMarks, "96106349170dcc936314e9f77ea8a86d6f3a0c3fce7552c3c1dae8b5c1cd57de", 2),
    (Folder::LogHighest, "625dec7219c74c6493612adc8cbe4607413991d16421616e2959de67b527b526", 1),
];

#[test]
fn the_vectors_of_version_one_are_read_and_are_those_of_the_day_they_were_frozen() {
    assert_eq!(FROZEN.map(|(folder, ..)| folder), Folder::ALL);
    let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (folder, hash, count) in FROZEN {
        let list = std::fs::read(folder.path().join("vectors.sha256")).unwrap();
        assert_eq!(hex(&list), hash, "the vectors of a frozen version changed: {folder:?}");
        let lines = String::from_utf8(list).unwrap();
        assert_eq!(lines.lines().count(), count);
        for line in lines.lines() {
            let (hash, name) = line.split_once("  ").unwrap();
            let bytes = std::fs::read(folder.path().join(name)).unwrap();
            assert_eq!(hex(&bytes), hash, "{name}");
            let is_it = |vector: &vectors::Vector| vector.folder == folder && vector.name == name;
            let vector = vectors::all().into_iter().find(is_it).unwrap();
            (vector.read)(&bytes).unwrap_or_else(|error| panic!("{name} cannot be read any more: {error}"));
        }
    }
}
