//! The repository as a whole: made once, opened by a key.
//!
//! Init writes the keys first and `lifeboat.json` last: it is the commit of init, and a killed init
//! leaves nothing that `open` would take for a repository.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lifeboat_format::names::{self, ParsedName};
use lifeboat_format::{CredentialKind, RepositoryConfig, RepositoryKeys, SecretKey, SiteKeys};
use lifeboat_model::{Fault, Faulty, Generation, KeyNumber, ObjectId, SiteHandle, SiteId, Timestamp};
use lifeboat_store::{ObjectName, Store};

use crate::keyring::NewKeys;
use crate::upload::{create_and_read_back, object_name};
use crate::{Error, Site, random_id};

/// An open repository; cheap to clone.
#[derive(Clone)]
pub struct Repository {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    config: RepositoryConfig,
    keys: RepositoryKeys,
    site_keys: Mutex<BTreeMap<(SiteHandle, KeyNumber), SiteKeys>>,
    /// When the newest key of a site was asked for.
    keys_asked: Mutex<HashMap<SiteHandle, Timestamp>>,
}

/// So long the newest key of a site is believed to be that, or up to twice as long: the sites are not all asked for at once.
const KEY_BELIEVED_FOR: Duration = Duration::from_secs(3_600);

/// What the caller remembers of a site's sequence: a store that has less has lost commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownHead {
    pub generation: Generation,
    /// SHA-256 of that commit's object.
    pub hash: [u8; 32],
}

impl Repository {
    /// Makes a repository in an empty store and returns it with its keys, shown this once.
    ///
    /// `master` is already safe on the operator's disk: a repository whose key was never saved
    /// would be worse than none. The store is probed first, and refused if it cannot keep what a
    /// repository stands on.
    pub async fn init(store: Arc<dyn Store>, master: &SecretKey) -> Result<(Self, NewKeys), Error> {
        refuse_if_used(store.as_ref()).await?;
        let capabilities = lifeboat_store::probe(store.as_ref()).await?;
        let created = Timestamp::now();
        let repository = ObjectId(random_id()?);
        let keys = NewKeys::make(&repository, master, created)?;
        for (name, body) in &keys.objects {
            create_and_read_back(store.as_ref(), &object_name(name.clone())?, body.clone().into()).await?;
        }
        let mut config = RepositoryConfig::new(repository, created);
        config.capabilities = capabilities.to_list().into_iter().map(|name| (name, true)).collect();
        let body = config.encode()?.into();
        match create_and_read_back(store.as_ref(), &object_name(names::CONFIG.to_owned())?, body).await {
            Err(Error::Store(lifeboat_store::Error::AlreadyExists { .. })) => {
                Err(Error::RepositoryExists { store: store.describe() })
            }
            other => other,
        }?;
        Ok((Self::open(store, master).await?, keys))
    }

    /// Opens the repository with its master or recovery key.
    pub async fn open(store: Arc<dyn Store>, key: &SecretKey) -> Result<Self, Error> {
        let (config_name, key_name) =
            (object_name(names::CONFIG.to_owned())?, object_name(names::root_key(&key.id()))?);
        let (config, wrapped) = futures_util::future::join(store.get(&config_name), store.get(&key_name)).await;
        let config = match config {
            Err(lifeboat_store::Error::NotFound { .. }) => {
                return Err(Error::NoRepository { store: store.describe() });
            }
            other => RepositoryConfig::decode(&other?).map_err(Error::of_object(&config_name))?,
        };
        let wrapped = match wrapped {
            Err(lifeboat_store::Error::NotFound { .. }) => {
                return Err(Error::WrongKey { store: store.describe(), key: key.id().to_string() });
            }
            other => other?,
        };
        let root = lifeboat_format::open_root(&wrapped, key).map_err(Error::of_object(&key_name))?;
        if root.repository != config.repository {
            let detail = format!(
                "it and `{config_name}` are of two repositories: found=`{}`, here=`{}`",
                root.repository, config.repository
            );
            return Err(Error::Damaged { object: key_name.to_string(), detail });
        }
        let keys = RepositoryKeys::new(&root.root, config.repository)?;
        Ok(Self {
            inner: Arc::new(Inner { store, config, keys, site_keys: Mutex::default(), keys_asked: Mutex::default() }),
        })
    }

