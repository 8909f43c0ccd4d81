//! Damage at the source is named, and never read as good.

use std::os::unix::fs::FileExt;

use lifeboat_model::Faulty;
use lifeboat_source::Error;
use lifeboat_source::sqlite::{How, Live};

use crate::support::{Fleet, make, read_part, restore};

/// Spoils the file of a sound database and says what reading it gives.
fn read_spoiled(spoil: impl Fn(&std::fs::File)) -> (Fleet, Result<(), Error>) {
    let fleet = Fleet::new();
    drop(make(&fleet.path(), "delete", 2_000));
    let file = std::fs::OpenOptions::new().read(true).write(true).open(fleet.path()).unwrap();
    spoil(&file);
    drop(file);
    let result = fleet.read().map(|_| ());
    (fleet, result)
}

#[test]
fn a_damaged_database_is_named() {
    type Spoil = fn(&std::fs::File);
    let cases: [(&str, Spoil); 8] = [
        ("not a database", |file| file.write_all_at(b"%PDF-1.7 and more", 0).unwrap()),
        ("encrypted", |file| {
            file.write_all_at(&std::array::from_fn::<u8, 4096, _>(|at| (at * 37 % 251) as u8), 0).unwrap()
        }),
        ("cut off", |file| file.set_len(20 * 4096).unwrap()),
        ("cut within a page", |file| file.set_len(20 * 4096 + 100).unwrap()),
        ("shorter than a header", |file| file.set_len(50).unwrap()),
        ("a page of zeros", |file| file.write_all_at(&[0; 4096], 10 * 4096).unwrap()),
        ("a page of noise", |file| file.write_all_at(&[0xa5; 4096], 10 * 4096).unwrap()),
        ("a broken schema", |file| {
            let mut page = [0; 4096];
            file.read_exact_at(&mut page, 0).unwrap();
            let at = page.windows(12).position(|part| part == b"CREATE TABLE").unwrap();
            file.write_all_at(b"CREATE TABEL", at as u64).unwrap();
        }),
    ];
    for (what, spoil) in cases {
        let (_fleet, result) = read_spoiled(spoil);
        match result {
            Err(error @ Error::Damaged { .. }) => {
                assert!(error.to_string().contains("notes.db"), "{what}: {error}");
                assert!(error.hint().is_some());
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn a_damaged_live_database_is_kept_as_it_is_restored_over_and_brought_back_by_the_undo() {
    let fleet = Fleet::new();
    drop(make(&fleet.path(), "delete", 2_000));
    let good = fleet.read().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(fleet.path()).unwrap();
    file.write_all_at(&[0xa5; 4096], 10 * 4096).unwrap();
    drop(file);
    let broken = std::fs::read(fleet.path()).unwrap();

    let target = fleet.target();
    assert!(matches!(target.live().unwrap(), Live::Database { page_size: 4096, .. }));
    let kept = read_part(target.read_live().unwrap().unwrap()).unwrap();
    assert_eq!(kept.bytes, broken);
    let switched = fleet.restore(&good).unwrap();
    assert_eq!(switched.how(), How::CopiedInto);
    drop(switched);
    assert_eq!(fleet.read().unwrap().bytes[100..], good.bytes[100..]);
    drop(restore(&target, &kept, true).unwrap());
    assert_eq!(std::fs::read(fleet.path()).unwrap()[100..], broken[100..]);
}

#[test]
fn what_was_damaged_on_the_way_is_never_switched_in() {
    let fleet = Fleet::new();
    drop(make(&fleet.path(), "delete", 2_000));
    let good = fleet.read().unwrap();
    let before = std::fs::read(fleet.path()).unwrap();
    let mut spoiled = good.clone();
    spoiled.bytes[10 * 4096..11 * 4096].fill(0);
    assert!(matches!(fleet.restore(&spoiled), Err(Error::Damaged { .. })));
    let mut short = good.clone();
    short.bytes.truncate(20 * 4096);
    assert!(matches!(fleet.restore(&short), Err(Error::Damaged { .. })));
    let mut long = good.clone();
    long.bytes.extend([0; 4096]);
    assert!(matches!(fleet.restore(&long), Err(Error::Damaged { .. })));
    assert_eq!(std::fs::read(fleet.path()).unwrap(), before);
}
