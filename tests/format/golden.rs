//! What was written once is read for ever, and written again the same.

use lifeboat_format::{ObjectHeader, ObjectKind};
use sha2::{Digest, Sha256};

use crate::sample;
use crate::vectors::{self, Folder, Vector};

const LIST: &str = "vectors.sha256";

#[test]
fn every_vector_is_read_and_written_again_byte_for_byte() {
    for vector in vectors::all() {
        let (path, made) = (vector.path(), (vector.make)());
        // The only way to add one: it never replaces what is there.
        if std::env::var_os("LIFEBOAT_WRITE_VECTORS").is_some() && !path.exists() {
            std::fs::create_dir_all(vector.folder.path()).unwrap();
            std::fs::write(&path, &made).unwrap();
        }
        let Vector { name, read, .. } = vector;
        let stored = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let said = read(&stored).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(said, read(&made).unwrap(), "{name}: the format changed: raise the version, keep this vector");
        assert!(
            stored == made,
            "{name}: it is read as before but written otherwise: raise the version, keep this vector \
             (if only zstd was updated, its output may differ: then a new vector beside this one, and this one is \
             still read)"
        );
    }
}

#[test]
fn every_kind_of_object_has_a_vector() {
    let stored: Vec<Vec<u8>> = vectors::all().iter().map(Vector::stored).collect();
    // A spill is in no bucket: it lives on one host while the store is away.
    for kind in ObjectKind::ALL.into_iter().filter(|kind| *kind != ObjectKind::Spill) {
        // A segment is several objects end to end, none of which begins in the clear within another.
        let is_of_kind = |bytes: &Vec<u8>| {
            let mut headers = (0..bytes.len()).filter_map(|at| ObjectHeader::parse(&bytes[at..]).ok());
            headers.any(|header| header.kind == kind)
        };
        assert!(stored.iter().any(is_of_kind), "no vector of a {}", kind.name());
    }
}

#[test]
fn every_event_has_a_vector_of_its_own() {
    for (name, event) in sample::events() {
        assert_eq!(sample::vector_of(&event), name);
    }
}

#[test]
fn each_list_names_every_vector_of_its_folder_with_its_hash() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for folder in Folder::ALL {
        let mut vectors: Vec<Vector> = vectors::all().into_iter().filter(|vector| vector.folder == folder).collect();
        vectors.sort_by(|a, b| a.name.cmp(&b.name));
        let line = |vector: &Vector| format!("{}  {}\n", hex(&Sha256::digest(vector.stored())), vector.name);
        let want: String = vectors.iter().map(line).collect();
        let path = folder.path().join(LIST);
        if std::env::var_os("LIFEBOAT_WRITE_VECTORS").is_some() {
            std::fs::write(&path, &want).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), want, "{folder:?}");
    }
}

#[test]
fn no_vector_is_left_without_a_test() {
    let known: Vec<_> = vectors::all().iter().map(Vector::path).collect();
    for folder in Folder::ALL {
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let path = file.unwrap().path();
            assert!(path.ends_with(LIST) || known.contains(&path), "{}: no test reads this vector", path.display());
        }
    }
}

#[test]
fn the_worked_example_of_the_format_page_is_true() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/format.md")).unwrap();
    let site = vectors::site_keys();
    for (what, value) in [
        ("key id of the master key", vectors::master().id().to_string()),
        ("key id of the recovery key", vectors::recovery().id().to_string()),
        ("text of the recovery key", vectors::recovery().to_recovery_text().to_string()),
        ("handle of the site", site.handle().to_string()),
        ("id of the first chunk", site.chunk_id(&vectors::contents()[0]).to_string()),
        ("first number of the gear table", format!("{:016x}", site.gear_table()[0])),
        ("name of a commit", lifeboat_format::names::commit(&site.handle(), lifeboat_model::Generation(7))),
    ] {
        assert!(page.contains(&value), "docs/format.md does not tell the {what}: it is `{value}`");
    }
}
