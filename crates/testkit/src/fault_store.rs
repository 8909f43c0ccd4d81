//! A store that fails on command: at the k-th operation, from it on, or at chosen objects.
//!
//! Operations are numbered from 1 in the order they begin. The handle ([`Faults`]) is kept by the
//! test, the store is given to what is tested.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use lifeboat_store::{Error, Listed, ObjectName, Operation, Store};

/// What happens at one operation.
#[derive(Debug, Clone)]
pub enum Failure {
    /// It is not done, and reports this.
    Error(Error),
    /// It is done, and reports that the store was unavailable.
    Unclear,
    /// The store answers as if it were empty: a listing shows nothing, a read finds nothing. A
    /// create or delete is done as ever.
    Blind,
    /// It is not done, and neither is any later one: all report [`Error::Cancelled`].
    KillBefore,
    /// It is done, but reports [`Error::Cancelled`], and no later one is done.
    KillAfter,
}

/// What reads see in place of an object.
#[derive(Debug, Clone)]
pub enum Damage {
    /// One byte, combined with `mask`.
    Flip { at: usize, mask: u8 },
    /// Its first `len` bytes.
    Truncate { len: usize },
    /// The bytes of another object.
    SwapWith(ObjectName),
    /// Nothing: it is gone, also from listings.
    Drop,
}

/// One operation as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub operation: Operation,
    /// The object's name, or the prefix of a listing.
    pub name: String,
}

/// Tells a [`FaultStore`] what to do, and what it did.
#[derive(Debug, Default)]
pub struct Faults {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    failures: HashMap<usize, Failure>,
    is_killed: bool,
    damage: BTreeMap<ObjectName, Damage>,
}

impl Faults {
    /// Every operation so far; the k-th is at `k - 1`.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    pub fn count(&self) -> usize {
        self.lock().calls.len()
    }

    /// The k-th operation from the beginning (the first is 1) fails like this.
    pub fn at(&self, operation: usize, failure: Failure) {
        self.lock().failures.insert(operation, failure);
    }

    /// The k-th operation from now on (the next is 1) fails like this.
    pub fn at_next(&self, operation: usize, failure: Failure) {
        let mut state = self.lock();
        let number = state.calls.len() + operation;
        state.failures.insert(number, failure);
    }

    pub fn damage(&self, name: &ObjectName, damage: Damage) {
        self.lock().damage.insert(name.clone(), damage);
    }

    /// Everything works again; calls are counted on, and what was done stays done.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.failures.clear();
        state.damage.clear();
        state.is_killed = false;
    }

    /// Whether an operation was killed.
    pub fn is_killed(&self) -> bool {
        self.lock().is_killed
    }

    /// Counts an operation in and decides its fate.
    fn begin(&self, operation: Operation, name: &str) -> Option<Failure> {
        let mut state = self.lock();
        state.calls.push(Call { operation, name: name.to_owned() });
        if state.is_killed {
            return Some(Failure::KillBefore);
        }
        let number = state.calls.len();
        let failure = state.failures.remove(&number);
        state.is_killed = matches!(failure, Some(Failure::KillBefore | Failure::KillAfter));
        failure
    }

    fn damage_of(&self, name: &ObjectName) -> Option<Damage> {
        self.lock().damage.get(name).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fails as its [`Faults`] say.
#[derive(Debug)]
pub struct FaultStore<S> {
    store: S,
    faults: Arc<Faults>,
}

impl<S: Store> FaultStore<S> {
    pub fn new(store: S) -> Self {
        Self { store, faults: Arc::default() }
    }

    pub fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults)
    }

    /// `blind`: what a store that does not see its objects answers.
    async fn attempt<T>(
        &self,
        operation: Operation,
        name: &str,
        work: impl Future<Output = Result<T, Error>>,
        blind: Option<Result<T, Error>>,
    ) -> Result<T, Error> {
        match self.faults.begin(operation, name) {
            None => work.await,
            Some(Failure::Error(error)) => Err(error),
            Some(Failure::KillBefore) => Err(Error::Cancelled),
            Some(Failure::KillAfter) => {
                let _ = work.await;
                Err(Error::Cancelled)
            }
            Some(Failure::Blind) => match blind {
                Some(answer) => answer,
                None => work.await,
            },
            Some(Failure::Unclear) => {
                let _ = work.await;
                Err(Error::Unavailable { detail: "the answer was lost".to_owned(), after: None })
            }
        }
    }

    /// The object as reads see it.
    async fn seen(&self, name: &ObjectName) -> Result<Bytes, Error> {
        match self.faults.damage_of(name) {
            None => self.store.get(name).await,
            Some(Damage::Drop) => Err(not_found(name)),
            Some(Damage::SwapWith(other)) => self.store.get(&other).await,
            Some(Damage::Truncate { len }) => {
                let body = self.store.get(name).await?;
                Ok(body.slice(..len.min(body.len())))
            }
            Some(Damage::Flip { at, mask }) => {
                let mut body = self.store.get(name).await?.to_vec();
                if let Some(byte) = body.get_mut(at) {
                    *byte ^= mask;
                }
                Ok(body.into())
            }
        }
    }

    async fn seen_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        if self.faults.damage_of(name).is_none() {
            return self.store.get_range(name, range).await;
        }
        let body = self.seen(name).await?;
        let len = body.len() as u64;
        if range.end > len {
            return Err(Error::Truncated { name: name.to_string(), wanted: range.end, len });
        }
        Ok(body.slice(range.start as usize..range.end as usize))
    }

    async fn seen_list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        let is_dropped = |name: &ObjectName| matches!(self.faults.damage_of(name), Some(Damage::Drop));
        let hidden = self.faults.lock().damage.len();
        let mut found = self.store.list(prefix, after, limit.saturating_add(hidden)).await?;
        found.retain(|listed| !is_dropped(&listed.name));
        found.truncate(limit);
        for listed in &mut found {
            if self.faults.damage_of(&listed.name).is_some() {
                listed.len = self.seen(&listed.name).await?.len() as u64;
            }
        }
        Ok(found)
    }
}

fn not_found(name: &ObjectName) -> Error {
    Error::NotFound { name: name.to_string() }
}

#[async_trait]
impl<S: Store> Store for FaultStore<S> {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        self.attempt(Operation::Create, name.as_str(), self.store.create(name, body), None).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        self.attempt(Operation::Get, name.as_str(), self.seen(name), Some(Err(not_found(name)))).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        self.attempt(Operation::GetRange, name.as_str(), self.seen_range(name, range), Some(Err(not_found(name)))).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        self.attempt(Operation::List, prefix, self.seen_list(prefix, after, limit), Some(Ok(Vec::new()))).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        self.attempt(Operation::Delete, name.as_str(), self.store.delete(name), None).await
    }

    fn forget(&self, prefix: &str) -> bool {
        self.store.forget(prefix)
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}
