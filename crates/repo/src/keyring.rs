//! The keys that open a repository: made at init, listed, proven, added and replaced.
//!
//! Every credential (a master key, the recovery key) wraps the same root key in an object named
//! after the credential. Adding or replacing one therefore touches one small object and no site.

use lifeboat_format::names::{self, ParsedName};
use lifeboat_format::{CredentialKind, KeyId, SecretKey, seal_root};
use lifeboat_model::{ObjectId, Timestamp};
use lifeboat_store::ObjectName;

use crate::repository::kind_name;
use crate::upload::{create_and_read_back, object_name};
use crate::{Error, Repository};

/// What init makes beside the master key. The recovery key is shown once and stored nowhere.
pub struct NewKeys {
    pub recovery: SecretKey,
    pub(crate) objects: Vec<(String, Vec<u8>)>,
}

/// One key that opens the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The key's id, as it is in the object's name.
    pub id: KeyId,
    pub kind: CredentialKind,
    pub created_at: Timestamp,
    /// Whether a person has proven since that she can read it from where she keeps it.
    pub verified: bool,
}

impl NewKeys {
    pub(crate) fn make(repository: &ObjectId, master: &SecretKey, created: Timestamp) -> Result<Self, Error> {
        let (root, recovery) = (SecretKey::generate()?, SecretKey::generate()?);
        let wrap = |key: &SecretKey, kind| -> Result<(String, Vec<u8>), Error> {
            Ok((names::root_key(&key.id()), seal_root(&root, key, kind, repository, created)?))
        };
        let mut objects = vec![wrap(master, CredentialKind::Master)?, wrap(&recovery, CredentialKind::Recovery)?];
        let (signing, _) = lifeboat_format::RepositoryKeys::new(&root, *repository)?.new_signing_key()?;
        objects.push((names::SIGNING_KEY.to_owned(), signing));
        Ok(Self { recovery, objects })
    }
}

impl Repository {
    /// Every key that opens this repository.
    pub async fn credentials(&self) -> Result<Vec<Credential>, Error> {
        let listed = self.store().list(names::ROOT_KEYS_PREFIX, None, 1000).await?;
        let parsed: Vec<_> = listed.iter().map(|listed| names::parse_object_name(listed.name.as_str())).collect();
        let mut credentials = Vec::new();
        for (listed, name) in listed.iter().zip(&parsed) {
            let Some(ParsedName::RootKey(id)) = name else { continue };
            let body = self.store().get(&listed.name).await?;
            let header = lifeboat_format::root_key_header(&body).map_err(Error::of_object(&listed.name))?;
            credentials.push(Credential {
                id: *id,
                kind: header.kind,
                created_at: header.created,
                verified: parsed.contains(&Some(ParsedName::RecoveryVerified(*id))),
            });
        }
        Ok(credentials)
    }

    /// Proves that `key` opens this repository, and remembers it in the bucket.
    pub async fn verify_key(&self, key: &SecretKey) -> Result<Credential, Error> {
        let opened = Self::open(self.store().clone(), key).await?;
        if opened.config().repository != self.config().repository {
            return Err(Error::Bug("one store answered as two repositories".into()));
        }
        let marker = object_name(names::recovery_verified(&key.id()))?;
        match create_and_read_back(self.store().as_ref(), &marker, bytes::Bytes::from_static(b"verified\n")).await {
            Ok(()) | Err(Error::Store(lifeboat_store::Error::AlreadyExists { .. })) => {}
            Err(error) => return Err(error),
        }
        let found = self.credentials().await?.into_iter().find(|credential| credential.id == key.id());
        found.ok_or_else(|| Error::WrongKey { store: self.store().describe(), key: key.id().to_string() })
    }

    /// Lets one more key open the repository. `current` is a key that opens it now.
    pub async fn add_key(&self, current: &SecretKey, new: &SecretKey, kind: CredentialKind) -> Result<(), Error> {
        let name = object_name(names::root_key(&current.id()))?;
        let body = self.store().get(&name).await?;
        let repository = self.config().repository;
        let opened = lifeboat_format::open_root(&body, current).map_err(Error::of_object(&name))?;
        let wrapped = seal_root(&opened.root, new, kind, &repository, Timestamp::now())?;
        let name = object_name(names::root_key(&new.id()))?;
        create_and_read_back(self.store().as_ref(), &name, wrapped.into()).await?;
        Self::open(self.store().clone(), new).await?;
        Ok(())
    }

    /// Replaces the key `current` by `new`: from then on `current` opens nothing here.
    ///
    /// Added and proven first, removed last, so that a crash between leaves both.
    pub async fn rotate_key(&self, current: &SecretKey, new: &SecretKey) -> Result<(), Error> {
        let id = current.id();
        let credential = self.credentials().await?.into_iter().find(|credential| credential.id == id);
        let kind = credential.map_or(CredentialKind::Master, |credential| credential.kind);
        match self.add_key(current, new, kind).await {
            Ok(()) | Err(Error::Store(lifeboat_store::Error::AlreadyExists { .. })) => {}
            Err(error) => return Err(error),
        }
        Self::open(self.store().clone(), new).await?;
        self.store().delete(&object_name(names::root_key(&current.id()))?).await?;
        tracing::info!(kind = kind_name(kind), removed = %id, added = %new.id(), "key replaced");
        Ok(())
    }

    /// The object that a credential is, for messages.
    pub fn credential_object(&self, key: &SecretKey) -> Result<ObjectName, Error> {
        object_name(names::root_key(&key.id()))
    }
}
