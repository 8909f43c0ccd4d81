//! Fleets are the same from the same seed, byte for byte, and of the size that was asked for.

use std::sync::atomic::AtomicBool;

use sha2::{Digest, Sha256};

use super::*;
use crate::tree;

const DATA: [Data; 6] = [Data::Mix, Data::Text, Data::Random, Data::Small, Data::One, Data::Sqlite];

fn shape(data: Data) -> Shape {
    Shape { sites: 3, bytes: 600_000, data, skew: Skew::Zipf, seed: 7 }
}

/// Of all names and contents of a fleet.
fn digest(shape: &Shape) -> String {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), shape, &AtomicBool::new(false)).unwrap();
    let mut sum = Sha256::new();
    for path in tree::listing(dir.path()).unwrap() {
        sum.update(path.strip_prefix(dir.path()).unwrap().to_str().unwrap());
        sum.update([0]);
        if path.is_file() {
            sum.update(fs::read(&path).unwrap());
        }
    }
    sum.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_fleet_is_the_same_from_the_same_seed_for_ever() {
    let fleets = [Data::Mix, Data::Text, Data::Random, Data::Small, Data::One];
    let digests = fleets.map(|data| digest(&shape(data)));
    assert_eq!(
        digests,
        ["0dc19b31af70fd26", "9083574505b7b532", "98ad5d1caad05937", "f82bf034078fc011", "113c8bf7f2da386d"],
        "runs of years are compared"
    );
}

#[test]
fn a_database_is_the_same_each_time_and_another_seed_is_another_fleet() {
    // Not pinned: the file names the version of SQLite that wrote it.
    assert_eq!(digest(&shape(Data::Sqlite)), digest(&shape(Data::Sqlite)));
    for data in DATA {
        assert_ne!(digest(&shape(data)), digest(&Shape { seed: 8, ..shape(data) }), "{data:?}");
    }
}

#[test]
fn a_fleet_has_the_bytes_that_were_asked_for() {
    for data in DATA {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), &shape(data), &AtomicBool::new(false)).unwrap();
        for (site, bytes) in shape(data).sizes() {
            let is = tree::bytes_of(&dir.path().join(site)).unwrap();
            let slack = if data == Data::Sqlite { bytes / 10 + 8192 } else { 0 };
            assert!(is.abs_diff(bytes) <= slack, "{data:?}: {is} instead of {bytes}");
        }
    }
}

#[test]
fn sizes_are_spread_as_they_are_documented() {
    let sizes = |skew: Skew, sites: usize| -> Vec<u64> {
        let shape = Shape { skew, sites, bytes: 1_100_000, ..shape(Data::Text) };
        shape.sizes().into_iter().map(|(_, bytes)| bytes).collect()
    };
    assert_eq!(sizes(Skew::Equal, 4), [275_000; 4]);
    assert_eq!(sizes(Skew::Zipf, 3), [600_000, 300_000, 200_000]);
    assert_eq!(sizes(Skew::Equal, 1_000), [SITE_BYTES_MIN; 1_000], "no site is less than a page");
}

#[test]
fn a_fleet_that_is_no_longer_wanted_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let made = make(dir.path(), &shape(Data::Text), &AtomicBool::new(true));
    assert!(matches!(made, Err(Error::Cancelled)), "{made:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
