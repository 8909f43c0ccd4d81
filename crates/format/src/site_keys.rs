//! The keys of one site, ready for use: naming chunks, sealing data keys, cutting content.
//!
//! Everything comes from one random site key by HKDF with its own label, so that destroying the
//! wrapped copies of that one key erases the site.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::LessSafeKey;
use lifeboat_model::{ChunkId, KeyNumber, SiteHandle};
use zeroize::Zeroizing;

use crate::crypto::{self, Entropy, KEY_LEN};
use crate::envelope::{HEADER_BOUND_LEN, SealedKey};
use crate::{Error, Result, SecretKey};

/// One numbered key of one site, or the repository's own (handle [`SiteHandle::REPOSITORY`],
/// number 0). Cheap to clone.
#[derive(Clone)]
pub struct SiteKeys {
    keys: Arc<Derived>,
    entropy: Entropy,
}

struct Derived {
    site: SiteHandle,
    number: KeyNumber,
    chunk_id: Zeroizing<[u8; KEY_LEN]>,
    wrapping: LessSafeKey,
    /// Of which a table is made when content is cut: of most sites of a fleet none is on most nights.
    secret: SecretKey,
}

impl SiteKeys {
    pub(crate) fn derive(site: SiteHandle, number: KeyNumber, secret: &SecretKey, entropy: Entropy) -> Result<Self> {
        let derive = |label: &[u8]| crypto::derive(secret.as_bytes(), &site.0, label);
        let keys = Derived {
            site,
            number,
            chunk_id: derive(b"lifeboat/chunk-id-key"),
            wrapping: crypto::aead_key(&derive(b"lifeboat/data-key-wrapping-key"))?,
            secret: secret.clone(),
        };
        Ok(Self { keys: Arc::new(keys), entropy })
    }

    pub fn handle(&self) -> SiteHandle {
        self.keys.site
    }

    pub fn number(&self) -> KeyNumber {
        self.keys.number
    }

    /// The name of a chunk: keyed BLAKE3 of its plain bytes, which only holders of the key can
    /// compute, so that an id tells a thief of the bucket nothing.
    pub fn chunk_id(&self, plain: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.keys.chunk_id, plain).as_bytes())
    }

    /// The secret table of content-defined chunking: equal files of two sites are cut at different
    /// places, and chunk lengths give no content away. It is made each time.
    pub fn gear_table(&self) -> Box<[u64; 256]> {
        gear_table(&self.keys.secret, &self.keys.site)
    }

    /// The same keys, sealing with the same bytes for ever; see [`Entropy`].
    #[doc(hidden)]
    pub fn with_entropy(self, entropy: Entropy) -> Self {
        Self { entropy, ..self }
    }

    /// A new data key for the object whose header begins with `header`, and its sealed form.
    pub(crate) fn new_data_key(&self, header: &[u8; HEADER_BOUND_LEN]) -> Result<(LessSafeKey, SealedKey)> {
        let mut data_key = Zeroizing::new([0; KEY_LEN]);
        self.entropy.fill(&[b"data key", header], data_key.as_mut_slice())?;
        let mut nonce = [0; 12];
        self.entropy.fill(&[b"wrap nonce", header], &mut nonce)?;

        let key = crypto::aead_key(&data_key)?;
        let tag = crypto::seal(&self.keys.wrapping, nonce, header, data_key.as_mut_slice())?;
        let mut sealed = [0; SealedKey::LEN];
        sealed[..12].copy_from_slice(&nonce);
        sealed[12..44].copy_from_slice(data_key.as_slice());
        sealed[44..].copy_from_slice(&tag);
        Ok((key, SealedKey(sealed)))
    }

    /// The data key back; `None` unless header and sealed key are as written under this very key.
    pub(crate) fn open_data_key(
        &self,
        header: &[u8; HEADER_BOUND_LEN],
        sealed: &SealedKey,
    ) -> Result<Option<LessSafeKey>> {
        let (nonce, rest) = sealed.0.split_at(12);
        let mut in_out = Zeroizing::new([0; SealedKey::LEN - 12]);
        in_out.copy_from_slice(rest);
        let nonce = <[u8; 12]>::try_from(nonce).map_err(|_| Error::Crypto { operation: "nonce" })?;
        let Some(plain) = crypto::open(&self.keys.wrapping, nonce, header, in_out.as_mut_slice()) else {
            return Ok(None);
        };
        let mut data_key = Zeroizing::new([0; KEY_LEN]);
        data_key.copy_from_slice(plain);
        crypto::aead_key(&data_key).map(Some)
    }
}

/// 256 numbers of 64 bits, little-endian, from 2,048 bytes of HKDF output.
fn gear_table(secret: &SecretKey, site: &SiteHandle) -> Box<[u64; 256]> {
    let mut bytes = Zeroizing::new([0; 256 * 8]);
    crypto::derive_into(secret.as_bytes(), &site.0, b"lifeboat/gear-table", bytes.as_mut_slice());
    let mut table = Box::new([0; 256]);
    for (number, bytes) in table.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *number = u64::from_le_bytes(*bytes);
    }
    table
}

impl fmt::Debug for SiteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteKeys(site {}, number {})", self.keys.site, self.keys.number)
    }
}
