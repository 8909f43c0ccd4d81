//! The tree of keys.

use super::*;

fn secret(fill: u8) -> SecretKey {
    SecretKey::from_bytes([fill; 32])
}

fn keys() -> RepositoryKeys {
    RepositoryKeys::new(&secret(1), ObjectId([2; 16])).unwrap()
}

#[test]
fn the_root_key_opens_with_the_master_and_with_the_recovery_key() {
    let (root, repository) = (secret(1), ObjectId([2; 16]));
    for (under, kind) in [(secret(3), CredentialKind::Master), (secret(4), CredentialKind::Recovery)] {
        let bytes = seal_root(&root, &under, kind, &repository, Timestamp(77)).unwrap();
        let opened = open_root(&bytes, &under).unwrap();
        assert_eq!(opened.root.as_bytes(), root.as_bytes());
        assert_eq!((opened.kind, opened.repository, opened.created), (kind, repository, Timestamp(77)));
        assert_eq!(root_key_header(&bytes).unwrap().under, under.id());
    }
}

#[test]
fn a_wrong_master_key_is_told_from_damage() {
    let repository = ObjectId([2; 16]);
    let mut bytes = seal_root(&secret(1), &secret(3), CredentialKind::Master, &repository, Timestamp(77)).unwrap();
    assert!(matches!(open_root(&bytes, &secret(4)), Err(Error::WrongKey { .. })));
    for at in 0..bytes.len() {
        bytes[at] ^= 1;
        assert!(open_root(&bytes, &secret(3)).is_err(), "{at}");
        bytes[at] ^= 1;
    }
    bytes[20] ^= 1;
    assert!(matches!(open_root(&bytes, &secret(3)), Err(Error::Damaged { .. })));
    for len in 0..bytes.len() {
        assert!(open_root(&bytes[..len], &secret(3)).is_err(), "{len}");
    }
}

// Explains invariant: site-keys-bound
#[test]
fn a_site_key_opens_only_as_the_number_of_the_site_it_was_made_for() {
    let (site, other) = (SiteHandle([5; 16]), SiteHandle([6; 16]));
    let (bytes, made) = keys().new_site_key(site, KeyNumber(1)).unwrap();
    let opened = keys().open_site_key(site, KeyNumber(1), &bytes).unwrap();
    assert_eq!(opened.chunk_id(b"x"), made.chunk_id(b"x"));
    assert_eq!((opened.handle(), opened.number()), (site, KeyNumber(1)));

    let damaged = |result: Result<SiteKeys>| assert!(matches!(result, Err(Error::Damaged { .. })), "{result:?}");
    damaged(keys().open_site_key(other, KeyNumber(1), &bytes));
    damaged(keys().open_site_key(site, KeyNumber(2), &bytes));
    damaged(RepositoryKeys::new(&secret(9), ObjectId([2; 16])).unwrap().open_site_key(site, KeyNumber(1), &bytes));
    damaged(RepositoryKeys::new(&secret(1), ObjectId([9; 16])).unwrap().open_site_key(site, KeyNumber(1), &bytes));
    // Even when the clear part is made to say so.
    let mut forged = bytes.clone();
    forged[32..48].copy_from_slice(&other.0);
    damaged(keys().open_site_key(other, KeyNumber(1), &forged));
    let mut forged = bytes;
    forged[12] = 2;
    damaged(keys().open_site_key(site, KeyNumber(2), &forged));
}

#[test]
fn every_site_has_its_own_handle_ids_and_cuts() {
    let handle = |id: &str| keys().site_handle(&SiteId::new(id).unwrap());
    assert_eq!(handle("acme"), handle("acme"));
    assert_ne!(handle("acme"), handle("acme2"));
    assert_ne!(handle("acme"), SiteHandle::REPOSITORY);
    let site = |fill: u8| {
        let handle = SiteHandle([fill; 16]);
        let bytes = keys().seal_site_key(handle, KeyNumber(1), &secret(fill)).unwrap();
        keys().open_site_key(handle, KeyNumber(1), &bytes).unwrap()
    };
    assert_ne!(site(7).chunk_id(b"same"), site(8).chunk_id(b"same"));
    assert_ne!(site(7).gear_table(), site(8).gear_table());
    assert_ne!(site(7).gear_table()[0], site(7).gear_table()[1]);
    // One secret under two handles still gives two sites.
    let twin = SiteKeys::derive(SiteHandle([9; 16]), KeyNumber(1), &secret(7), Entropy::default()).unwrap();
    assert_ne!(site(7).chunk_id(b"same"), twin.chunk_id(b"same"));
}

#[test]
fn the_signing_key_is_the_same_after_it_was_stored() {
    let (bytes, made) = keys().new_signing_key().unwrap();
    let opened = keys().open_signing_key(&bytes).unwrap();
    assert_eq!(opened.public_key(), made.public_key());
    let signature = opened.sign(b"receipt");
    assert_eq!(signature.len(), SigningKey::SIGNATURE_LEN);
    let public = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, made.public_key());
    assert!(public.verify(b"receipt", &signature).is_ok());
    assert!(public.verify(b"receipt!", &signature).is_err());
    // A key of one kind is not taken for another.
    assert!(keys().open_site_key(SiteHandle::REPOSITORY, KeyNumber(0), &bytes).is_err());
    assert!(matches!(root_key_header(&bytes), Err(Error::Damaged { .. })));
}

#[test]
fn nothing_secret_is_shown_by_debug() {
    let text = format!("{:?} {:?} {:?}", keys(), keys().object_keys(), keys().new_signing_key().unwrap().1);
    assert!(!text.contains("1, 1, 1") && !text.contains("gear"), "{text}");
}
