//! Who works on the site at once; each ends well, or says what went wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use lifeboat_model::{CommitEvent, Forgotten, Hold, HoldId, HoldReason, SiteState, SnapshotId, StateError, Timestamp};

use super::judge::{Micros, Pieces};
use super::scene::{DAY, HOUR, RULES, World};
use super::steps::{Gate, Random};
use crate::tests::writer;
use crate::{Error, Repository};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Writer(u32),
    Pruner,
    Reader,
    Clock,
    Undelete,
    Compaction,
    Holder,
}

/// What an actor works with.
pub struct Actor {
    pub world: Arc<World>,
    pub repository: Repository,
    pub gate: Arc<Gate>,
    pub random: Random,
    pub reading: Arc<Reading>,
}

/// Since when the reader reads, by the true clock; 0: it does not.
#[derive(Default)]
pub struct Reading(AtomicI64);

impl Role {
    pub fn letter(self) -> char {
        match self {
            Self::Writer(number) => char::from(b'A' + number as u8),
            Self::Pruner => 'p',
            Self::Reader => 'r',
            Self::Clock => 't',
            Self::Undelete => 'u',
            Self::Compaction => 'x',
            Self::Holder => 'h',
        }
    }

    /// Whether it can die at any step.
    pub fn is_mortal(self) -> bool {
        !matches!(self, Self::Reader | Self::Clock)
    }

    pub async fn act(self, mut actor: Actor) -> Result<(), String> {
        match self {
            Self::Writer(number) => actor.write(number).await,
            Self::Pruner => actor.prune().await,
            Self::Reader => actor.read().await,
            Self::Clock => actor.pass_time().await,
            Self::Undelete => actor.undelete().await,
            Self::Compaction => actor.compact().await,
            Self::Holder => actor.hold().await,
        }
    }
}

impl Actor {
    /// Two backups; the second one may want what the first one had.
    async fn write(&mut self, number: u32) -> Result<(), String> {
        for round in 0..2 {
            let shared: Pieces = [0b11, 0b1100, 0b11_0000].iter().filter(|_| !self.random.one_in(3)).sum();
            let own = 1 << (8 + 4 * number + 2 * round);
            self.back_up(shared | own).await?;
        }
        Ok(())
    }

    async fn back_up(&mut self, pieces: Pieces) -> Result<(), String> {
        loop {
            let began = self.world.judge.now();
            match self.world.back_up(&self.repository, pieces).await {
                Ok(()) => return Ok(()),
                Err(Error::CondemnedMeanwhile { .. }) => {}
                // An index segment that it read of was compacted away, condemned and deleted, all while it slept.
                Err(Error::Store(lifeboat_store::Error::NotFound { .. })) if self.has_slept_since(began) => {}
                Err(error) => return Err(format!("a backup failed: {error}")),
            }
        }
    }

    fn has_slept_since(&self, began: Timestamp) -> bool {
        self.world.judge.now().since(began) >= RULES.grace
    }

    async fn commit(
        &mut self,
        decide: impl FnMut(&SiteState, &[lifeboat_model::Commit]) -> Result<CommitEvent, Error>,
    ) -> Result<(), String> {
        let outcome = async {
            let mut site = self.world.open(&self.repository).await?;
            site.commit(&writer(), decide).await
        };
        match outcome.await {
            Ok(_) | Err(Error::Cancelled | Error::State(StateError::Held(_) | StateError::NoSuchHold(_))) => Ok(()),
            Err(error) => Err(format!("a commit failed: {error}")),
        }
    }

