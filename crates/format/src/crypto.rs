//! The few cryptographic operations everything else is made of, and where randomness comes from.
//!
//! All of it is `aws-lc-rs`: HKDF-SHA-256, HMAC-SHA-256, AES-256-GCM, and the system's generator.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use zeroize::Zeroizing;

use crate::{Error, Result};

/// Bytes of an AES-256-GCM authentication tag.
pub(crate) const TAG_LEN: usize = 16;
/// Bytes of every symmetric key.
pub(crate) const KEY_LEN: usize = 32;

/// `N` bytes nobody can guess: ids and nonces of commits, snapshots, restores.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// Straight from the system's generator: the one of `aws-lc-rs` first gathers entropy of its own,
/// 70 ms of processor time in every process.
fn fill(out: &mut [u8]) -> Result<()> {
    getrandom::fill(out).map_err(|_| Error::Crypto { operation: "random" })
}

/// Where data keys and wrap nonces come from.
///
/// Always the system's generator; the golden vectors alone need bytes that never change, and take
/// them from [`Entropy::fixed_for_golden_vectors`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Entropy(Option<[u8; 32]>);

impl Entropy {
    /// The same bytes for the same purpose, for ever. Never for data that matters: two objects of
    /// one kind and id would share a key and its nonces.
    #[doc(hidden)]
    pub fn fixed_for_golden_vectors(seed: [u8; 32]) -> Self {
        Self(Some(seed))
    }

    /// Fills `out`; `purpose` tells apart what is drawn from one fixed seed.
    pub(crate) fn fill(&self, purpose: &[&[u8]], out: &mut [u8]) -> Result<()> {
        match &self.0 {
            None => fill(out),
            Some(seed) => {
                expand(&hkdf::Salt::new(hkdf::HKDF_SHA256, b"golden vectors").extract(seed), purpose, out);
                Ok(())
            }
        }
    }
}

/// HKDF-SHA-256 of `secret` with `salt` and the label `info`, 32 bytes.
pub(crate) fn derive(secret: &[u8], salt: &[u8], info: &[u8]) -> Zeroizing<[u8; KEY_LEN]> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    derive_into(secret, salt, info, key.as_mut_slice());
    key
}

/// The same for any length up to 8,160 bytes.
pub(crate) fn derive_into(secret: &[u8], salt: &[u8], info: &[u8], out: &mut [u8]) {
    expand(&hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret), &[info], out);
}

fn expand(prk: &hkdf::Prk, info: &[&[u8]], out: &mut [u8]) {
    struct Len(usize);
    impl hkdf::KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }
    let material = prk.expand(info, Len(out.len()));
    // HKDF can only fail when more than 255 hashes of output are asked for; the most here is 2,048 bytes.
    material.and_then(|material| material.fill(out)).expect("2,048 bytes are within the limit of HKDF-SHA-256");
}

pub(crate) fn hmac_key(key: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key)
}

/// HMAC-SHA-256.
pub(crate) fn hmac(key: &hmac::Key, data: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(key, data);
    let mut out = [0; 32];
    out.copy_from_slice(tag.as_ref());
    out
}

/// An AES-256-GCM key, ready for use.
pub(crate) fn aead_key(key: &[u8; KEY_LEN]) -> Result<LessSafeKey> {
    let unbound = UnboundKey::new(&AES_256_GCM, key).map_err(|_| Error::Crypto { operation: "aes-256-gcm key" })?;
    Ok(LessSafeKey::new(unbound))
}

/// Encrypts `data` in place and gives the tag that belongs after it.
pub(crate) fn seal(key: &LessSafeKey, nonce: [u8; NONCE_LEN], aad: &[u8], data: &mut [u8]) -> Result<[u8; TAG_LEN]> {
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), data)
        .map_err(|_| Error::Crypto { operation: "aes-256-gcm seal" })?;
    let mut out = [0; TAG_LEN];
    out.copy_from_slice(tag.as_ref());
    Ok(out)
}

/// Decrypts ciphertext and tag in place; `None` unless every byte and the AAD are as sealed.
pub(crate) fn open<'d>(
    key: &LessSafeKey,
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    data: &'d mut [u8],
) -> Option<&'d mut [u8]> {
    key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), data).ok()
}
