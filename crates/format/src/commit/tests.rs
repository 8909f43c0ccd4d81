//! Commits and runs: there and back, and only in their place.

use lifeboat_model::{Fault, Faulty, KeyNumber, SiteHandle};

use super::*;
use crate::crypto::Entropy;
use crate::{SecretKey, sample};

fn keys_of(site: u8) -> SiteKeys {
    SiteKeys::derive(SiteHandle([site; 16]), KeyNumber(1), &SecretKey::from_bytes([2; 32]), Entropy::default()).unwrap()
}

#[test]
fn every_event_comes_back() {
    for (name, event) in sample::events() {
        let commit = sample::commit(event);
        let bytes = encode_commit(&keys_of(1), &commit).unwrap();
        assert_eq!(decode_commit(&keys_of(1), commit.generation, &bytes), Ok(commit), "{name}");
    }
    let first = sample::first_commit();
    let bytes = encode_commit(&keys_of(1), &first).unwrap();
    assert_eq!(decode_commit(&keys_of(1), Generation(1), &bytes), Ok(first));
}

#[test]
fn a_run_comes_back() {
    let bytes = encode_run(&keys_of(0), &sample::run()).unwrap();
    assert_eq!(decode_run(&keys_of(0), RunNumber(12), &bytes), Ok(sample::run()));
    assert_eq!(decode_run(&keys_of(0), RunNumber(13), &bytes).unwrap_err().fault(), Fault::Damage);
}

// Explains invariant: commit-in-its-place
#[test]
fn a_commit_under_another_name_is_damage() {
    let commit = sample::first_commit();
    let bytes = encode_commit(&keys_of(1), &commit).unwrap();
    let damaged = |result: Result<Commit>| assert_eq!(result.unwrap_err().fault(), Fault::Damage);
    damaged(decode_commit(&keys_of(1), Generation(2), &bytes));
    damaged(decode_commit(&keys_of(2), Generation(1), &bytes));
    assert_eq!(decode_run(&keys_of(1), RunNumber(1), &bytes).unwrap_err().fault(), Fault::Damage);
    let run = encode_run(&keys_of(1), &sample::run()).unwrap();
    damaged(decode_commit(&keys_of(1), Generation(12), &run));
}

#[test]
fn the_hash_of_a_commit_covers_all_of_it() {
    let bytes = encode_commit(&keys_of(1), &sample::first_commit()).unwrap();
    let again = encode_commit(&keys_of(1), &sample::first_commit()).unwrap();
    assert_eq!(commit_hash(&bytes), commit_hash(&bytes));
    // The data key is random, so equal commits still are different links.
    assert_ne!(commit_hash(&bytes), commit_hash(&again));
}
