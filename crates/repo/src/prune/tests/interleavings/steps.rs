//! One operation of the store at a time: whoever asks for one waits until it is let through.
//!
//!   operation ─▶ waits at its actor's gate ─ the scheduler lets one through ─▶ done, and judged at once
//!
//! An actor may have several operations waiting, as one that reads ahead has: which of them goes first is chosen too.
//! What is not here: who is next (`interleavings`), and what must hold (`judge`).

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use lifeboat_store::{Error, Listed, MemoryStore, ObjectName, Operation, Store};

use super::judge::Judge;

/// Numbers that a seed gives.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// Where the operations of one actor wait.
#[derive(Debug, Default)]
pub struct Gate {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    is_open: bool,
    /// The one that may go.
    granted: Option<u64>,
    wakers: BTreeMap<u64, Waker>,
}

impl Gate {
    /// Everything goes through at once.
    pub fn open() -> Arc<Self> {
        Arc::new(Self { waiting: Mutex::new(Waiting { is_open: true, ..Waiting::default() }) })
    }

    /// Lets one operation through; false when none is waiting.
    pub fn let_one_through(&self, random: &mut Random) -> bool {
        let mut waiting = self.lock();
        let numbers: Vec<u64> = waiting.wakers.keys().copied().collect();
        if numbers.is_empty() {
            return false;
        }
        let chosen = random.of(&numbers);
        waiting.granted = Some(chosen);
        if let Some(waker) = waiting.wakers.remove(&chosen) {
            waker.wake();
        }
        true
    }

    /// A step in which nothing is asked of the store, or the moment before something is.
    pub fn turn(&self) -> Turn<'_> {
        let mut waiting = self.lock();
        waiting.next += 1;
        Turn { gate: self, number: waiting.next }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ready when its number is let through.
pub struct Turn<'a> {
    gate: &'a Gate,
    number: u64,
}

impl Future for Turn<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.gate.lock();
        if waiting.is_open || waiting.granted == Some(self.number) {
            waiting.granted = None;
            return Poll::Ready(());
        }
        waiting.wakers.insert(self.number, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.gate.lock().wakers.remove(&self.number);
    }
}

/// A store of which every operation is one step of one actor.
#[derive(Debug)]
pub struct StepStore {
    pub store: Arc<MemoryStore>,
    pub gate: Arc<Gate>,
    pub judge: Arc<Judge>,
}

#[async_trait]
impl Store for StepStore {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        self.gate.turn().await;
        let created = self.store.create(name, body.clone()).await;
        self.judge.saw(Operation::Create, name.as_str());
        if created.is_ok() {
            self.judge.created(name, &body);
        }
        created
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        self.gate.turn().await;
        self.judge.saw(Operation::Get, name.as_str());
        self.store.get(name).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        self.gate.turn().await;
        self.judge.saw(Operation::GetRange, name.as_str());
        self.store.get_range(name, range).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        self.gate.turn().await;
        self.judge.saw(Operation::List, prefix);
        self.store.list(prefix, after, limit).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        self.gate.turn().await;
        self.judge.saw(Operation::Delete, name.as_str());
        self.judge.deleting(name);
        self.store.delete(name).await
    }

    fn describe(&self) -> String {
        "steps".to_owned()
    }
}
