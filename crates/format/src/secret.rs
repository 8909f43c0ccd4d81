//! Secret keys as values and as text that people keep: the master key and the recovery key.
//!
//! A master key is kept in a file or a variable, as 44 characters of base64. A recovery key is
//! printed once and typed in by hand, perhaps from paper: 56 characters of Crockford's base32 in
//! groups of four, the last of them a checksum, so that a slip of the pen is told at once from a
//! wrong key.

use std::fmt;

use data_encoding::{BASE64, Encoding, HEXLOWER, Specification};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::{self, KEY_LEN};
use crate::{Error, Result};

/// Bytes of the checksum at the end of a recovery key: they make 35 bytes, 56 whole characters.
const CHECKSUM_LEN: usize = 3;
const GROUP_LEN: usize = 4;

/// 32 secret bytes: a master key, a recovery key, the repository's root key or a site key.
///
/// Wiped when dropped, and never shown by `Debug`.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<[u8; KEY_LEN]>);

/// The public name of a master or recovery key, derived from it: a wrong key is simply the name of
/// an object that does not exist.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl SecretKey {
    pub fn generate() -> Result<Self> {
        Ok(Self(Zeroizing::new(crypto::random()?)))
    }

    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// First 8 bytes of HKDF-SHA-256(key, no salt, `lifeboat/key-id`).
    pub fn id(&self) -> KeyId {
        let mut id = [0; 8];
        crypto::derive_into(self.0.as_slice(), &[], b"lifeboat/key-id", &mut id);
        KeyId(id)
    }

    /// The text form of a master key.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.0.as_slice()))
    }

    /// Reads a master key; space around it is ignored.
    pub fn parse_base64(text: &str) -> Result<Self> {
        let error = |detail| Error::NotAKey { form: "master key", detail };
        let bytes = Zeroizing::new(
            BASE64.decode(text.trim().as_bytes()).map_err(|_| error("expected 44 characters of base64"))?,
        );
        let bytes = <[u8; KEY_LEN]>::try_from(bytes.as_slice()).map_err(|_| error("expected 32 bytes in base64"))?;
        Ok(Self::from_bytes(bytes))
    }

    /// The text form of a recovery key.
    pub fn to_recovery_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(self.0.to_vec());
        bytes.extend_from_slice(&self.checksum());
        let digits = Zeroizing::new(recovery_alphabet().encode(&bytes));
        let mut text = Zeroizing::new(String::with_capacity(digits.len() / GROUP_LEN * (GROUP_LEN + 1)));
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && at % GROUP_LEN == 0 {
                text.push('-');
            }
            text.push(digit);
        }
        text
    }

    /// Reads a recovery key as people type it: any case, any grouping, `O` for `0`, `I` or `L` for `1`.
    pub fn parse_recovery_text(text: &str) -> Result<Self> {
        let error = |detail| Error::NotAKey { form: "recovery key", detail };
        let digits: Zeroizing<String> =
            Zeroizing::new(text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect());
        let bytes = Zeroizing::new(
            recovery_alphabet()
                .decode(digits.as_bytes())
                .map_err(|_| error("expected 56 letters and digits, without U"))?,
        );
        let (key, checksum) = bytes.split_at_checked(KEY_LEN).ok_or_else(|| error("it is too short"))?;
        let key = <[u8; KEY_LEN]>::try_from(key).map_err(|_| error("it is too short"))?;
        let key = Self::from_bytes(key);
        if checksum != key.checksum() {
            return Err(error("its checksum does not match: a character is wrong, missing or swapped"));
        }
        Ok(key)
    }

    fn checksum(&self) -> [u8; CHECKSUM_LEN] {
        let hash = Sha256::new().chain_update(b"lifeboat/recovery-key").chain_update(self.0.as_slice()).finalize();
        let mut sum = [0; CHECKSUM_LEN];
        sum.copy_from_slice(&hash[..CHECKSUM_LEN]);
        sum
    }
}

/// Crockford's base32: no letter can be taken for a digit or another letter.
fn recovery_alphabet() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("0123456789ABCDEFGHJKMNPQRSTVWXYZ");
    specification.translate.from.push_str("abcdefghjkmnpqrstvwxyzoOiIlL");
    specification.translate.to.push_str("ABCDEFGHJKMNPQRSTVWXYZ001111");
    // A constant table, built by every test of this module.
    specification.encoding().expect("32 symbols without repetition")
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

impl Zeroize for SecretKey {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl KeyId {
    pub fn parse(text: &str) -> Option<Self> {
        HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

#[cfg(test)]
mod tests;
