//! A wrapped key as an object of its own: the root key, the signing key, a site key.
//!
//! ```text
//! magic 8 · version 2 · kind 1 · 0 1 · key number 4 · repository id 16 · site handle 16 · created 8 · key id 8 · nonce 12 · ciphertext 32 · tag 16
//! ```
//!
//! 124 bytes, always. AES-256-GCM with everything before the nonce as AAD: a wrapped key cannot be
//! passed off as another site's, another number's or another repository's.

use lifeboat_model::{KeyNumber, ObjectId, SiteHandle, Timestamp};
use zeroize::Zeroizing;

use crate::crypto::{self, Entropy, KEY_LEN};
use crate::{Error, FORMAT_VERSION, KeyId, Result, SecretKey};

const MAGIC: [u8; 8] = *b"LIFEBKEY";
const BOUND_LEN: usize = 64;
const LEN: usize = BOUND_LEN + 12 + KEY_LEN + crypto::TAG_LEN;

/// What the wrapped key is for, and in the case of the root key, what wraps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    RootUnderMaster = 1,
    RootUnderRecovery = 2,
    Site = 3,
    Signing = 4,
}

/// The clear part of a key object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHeader {
    pub kind: KeyKind,
    /// Zero but for a site key.
    pub number: KeyNumber,
    pub repository: ObjectId,
    /// Zeros but for a site key.
    pub site: SiteHandle,
    pub created: Timestamp,
    /// The master or recovery key that wraps a root key; zeros for others.
    pub under: KeyId,
}

impl KeyHeader {
    fn to_bytes(self) -> [u8; BOUND_LEN] {
        let mut bytes = [0; BOUND_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[10] = self.kind as u8;
        bytes[12..16].copy_from_slice(&self.number.0.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.repository.0);
        bytes[32..48].copy_from_slice(&self.site.0);
        bytes[48..56].copy_from_slice(&self.created.0.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.under.0);
        bytes
    }

    fn parse(bytes: &[u8; LEN]) -> Result<Self> {
        let damaged = |detail: &str| Error::damaged("key object", detail);
        let mut rest = Fields(bytes);
        if rest.take::<8>() != MAGIC {
            return Err(damaged("it does not begin with the magic bytes of a key"));
        }
        let version = u16::from_le_bytes(rest.take());
        if version != FORMAT_VERSION {
            let (found, supported) = (version.into(), FORMAT_VERSION.into());
            return Err(Error::NewerVersion { what: "key object", found, supported });
        }
        let kind = match rest.take::<1>() {
            [1] => KeyKind::RootUnderMaster,
            [2] => KeyKind::RootUnderRecovery,
            [3] => KeyKind::Site,
            [4] => KeyKind::Signing,
            _ => return Err(damaged("unknown kind")),
        };
        if rest.take::<1>() != [0] {
            return Err(damaged("a reserved byte is not zero"));
        }
        Ok(Self {
            kind,
            number: KeyNumber(u32::from_le_bytes(rest.take())),
            repository: ObjectId(rest.take()),
            site: SiteHandle(rest.take()),
            created: Timestamp(i64::from_le_bytes(rest.take())),
            under: KeyId(rest.take()),
        })
    }
}

/// The fields of a fixed layout, one after another.
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    /// The next `N` bytes; the layout's constants prove that they are there.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, tail) = self.0.split_at(N);
        self.0 = tail;
        let mut out = [0; N];
        out.copy_from_slice(head);
        out
    }
}

/// Wraps `secret` under `wrapping`.
pub(crate) fn seal(
    header: KeyHeader,
    secret: &SecretKey,
    wrapping: &[u8; KEY_LEN],
    entropy: Entropy,
) -> Result<Vec<u8>> {
    let bound = header.to_bytes();
    let mut nonce = [0; 12];
    entropy.fill(&[b"key nonce", &bound], &mut nonce)?;
    let mut content = Zeroizing::new(*secret.as_bytes());
    let tag = crypto::seal(&crypto::aead_key(wrapping)?, nonce, &bound, content.as_mut_slice())?;
    Ok([&bound[..], &nonce, content.as_slice(), &tag].concat())
}

/// Reads the clear part of a key object.
pub(crate) fn header(bytes: &[u8]) -> Result<KeyHeader> {
    KeyHeader::parse(whole(bytes)?)
}

/// Unwraps what [`seal`] wrapped; `None` when the key is another or a byte was changed.
pub(crate) fn open(bytes: &[u8], wrapping: &[u8; KEY_LEN]) -> Result<Option<SecretKey>> {
    let (bound, rest) = whole(bytes)?.split_at(BOUND_LEN);
    let mut rest = Fields(rest);
    let nonce = rest.take::<12>();
    let mut in_out = Zeroizing::new(rest.take::<{ KEY_LEN + crypto::TAG_LEN }>());
    let Some(plain) = crypto::open(&crypto::aead_key(wrapping)?, nonce, bound, in_out.as_mut_slice()) else {
        return Ok(None);
    };
    let mut key = Zeroizing::new([0; KEY_LEN]);
    key.copy_from_slice(plain);
    Ok(Some(SecretKey::from_bytes(*key)))
}

fn whole(bytes: &[u8]) -> Result<&[u8; LEN]> {
    let error = |_| Error::damaged("key object", format!("wrong length: len=`{}`, expected=`{LEN}`", bytes.len()));
    bytes.try_into().map_err(error)
}
