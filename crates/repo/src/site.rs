//! One site's commit sequence: read at its newest entry, extended by create-if-absent.
//!
//!   LIST newest ─▶ GET commit ─▶ state      one commit answers every question
//!   decide(state) ─▶ event ─▶ create n+1 ─ lost ─▶ read what came first ─▶ decide again
//!
//! Invariant (one-sequence): of two writers of commit n+1 one wins, and the other decides again
//! knowing what the winner did.

use std::ops::ControlFlow;

use bytes::Bytes;
use lifeboat_format::{ObjectHeader, SiteKeys, commit_hash, decode_commit, encode_commit, names};
use lifeboat_model::{
    Commit, CommitEvent, Fault, Faulty, Generation, KeyNumber, ObjectId, SiteHandle, SiteId, SiteState, SnapshotRecord,
    Timestamp, WriterIdentity,
};
use lifeboat_store::ObjectName;

use crate::upload::{create_and_read_back, object_name, read_back};
use crate::{Error, KnownHead, Prepared, Repository, random_id};

/// One site, as its newest commit says.
pub struct Site {
    pub(crate) repository: Repository,
    pub(crate) keys: SiteKeys,
    generation: Generation,
    /// SHA-256 of the newest commit's object; zeros before the first.
    hash: [u8; 32],
    state: SiteState,
    /// When the newest commit was written.
    written_at: Option<Timestamp>,
    /// Commits that others made since this was opened.
    seen: Vec<Commit>,
}

/// What a commit led to.
#[derive(Debug, Clone)]
pub struct CommitOutcome {
    pub generation: Generation,
    pub event: CommitEvent,
}

impl Site {
    pub(crate) async fn open(
        repository: Repository,
        id: &SiteId,
        known: Option<KnownHead>,
    ) -> Result<Option<Self>, Error> {
        let handle = repository.handle_of(id);
        let site = Self::open_handle(repository, handle, known.map(|known| known.generation)).await?;
        if let Some(known) = known {
            let found = site.as_ref().map_or(Generation(0), |site| site.generation);
            let forked =
                site.as_ref().is_some_and(|site| site.generation == known.generation && site.hash != known.hash);
            if found < known.generation || forked {
                return Err(Error::RolledBack { site: id.clone(), found: found.0, known: known.generation });
            }
        }
        match site {
            Some(site) if site.id() != id => Err(Error::Damaged {
                object: names::commit(&handle, site.generation),
                detail: format!("it belongs to another site: site=`{}`", site.id()),
            }),
            other => Ok(other),
        }
    }

    /// `expected`: the commit that was the newest when this was last asked.
    pub(crate) async fn open_handle(
        repository: Repository,
        handle: SiteHandle,
        expected: Option<Generation>,
    ) -> Result<Option<Self>, Error> {
        // The first key is nearly always the right one, and the expected commit often the newest still: they are read
        // while the newest commit is found.
        let first_key = repository.site_keys(handle, KeyNumber(1));
        let early = early_commit(&repository, handle, expected);
        let (newest, first_key, early) =
            futures_util::future::join3(newest_commit(&repository, handle), first_key, early).await;
        let Some(generation) = newest? else { return Ok(None) };
        let name = object_name(names::commit(&handle, generation))?;
        let body = match early.filter(|_| expected == Some(generation)) {
            Some(body) => body,
            None => repository.store().get(&name).await?,
        };
        let number = ObjectHeader::parse(&body).map_err(Error::of_object(&name))?.key;
        let keys = match number {
            KeyNumber(1) => first_key?,
            // Either the key is lost, or the number is what is damaged: both are named.
            _ => repository.site_keys(handle, number).await.map_err(|error| match error.fault() {
                Fault::Damage => Error::Damaged {
                    object: name.to_string(),
                    detail: format!("the key it names cannot be had: key=`{number}`: {error}"),
                },
                _ => error,
            })?,
        };
        let commit = decode_commit(&keys, generation, &body).map_err(Error::of_object(&name))?;
        Ok(Some(Self {
            repository,
            keys,
            generation,
            hash: commit_hash(&body),
            written_at: Some(commit.written_at),
            state: commit.state,
            seen: Vec::new(),
        }))
    }

    pub(crate) async fn create(repository: Repository, id: &SiteId) -> Result<Self, Error> {
        let handle = repository.handle_of(id);
        let keys = repository.make_site_keys(handle, KeyNumber(1)).await?;
        let state = SiteState::new(id.clone(), KeyNumber(1));
        Ok(Self {
            repository,
            keys,
            generation: Generation(0),
            hash: [0; 32],
            state,
            written_at: None,
            seen: Vec::new(),
        })
    }

    pub fn id(&self) -> &SiteId {
        &self.state.site
    }

    pub fn handle(&self) -> SiteHandle {
        self.keys.handle()
    }

    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    pub fn keys(&self) -> &SiteKeys {
        &self.keys
    }

    pub fn state(&self) -> &SiteState {
        &self.state
    }

