//! Every kind of damage to every kind of object is told: changed, cut off, swapped.

use lifeboat_format::*;
use lifeboat_model::*;

use crate::vectors::{self, MANIFEST, PACK, Vector};
use crate::{sample, vectors::site_keys};

#[test]
fn any_changed_byte_of_any_object_is_an_error_or_changes_nothing() {
    for vector in vectors::all() {
        let stored = vector.stored();
        let said = (vector.read)(&stored).unwrap();
        for at in 0..stored.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut bytes = stored.clone();
                bytes[at] ^= mask;
                match (vector.read)(&bytes) {
                    Ok(again) => assert_eq!(again, said, "{}: byte {at} changed what it says", vector.name),
                    Err(Error::Misuse { detail }) => {
                        panic!("{}: byte {at}: blamed on the caller: {detail}", vector.name)
                    }
                    Err(_) => {}
                }
            }
        }
    }
}

#[test]
fn any_changed_bit_of_a_sealed_object_is_damage_and_never_another_version() {
    for vector in vectors::all().into_iter().filter(is_sealed) {
        let stored = vector.stored();
        for at in 0..stored.len() {
            let mut bytes = stored.clone();
            bytes[at] ^= 1;
            let fault = (vector.read)(&bytes).map_err(|error| error.fault());
            assert_eq!(fault, Err(Fault::Damage), "{}: byte {at}", vector.name);
        }
    }
}

fn is_sealed(vector: &Vector) -> bool {
    ObjectHeader::parse(&vector.stored()).is_ok()
}

#[test]
fn any_object_cut_off_or_grown_is_an_error() {
    for Vector { name, read, make, .. } in vectors::all() {
        let whole = make();
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_err(), "{name}: cut off at {len}");
        }
        for more in [&[0][..], &[0; 24], &whole] {
            assert!(read(&[&whole, more].concat()).is_err(), "{name}: grown by {}", more.len());
        }
    }
}

#[test]
fn no_object_is_taken_for_another() {
    let vectors = vectors::all();
    for reader in &vectors {
        for other in vectors.iter().filter(|other| other.name != reader.name) {
            // Two commits of one site and generation, or of one epoch and number, are told apart by the chain.
            let are = |prefix: &str| reader.name.starts_with(prefix) && other.name.starts_with(prefix);
            let are_commits = are("commit-") || are("log-commit");
            if !are_commits || reader.name == "commit-first.bin" || other.name == "commit-first.bin" {
                assert!((reader.read)(&other.stored()).is_err(), "{} was read as {}", other.name, reader.name);
            }
        }
    }
}

#[test]
fn an_object_of_another_site_key_or_id_is_refused() {
    let other_site = vectors::site_keys_of(&SiteId::new("acme2").unwrap(), KeyNumber(1));
    let other_number = vectors::site_keys_of(&sample::site(), KeyNumber(2));
    let stored = |name: &str| vectors::all().into_iter().find(|vector| vector.name == name).unwrap().stored();
    let (pack, manifest) = (stored("pack.bin"), stored("manifest.bin"));
    let (index, commit) = (stored("index.bin"), stored("commit-published.bin"));
    for (keys, what) in [(&other_site, "another site"), (&other_number, "another key number")] {
        assert!(vectors::read_pack(keys, PACK, &pack).is_err(), "pack of {what}");
        assert!(vectors::read_manifest(keys, MANIFEST, &manifest).is_err(), "manifest of {what}");
        assert!(IndexSegment::decode(keys, vectors::INDEX, &index).is_err(), "index of {what}");
        assert!(decode_commit(keys, Generation(7), &commit).is_err(), "commit of {what}");
    }
    let other_id = ObjectId([0xbf; 16]);
    assert!(vectors::read_pack(&site_keys(), other_id, &pack).is_err());
    assert!(vectors::read_manifest(&site_keys(), other_id, &manifest).is_err());
    assert!(IndexSegment::decode(&site_keys(), other_id, &index).is_err());
    assert!(decode_commit(&site_keys(), Generation(8), &commit).is_err());
    // Even when the clear header is made to say what the reader asked for.
    let (id_at, site_at, number_at) = (32..48, 16..32, 12..16);
    let mut forged = pack.clone();
    forged[id_at].copy_from_slice(&other_id.0);
    assert!(vectors::read_pack(&site_keys(), other_id, &forged).is_err());
    let mut forged = pack.clone();
    forged[site_at].copy_from_slice(&other_site.handle().0);
    assert!(vectors::read_pack(&other_site, PACK, &forged).is_err());
    let mut forged = pack;
    forged[number_at].copy_from_slice(&2u32.to_le_bytes());
    assert!(vectors::read_pack(&other_number, PACK, &forged).is_err());
}

#[test]
fn two_frames_that_changed_places_are_damage() {
    let keys = site_keys();
    let mut compressor = Compressor::new().unwrap();
    let mut writer = ObjectWriter::new(&keys, ObjectKind::Pack, PACK).unwrap();
    for plain in [b"one", b"two"] {
        writer.push_chunk(&keys.chunk_id(plain), plain, &mut compressor).unwrap();
    }
    let (mut bytes, _) = writer.finish().unwrap();
    assert!(vectors::read_pack(&keys, PACK, &bytes).is_ok());
    let (first, rest) = bytes[HEADER_LEN..].split_at_mut(FRAME_LEN_MIN + 3);
    first.swap_with_slice(&mut rest[..FRAME_LEN_MIN + 3]);
    assert!(vectors::read_pack(&keys, PACK, &bytes).is_err());
}