    /// Forgets all but the newest points and prunes, and again.
    async fn prune(&mut self) -> Result<(), String> {
        let ahead =
            self.random.of(&[0, 0, 0, 2 * HOUR, -2 * HOUR, 365 * DAY * Micros::from(self.random.clone().one_in(8))]);
        for _ in 0..2 + self.random.below(2) {
            let (keep, time) = (1 + self.random.below(2), self.random.of(&[0, 0, 0, DAY]));
            let at = Timestamp(self.world.judge.now().0 + ahead);
            self.commit(|state, _| forget_all_but(state, keep, Forgotten { at, till: Timestamp(at.0 + time) })).await?;
            let began = self.world.judge.now();
            let outcome = async {
                let clock = self.repository.trusted_now(Timestamp(began.0 + ahead)).await?;
                let mut site = self.world.open(&self.repository).await?;
                site.prune(&RULES, &clock, &writer()).await
            };
            match outcome.await {
                Ok(_) | Err(Error::Clock { .. } | Error::State(StateError::Held(_))) => {}
                Err(error) => return Err(format!("a prune failed: {error}")),
            }
            for _ in 0..self.random.below(8) {
                self.gate.turn().await;
            }
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), String> {
        for _ in 0..2 {
            self.reading.begin(self.world.judge.now());
            let site = self.world.open(&self.repository).await.map_err(|error| format!("a reader failed: {error}"))?;
            let points = &site.state().snapshots;
            self.world.read(&site, &points[self.random.below(points.len())]).await?;
            self.reading.end();
            for _ in 0..self.random.below(12) {
                self.gate.turn().await;
            }
        }
        Ok(())
    }

    /// Time passes, and backups of other sites are recorded; never by a grace while the reader reads.
    async fn pass_time(&mut self) -> Result<(), String> {
        for _ in 0..6 {
            for _ in 0..self.random.below(4) {
                self.gate.turn().await;
            }
            let by = self.random.of(&[HOUR, 13 * HOUR, 25 * HOUR, 25 * HOUR, 49 * HOUR]);
            if self.reading.allows(Timestamp(self.world.judge.now().0 + by)) {
                self.world.advance(by);
            }
            let recorded = self.world.record_run(&self.repository).await;
            recorded.map_err(|error| format!("a run was not recorded: {error}"))?;
        }
        Ok(())
    }

    async fn undelete(&mut self) -> Result<(), String> {
        for _ in 0..2 {
            let which = self.random.below(8);
            self.commit(|state, _| match state.forgotten.get(which % state.forgotten.len().max(1)) {
                Some(record) => Ok(CommitEvent::Undeleted { snapshots: vec![record.id] }),
                None => Err(Error::Cancelled),
            })
            .await?;
        }
        Ok(())
    }

    async fn compact(&mut self) -> Result<(), String> {
        for _ in 0..2 {
            let began = self.world.judge.now();
            let outcome = async { self.world.open(&self.repository).await?.merge_index(&writer()).await };
            match outcome.await {
                Ok(()) => {}
                Err(Error::Store(lifeboat_store::Error::NotFound { .. })) if self.has_slept_since(began) => {}
                Err(error) => return Err(format!("a compaction failed: {error}")),
            }
        }
        Ok(())
    }

    async fn hold(&mut self) -> Result<(), String> {
        let id = HoldId([self.random.below(256) as u8; 8]);
        let placed_at = self.world.judge.now();
        let hold = Hold { id, reason: HoldReason::Asked, note: "legal".into(), placed_at };
        self.commit(|_, _| Ok(CommitEvent::HoldPlaced(hold.clone()))).await?;
        for _ in 0..self.random.below(30) {
            self.gate.turn().await;
        }
        self.commit(|_, _| Ok(CommitEvent::HoldReleased { hold: id })).await
    }
}

fn forget_all_but(state: &SiteState, keep: usize, forgotten: Forgotten) -> Result<CommitEvent, Error> {
    let old = state.snapshots.len().saturating_sub(keep);
    let snapshots: Vec<SnapshotId> = state.snapshots[..old].iter().map(|record| record.id).collect();
    match snapshots.is_empty() {
        true => Err(Error::Cancelled),
        false => Ok(CommitEvent::Forgot { snapshots, forgotten, reason: "a test".into() }),
    }
}

impl Reading {
    fn begin(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether that moment is less than a grace after it began to read.
    fn allows(&self, then: Timestamp) -> bool {
        let since = self.0.load(Ordering::Relaxed);
        since == 0 || then.since(Timestamp(since)) < RULES.grace
    }
}
