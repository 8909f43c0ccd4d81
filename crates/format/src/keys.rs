//! The tree of keys, from what a person keeps down to one site.
//!
//! ```text
//! master key ─┐                    ┌▶ name key                 site id ─▶ site handle
//!             ├▶ root key ─(HKDF)──┼▶ site-key wrapping key ─▶ site key 1, 2, …  (random, numbered)
//! recovery ───┘   (random)         ├▶ repository object key    runs, the change log's own
//!                                  ├▶ row-key hash key         key of a row ─▶ its hash
//!                                  └▶ signing-key wrapping key ─▶ Ed25519 seed
//! ```
//!
//! Invariant (site-keys-bound): a wrapped site key opens only as the number of the site of the
//! repository it was made for.
//! What is not here: where keys are stored and who may delete them (`repo`).

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use lifeboat_model::{ChangedValue, KeyNumber, ObjectId, RowKeyHash, SiteHandle, SiteId, SourceName, Timestamp};
use zeroize::Zeroizing;

use crate::crypto::{self, Entropy, KEY_LEN};
use crate::key_object::{self, KeyHeader, KeyKind};
use crate::wire::row_key_bytes;
use crate::{Error, KeyId, Result, SecretKey, SiteKeys};

/// Which of the two ways into a repository a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// Used by every run.
    Master,
    /// Shown once, kept on paper.
    Recovery,
}

/// A root key as its object gave it.
#[derive(Debug, Clone)]
pub struct OpenedRoot {
    pub root: SecretKey,
    pub kind: CredentialKind,
    pub repository: ObjectId,
    pub created: Timestamp,
}

/// The clear part of a root key's object: what `key list` can say without the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootKeyHeader {
    pub kind: CredentialKind,
    pub repository: ObjectId,
    pub created: Timestamp,
    /// The credential that opens it.
    pub under: KeyId,
}

/// Wraps the root key under a master or recovery key: the object `names::root_key(under.id())`.
pub fn seal_root(
    root: &SecretKey,
    under: &SecretKey,
    kind: CredentialKind,
    repository: &ObjectId,
    created: Timestamp,
) -> Result<Vec<u8>> {
    let header = RootKeyHeader { kind, repository: *repository, created, under: under.id() };
    seal_root_with(root, under, header, Entropy::default())
}

#[doc(hidden)]
pub fn seal_root_with(root: &SecretKey, under: &SecretKey, header: RootKeyHeader, entropy: Entropy) -> Result<Vec<u8>> {
    let kind = match header.kind {
        CredentialKind::Master => KeyKind::RootUnderMaster,
        CredentialKind::Recovery => KeyKind::RootUnderRecovery,
    };
    let (repository, created, under_id) = (header.repository, header.created, header.under);
    let (number, site) = (KeyNumber(0), SiteHandle::REPOSITORY);
    let header = KeyHeader { kind, number, repository, site, created, under: under_id };
    key_object::seal(header, root, &root_wrapping_key(under, &repository), entropy)
}

/// Reads the clear part of a root key's object, unproven.
pub fn root_key_header(bytes: &[u8]) -> Result<RootKeyHeader> {
    let header = key_object::header(bytes)?;
    let kind = match header.kind {
        KeyKind::RootUnderMaster => CredentialKind::Master,
        KeyKind::RootUnderRecovery => CredentialKind::Recovery,
        _ => return Err(Error::damaged("root key", "it is a key of another kind")),
    };
    Ok(RootKeyHeader { kind, repository: header.repository, created: header.created, under: header.under })
}

/// Unwraps the root key.
pub fn open_root(bytes: &[u8], under: &SecretKey) -> Result<OpenedRoot> {
    let header = root_key_header(bytes)?;
    if header.under != under.id() {
        let detail = format!("needed=`{}`, given=`{}`", header.under, under.id());
        return Err(Error::WrongKey { detail });
    }
    let root = key_object::open(bytes, &root_wrapping_key(under, &header.repository))?
        .ok_or_else(|| Error::damaged("root key", "its seal does not match"))?;
    Ok(OpenedRoot { root, kind: header.kind, repository: header.repository, created: header.created })
}

fn root_wrapping_key(under: &SecretKey, repository: &ObjectId) -> Zeroizing<[u8; KEY_LEN]> {
    crypto::derive(under.as_bytes(), &repository.0, b"lifeboat/root-wrapping-key")
}

/// What the root key of one repository opens.
#[derive(Clone)]
pub struct RepositoryKeys {
    repository: ObjectId,
    name_key: hmac::Key,
    row_key: hmac::Key,
    site_wrapping: Zeroizing<[u8; KEY_LEN]>,
    signing_wrapping: Zeroizing<[u8; KEY_LEN]>,
    objects: SiteKeys,
    entropy: Entropy,
}

impl RepositoryKeys {
    pub fn new(root: &SecretKey, repository: ObjectId) -> Result<Self> {
        let derive = |label: &[u8]| crypto::derive(root.as_bytes(), &repository.0, label);
        let own = SecretKey::from_bytes(*derive(b"lifeboat/repository-object-key"));
        Ok(Self {
            repository,
            name_key: crypto::hmac_key(derive(b"lifeboat/name-key").as_slice()),
            row_key: crypto::hmac_key(derive(b"lifeboat/row-key-hash-key").as_slice()),
            site_wrapping: derive(b"lifeboat/site-key-wrapping-key"),
            signing_wrapping: derive(b"lifeboat/signing-key-wrapping-key"),
            objects: SiteKeys::derive(SiteHandle::REPOSITORY, KeyNumber(0), &own, Entropy::default())?,
            entropy: Entropy::default(),
        })
    }