    /// When the newest commit was written; `None` before the first.
    pub fn written_at(&self) -> Option<Timestamp> {
        self.written_at
    }

    /// What to remember of this site, so that a store that loses its newest commits is found out.
    pub fn head(&self) -> KnownHead {
        KnownHead { generation: self.generation, hash: self.hash }
    }

    /// Publishes what an ingest has made durable: from this commit on the snapshot exists.
    ///
    /// `judge` sees what [`Self::commit`]'s `decide` sees, and says what the snapshot is worth. Where something that the
    /// snapshot names was condemned meanwhile there is none: [`Error::CondemnedMeanwhile`], and the content is to be stored
    /// anew, under other names.
    pub async fn publish(
        &mut self,
        writer: &WriterIdentity,
        prepared: &Prepared,
        judge: impl FnMut(&SiteState, &[Commit]) -> Result<SnapshotRecord, Error>,
    ) -> Result<CommitOutcome, Error> {
        let (outcome, name, body) = self.create_commit(writer, prepared.decide(judge)).await?;
        read_back(self.repository.store().as_ref(), &name, &body).await?;
        Ok(outcome)
    }

    /// The same, without waiting until it is read back: nothing may rely on it before that is done.
    pub async fn publish_unread(
        &mut self,
        writer: &WriterIdentity,
        prepared: &Prepared,
    ) -> Result<(CommitOutcome, ReadingBack), Error> {
        let decide = prepared.decide(|_, _| Ok(prepared.record.clone()));
        let (outcome, name, body) = self.create_commit(writer, decide).await?;
        Ok((outcome, self.begin_read_back(name, body)))
    }

    /// Extends the sequence by one commit; a snapshot comes by [`Self::publish`].
    ///
    /// `decide` sees the newest state and every commit that others made since the site was opened,
    /// and says what is to happen; it is asked again whenever another writer was first.
    pub async fn commit(
        &mut self,
        writer: &WriterIdentity,
        decide: impl FnMut(&SiteState, &[Commit]) -> Result<CommitEvent, Error>,
    ) -> Result<CommitOutcome, Error> {
        let (outcome, name, body) = self.create_commit(writer, no_snapshot(decide)).await?;
        read_back(self.repository.store().as_ref(), &name, &body).await?;
        Ok(outcome)
    }

    /// The same, without waiting until it is read back: nothing may rely on it before that is done.
    pub async fn commit_unread(
        &mut self,
        writer: &WriterIdentity,
        decide: impl FnMut(&SiteState, &[Commit]) -> Result<CommitEvent, Error>,
    ) -> Result<(CommitOutcome, ReadingBack), Error> {
        let (outcome, name, body) = self.create_commit(writer, no_snapshot(decide)).await?;
        Ok((outcome, self.begin_read_back(name, body)))
    }

    fn begin_read_back(&self, name: ObjectName, body: Bytes) -> ReadingBack {
        ReadingBack::begin(&self.repository, name, body)
    }