    /// The same repository through another way to its store.
    pub fn over(&self, store: Arc<dyn Store>) -> Self {
        let Inner { config, keys, .. } = self.inner.as_ref();
        let site_keys = Mutex::new(self.cached_keys().clone());
        Self {
            inner: Arc::new(Inner {
                store,
                config: config.clone(),
                keys: keys.clone(),
                site_keys,
                keys_asked: Mutex::default(),
            }),
        }
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    pub fn config(&self) -> &RepositoryConfig {
        &self.inner.config
    }

    pub fn keys(&self) -> &RepositoryKeys {
        &self.inner.keys
    }

    pub fn handle_of(&self, site: &SiteId) -> SiteHandle {
        self.inner.keys.site_handle(site)
    }

    /// The site as its newest commit says; `None` when nothing was ever committed for it.
    ///
    /// A store whose newest commit is older than `known` has lost commits: that is damage, and
    /// nothing is concluded from it.
    pub async fn site(&self, id: &SiteId, known: Option<KnownHead>) -> Result<Option<Site>, Error> {
        Site::open(self.clone(), id, known).await
    }

    /// The site, ready to be written; its key is made if it has none yet.
    pub async fn site_for_backup(&self, id: &SiteId, known: Option<KnownHead>) -> Result<Site, Error> {
        match self.site(id, known).await? {
            Some(site) => Ok(site),
            None => Site::create(self.clone(), id).await,
        }
    }

    /// The number of a site's newest commit, by one listing; 0 when it has none.
    pub async fn newest_generation(&self, id: &SiteId) -> Result<Generation, Error> {
        let newest = crate::site::newest_commit(self, self.handle_of(id)).await?;
        Ok(newest.unwrap_or(Generation(0)))
    }

    /// Every site that has a commit, by asking the store alone: one listing and one read a site.
    pub async fn sites(&self) -> Result<Vec<Site>, Error> {
        let mut sites = Vec::new();
        let mut after: Option<ObjectName> = None;
        while let Some(found) = self.store().list(names::SITES_PREFIX, after.as_ref(), 1).await?.into_iter().next() {
            let Some(handle) = site_of(found.name.as_str()) else {
                after = Some(found.name);
                continue;
            };
            if let Some(site) = Site::open_handle(self.clone(), handle, None).await? {
                sites.push(site);
            }
            // `zz` sorts behind everything a site's prefix holds.
            after = Some(object_name(format!("{}zz", names::site_prefix(&handle)))?);
        }
        sites.sort_by(|a, b| a.id().cmp(b.id()));
        Ok(sites)
    }

    /// Sites that have commits and are not among these, by their keys, a thousand of which are one request.
    pub async fn sites_besides(&self, known: &[SiteId]) -> Result<Vec<Result<Site, Error>>, Error> {
        let known: BTreeSet<SiteHandle> = known.iter().map(|site| self.handle_of(site)).collect();
        let keys = self.list_all(names::KEYS_PREFIX).await?;
        let handles = keys.iter().filter_map(|name| names::parse_key_number(name.as_str())).map(|(site, _)| site);
        let mut sites = Vec::new();
        for handle in handles.filter(|handle| !known.contains(handle)).collect::<BTreeSet<_>>() {
            sites.extend(Site::open_handle(self.clone(), handle, None).await.transpose());
        }
        Ok(sites)
    }

    /// The key of a site, from its first place or its second.
    pub(crate) async fn site_keys(&self, handle: SiteHandle, number: KeyNumber) -> Result<SiteKeys, Error> {
        let cached = self.cached_keys().get(&(handle, number)).cloned();
        if let Some(keys) = cached {
            return Ok(keys);
        }
        let keys = match self.read_site_keys(handle, number, names::site_key(&handle, number)).await {
            Err(error) if error.fault() == Fault::Damage => {
                let copy = self.read_site_keys(handle, number, names::site_key_copy(&handle, number)).await;
                let keys = copy.map_err(|_| error)?;
                tracing::warn!(object = names::site_key(&handle, number), "a site's key is damaged; its copy was used");
                keys
            }
            other => other?,
        };
        self.cached_keys().insert((handle, number), keys.clone());
        Ok(keys)
    }

    /// Whether anything was ever sealed of a site.
    pub async fn has_key(&self, id: &SiteId) -> Result<bool, Error> {
        Ok(self.newest_key(self.handle_of(id)).await?.is_some())
    }

    /// The newest key of a site, made if it has none yet: for what is written of a site without its sequence.
    ///
    /// It is asked for again after an hour or two, so that a process that goes on for ever learns of an erasure.
    pub(crate) async fn newest_site_keys(&self, handle: SiteHandle, now: Timestamp) -> Result<SiteKeys, Error> {
        let spread = KEY_BELIEVED_FOR * u32::from(handle.0[0]) / 256;
        let asked_at = self.keys_asked().get(&handle).copied();
        // Whoever opened the site since may have come by a newer one.
        let of_site = (handle, KeyNumber(0))..=(handle, KeyNumber(u32::MAX));
        let newest = self.cached_keys().range(of_site).next_back().map(|(_, keys)| keys.clone());
        if let Some((asked_at, newest)) = asked_at.zip(newest)
            && now.since(asked_at) < KEY_BELIEVED_FOR + spread
        {
            return Ok(newest);
        }
        let keys = match self.newest_key(handle).await? {
            Some(number) => self.site_keys(handle, number).await?,
            None => self.make_site_keys(handle, KeyNumber(1)).await?,
        };
        self.keys_asked().insert(handle, now);
        Ok(keys)
    }

    /// Lets the newest key of a site be asked for when it is needed next.
    pub fn doubt_key_of(&self, id: &SiteId) {
        self.keys_asked().remove(&self.handle_of(id));
    }

    /// Lets go of a site's keys.
    pub(crate) fn forget_keys(&self, handle: SiteHandle) {
        self.cached_keys().retain(|(site, _), _| *site != handle);
        self.keys_asked().remove(&handle);
    }

    /// Makes a key of a site, or takes the one that another process made just now.
    pub(crate) async fn make_site_keys(&self, handle: SiteHandle, number: KeyNumber) -> Result<SiteKeys, Error> {
        let name = object_name(names::site_key(&handle, number))?;
        let body: bytes::Bytes = self.inner.keys.new_site_key(handle, number)?.0.into();
        match create_and_read_back(self.store().as_ref(), &name, body).await {
            Ok(()) | Err(Error::Store(lifeboat_store::Error::AlreadyExists { .. })) => {}
            Err(error) => return Err(error),
        }
        let body = self.store().get(&name).await?;
        let keys = self.inner.keys.open_site_key(handle, number, &body).map_err(Error::of_object(&name))?;
        match create_and_read_back(self.store().as_ref(), &object_name(names::site_key_copy(&handle, number))?, body)
            .await
        {
            Ok(()) | Err(Error::Store(lifeboat_store::Error::AlreadyExists { .. })) => {}
            Err(error) => return Err(error),
        }
        self.cached_keys().insert((handle, number), keys.clone());
        Ok(keys)
    }

    pub(crate) async fn read_site_keys(
        &self,
        handle: SiteHandle,
        number: KeyNumber,
        name: String,
    ) -> Result<SiteKeys, Error> {
        let name = object_name(name)?;
        let body = self.store().get(&name).await?;
        self.inner.keys.open_site_key(handle, number, &body).map_err(Error::of_object(&name))
    }

    fn keys_asked(&self) -> std::sync::MutexGuard<'_, HashMap<SiteHandle, Timestamp>> {
        self.inner.keys_asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cached_keys(&self) -> std::sync::MutexGuard<'_, BTreeMap<(SiteHandle, KeyNumber), SiteKeys>> {
        self.inner.site_keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The site that an object below `sites/` belongs to.
fn site_of(name: &str) -> Option<SiteHandle> {
    match names::parse_object_name(name)? {
        ParsedName::SiteKeyCopy(site, _) | ParsedName::Commit(site, _) | ParsedName::Object(site, ..) => Some(site),
        _ => None,
    }
}

/// A place for a repository holds nothing but what a killed init or its probe may have left.
async fn refuse_if_used(store: &dyn Store) -> Result<(), Error> {
    let config = object_name(names::CONFIG.to_owned())?;
    match store.get(&config).await {
        Ok(_) => return Err(Error::RepositoryExists { store: store.describe() }),
        Err(lifeboat_store::Error::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let found = store.list("", None, 100).await?;
    let foreign = found.iter().find(|listed| {
        let name = listed.name.as_str();
        !name.starts_with(names::PROBE_PREFIX) && !name.starts_with(names::ROOT_KEYS_PREFIX)
    });
    match foreign {
        Some(listed) => Err(Error::NotEmpty { store: store.describe(), found: listed.name.to_string() }),
        None => Ok(()),
    }
}

/// What a credential is, for messages.
pub(crate) fn kind_name(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Master => "master",
        CredentialKind::Recovery => "recovery",
    }
}