    /// The same keys, sealing with the same bytes for ever; see [`Entropy`].
    #[doc(hidden)]
    pub fn with_entropy(self, entropy: Entropy) -> Self {
        Self { entropy, objects: self.objects.with_entropy(entropy), ..self }
    }

    pub fn repository(&self) -> ObjectId {
        self.repository
    }

    /// A site's name in the bucket, from which nobody without the key can tell the site.
    pub fn site_handle(&self, site: &SiteId) -> SiteHandle {
        let mut handle = [0; SiteHandle::LEN];
        handle.copy_from_slice(&crypto::hmac(&self.name_key, site.as_str().as_bytes())[..SiteHandle::LEN]);
        SiteHandle(handle)
    }

    /// What stands for a row's primary key where its site is not known: equal for equal keys of one
    /// table of one source, and telling nobody else which key it is.
    pub fn row_key_hash(&self, source: &SourceName, table: &str, key: &[ChangedValue]) -> RowKeyHash {
        let mut hash = [0; RowKeyHash::LEN];
        let named = row_key_bytes(source, table, key);
        hash.copy_from_slice(&crypto::hmac(&self.row_key, &named)[..RowKeyHash::LEN]);
        RowKeyHash(hash)
    }

    /// The keys of the repository's own objects: runs, and what the change log holds of no site.
    pub fn object_keys(&self) -> &SiteKeys {
        &self.objects
    }

    /// A new random key for a site: the object to store twice, and the keys themselves.
    pub fn new_site_key(&self, site: SiteHandle, number: KeyNumber) -> Result<(Vec<u8>, SiteKeys)> {
        let secret = SecretKey::generate()?;
        let keys = SiteKeys::derive(site, number, &secret, self.entropy)?;
        Ok((self.seal_site_key(site, number, &secret)?, keys))
    }

    /// Wraps a site key: the object `names::site_key` and its copy.
    pub fn seal_site_key(&self, site: SiteHandle, number: KeyNumber, secret: &SecretKey) -> Result<Vec<u8>> {
        key_object::seal(self.key_header(KeyKind::Site, site, number), secret, &self.site_wrapping, self.entropy)
    }

    pub fn open_site_key(&self, site: SiteHandle, number: KeyNumber, bytes: &[u8]) -> Result<SiteKeys> {
        let expected = self.key_header(KeyKind::Site, site, number);
        let secret = self.open_own(expected, bytes, &self.site_wrapping, "site key")?;
        SiteKeys::derive(site, number, &secret, self.entropy)
    }

    /// Makes the repository's signing key: the object `names::SIGNING_KEY`, and the key.
    pub fn new_signing_key(&self) -> Result<(Vec<u8>, SigningKey)> {
        let seed = SecretKey::generate()?;
        Ok((self.seal_signing_key(&seed)?, SigningKey::from_seed(&seed)?))
    }

    /// Wraps the seed of a signing key.
    pub fn seal_signing_key(&self, seed: &SecretKey) -> Result<Vec<u8>> {
        let header = self.key_header(KeyKind::Signing, SiteHandle::REPOSITORY, KeyNumber(0));
        key_object::seal(header, seed, &self.signing_wrapping, self.entropy)
    }

    pub fn open_signing_key(&self, bytes: &[u8]) -> Result<SigningKey> {
        let expected = self.key_header(KeyKind::Signing, SiteHandle::REPOSITORY, KeyNumber(0));
        SigningKey::from_seed(&self.open_own(expected, bytes, &self.signing_wrapping, "signing key")?)
    }

    fn key_header(&self, kind: KeyKind, site: SiteHandle, number: KeyNumber) -> KeyHeader {
        KeyHeader { kind, number, repository: self.repository, site, created: Timestamp(0), under: KeyId([0; 8]) }
    }

    fn open_own(
        &self,
        expected: KeyHeader,
        bytes: &[u8],
        wrapping: &[u8; KEY_LEN],
        what: &'static str,
    ) -> Result<SecretKey> {
        let found = key_object::header(bytes)?;
        if found != expected {
            let detail = format!("it is another key: site=`{}`, number=`{}`", found.site, found.number);
            return Err(Error::damaged(what, detail));
        }
        key_object::open(bytes, wrapping)?.ok_or_else(|| Error::damaged(what, "its seal does not match"))
    }
}

impl fmt::Debug for RepositoryKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepositoryKeys(repository {})", self.repository)
    }
}

/// The repository's Ed25519 key, which signs receipts.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Bytes of a signature.
    pub const SIGNATURE_LEN: usize = 64;

    fn from_seed(seed: &SecretKey) -> Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_bytes());
        pair.map(Self).map_err(|_| Error::Crypto { operation: "ed25519 key" })
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }

    /// Whether `signature` is this key's, over this very message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public_key()).verify(message, signature).is_ok()
    }

    /// What a verifier needs: 32 bytes.
    pub fn public_key(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

#[cfg(test)]
mod tests;