    /// Extends the sequence by this commit, if nobody has extended it since `newest`. False: somebody has.
    pub(crate) async fn commit_if_newest(
        &mut self,
        newest: Generation,
        writer: &WriterIdentity,
        event: CommitEvent,
    ) -> Result<bool, Error> {
        let (body, commit) = self.next_commit(writer, event)?;
        if commit.generation != newest.next() {
            return Ok(false);
        }
        let name = object_name(names::commit(&self.handle(), commit.generation))?;
        match create_and_read_back(self.repository.store().as_ref(), &name, body.clone()).await {
            Ok(()) => {
                self.accept(&body, commit);
                Ok(true)
            }
            Err(Error::Store(lifeboat_store::Error::AlreadyExists { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The commit that comes next, and its bytes.
    fn next_commit(&self, writer: &WriterIdentity, event: CommitEvent) -> Result<(Bytes, Commit), Error> {
        let generation = self.generation.next();
        let state = self.state.apply(&event, generation)?;
        let commit = Commit {
            generation,
            previous: self.hash,
            nonce: ObjectId(random_id()?),
            written_at: Timestamp::now(),
            writer: writer.clone(),
            event,
            state,
        };
        Ok((encode_commit(&self.keys, &commit)?.into(), commit))
    }

    /// From now on this commit is the newest.
    fn accept(&mut self, body: &[u8], commit: Commit) {
        self.hash = commit_hash(body);
        self.generation = commit.generation;
        self.written_at = Some(commit.written_at);
        self.state = commit.state;
    }

    async fn create_commit(
        &mut self,
        writer: &WriterIdentity,
        mut decide: impl FnMut(&SiteState, &[Commit]) -> Result<CommitEvent, Error>,
    ) -> Result<(CommitOutcome, ObjectName, Bytes), Error> {
        loop {
            let event = decide(&self.state, &self.seen)?;
            let (body, commit) = self.next_commit(writer, event.clone())?;
            let generation = commit.generation;
            let name = object_name(names::commit(&self.handle(), generation))?;
            match self.repository.store().create(&name, body.clone()).await {
                Ok(()) => {
                    self.accept(&body, commit);
                    return Ok((CommitOutcome { generation, event }, name, body));
                }
                Err(lifeboat_store::Error::AlreadyExists { .. }) => self.refresh().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads the commits that others made since, each proven to follow from the one before.
    pub async fn refresh(&mut self) -> Result<(), Error> {
        let newest = newest_commit(&self.repository, self.handle()).await?.unwrap_or(Generation(0));
        if newest < self.generation {
            return Err(Error::RolledBack { site: self.id().clone(), found: newest.0, known: self.generation });
        }
        while self.generation < newest {
            let generation = self.generation.next();
            let name = object_name(names::commit(&self.handle(), generation))?;
            let body = self.repository.store().get(&name).await?;
            let key = ObjectHeader::parse(&body).map_err(Error::of_object(&name))?.key;
            if key > self.keys.number() {
                // Its commits from here on are sealed by a key that this was not opened with.
                return Err(Error::Erased { site: self.id().clone(), object: name.to_string() });
            }
            let commit = decode_commit(&self.keys, generation, &body).map_err(Error::of_object(&name))?;
            if commit.previous != self.hash {
                let detail = "it does not follow from the commit before it".to_owned();
                return Err(Error::Damaged { object: name.to_string(), detail });
            }
            self.hash = commit_hash(&body);
            self.generation = generation;
            self.written_at = Some(commit.written_at);
            self.state = commit.state.clone();
            self.seen.push(commit);
        }
        Ok(())
    }

    /// Looks at the newest commits, newest first, `max` at most, each proven to lead to the one after it, till `look` has
    /// its answer.
    pub async fn look_back<T>(
        &self,
        max: u64,
        mut look: impl FnMut(Commit) -> ControlFlow<T>,
    ) -> Result<Option<T>, Error> {
        let mut hash = self.hash;
        // Those before an erasure can be read no more.
        let first = self.state.shredded.map_or(0, |shredded| shredded.generation.0.saturating_sub(1));
        let oldest = self.generation.0.saturating_sub(max).max(first);
        for generation in (oldest + 1..=self.generation.0).rev().map(Generation) {
            let name = object_name(names::commit(&self.handle(), generation))?;
            let body = self.repository.store().get(&name).await?;
            let commit = decode_commit(&self.keys, generation, &body).map_err(Error::of_object(&name))?;
            if commit_hash(&body) != hash {
                let detail = "the commit after it does not follow from it".to_owned();
                return Err(Error::Damaged { object: name.to_string(), detail });
            }
            hash = commit.previous;
            if let ControlFlow::Break(answer) = look(commit) {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }
}

/// Whether an object was condemned, then or now: what is deleted already is in no state any more.
pub(crate) fn was_condemned(id: &ObjectId, state: &SiteState, seen: &[Commit]) -> bool {
    let is_in = |commit: &Commit| matches!(&commit.event, CommitEvent::Condemned(what) if what.objects.contains(id));
    state.is_condemned(id) || seen.iter().any(is_in)
}

/// Only `publish` knows what a snapshot names.
fn no_snapshot(
    mut decide: impl FnMut(&SiteState, &[Commit]) -> Result<CommitEvent, Error>,
) -> impl FnMut(&SiteState, &[Commit]) -> Result<CommitEvent, Error> {
    move |state, seen| match decide(state, seen)? {
        CommitEvent::Published { .. } => Err(Error::Bug("a snapshot is published by `publish`".into())),
        other => Ok(other),
    }
}

/// The expected commit, if there is one and it can be had.
async fn early_commit(repository: &Repository, handle: SiteHandle, expected: Option<Generation>) -> Option<Bytes> {
    let name = object_name(names::commit(&handle, expected?)).ok()?;
    repository.store().get(&name).await.ok()
}

/// An object that is being read back.
#[must_use = "what was not read back may be relied on by nothing"]
pub struct ReadingBack(tokio::task::JoinHandle<Result<(), Error>>);

impl ReadingBack {
    pub(crate) fn begin(repository: &Repository, name: ObjectName, body: Bytes) -> Self {
        let store = repository.store().clone();
        Self(tokio::spawn(async move { read_back(store.as_ref(), &name, &body).await }))
    }

    /// Waits until the store has given exactly what it was given.
    pub async fn done(self) -> Result<(), Error> {
        self.0.await.map_err(|_| Error::Cancelled)?
    }
}

/// The newest generation of a site, by one listing of one name.
pub(crate) async fn newest_commit(repository: &Repository, handle: SiteHandle) -> Result<Option<Generation>, Error> {
    let prefix = names::commits_prefix(&handle);
    let Some(listed) = repository.store().list(&prefix, None, 1).await?.into_iter().next() else {
        return Ok(None);
    };
    names::parse_commit(listed.name.as_str())
        .map(|(_, generation)| Some(generation))
        .ok_or_else(|| Error::Damaged { object: listed.name.to_string(), detail: "no commit has such a name".into() })
}
