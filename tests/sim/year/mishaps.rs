//! What happens to sites and to the store in a year, beside nights: people, lost commits, clocks that jump.
//!
//!   hold, release ▸ undelete ▸ all points forgotten by mistake, and brought back ▸ erased, and begun anew
//!   a commit, or a segment, that the store has lost ▸ both clocks a year ahead          found out, and nothing is done

use lifeboat_engine::lifecycle;
use lifeboat_format::names;
use lifeboat_model::{CommitEvent, Fault, Faulty, Forgotten, Hold, HoldId, HoldReason, SnapshotId, Timestamp};
use lifeboat_repo::{ChangeLog, Error, Repository, SegmentBlock};
use lifeboat_store::{ObjectName, Store};
use lifeboat_testkit::fault_store::Failure;
use lifeboat_testkit::world::site_id;

use super::app::source;
use super::capture::{Compacts, Visit, capture};
use super::host::Host;
use super::tidy::{UNDELETE, of_repository};
use super::{DAY, SITES, Year, midnight};

/// Blocks of before an erasure that are tried.
const TRIED_MAX: usize = 5;

/// All points of a site, forgotten by somebody who meant another one.
pub struct Mistake {
    pub site: String,
    points: Vec<SnapshotId>,
    found_out: i64,
}

impl Year {
    fn a_site(&mut self) -> &'static str {
        SITES[self.random.below(SITES.len() as u64) as usize]
    }

    pub async fn commit(&self, site: &str, event: CommitEvent) {
        let mut site = self.hosts[0].open(site).await.unwrap();
        site.commit(&lifeboat_engine::this_process(), |_, _| Ok(event.clone())).await.unwrap();
    }

    pub async fn undelete(&mut self) {
        if !self.random.one_in(12) {
            return;
        }
        let name = self.a_site();
        let site = self.hosts[0].open(name).await.unwrap();
        if let Some(record) = site.state().forgotten.last() {
            self.commit(name, CommitEvent::Undeleted { snapshots: vec![record.id] }).await;
        }
    }

    pub async fn hold_or_release(&mut self, night: i64) {
        let is_over = self.held.as_ref().is_some_and(|(_, _, till)| *till <= night);
        if is_over {
            self.release().await;
        } else if self.held.is_none() && self.random.one_in(50) {
            let name = self.a_site();
            let (id, placed_at) = (HoldId((night as u64).to_be_bytes()), midnight(night));
            let hold = Hold { id, reason: HoldReason::Asked, note: "legal".into(), placed_at };
            self.commit(name, CommitEvent::HoldPlaced(hold.clone())).await;
            self.held = Some((name.to_owned(), hold, night + 10));
        }
    }

    pub async fn release(&mut self) {
        if let Some((site, hold, _)) = self.held.take() {
            self.commit(&site, CommitEvent::HoldReleased { hold: hold.id }).await;
        }
    }

    fn is_held(&self, site: &str) -> bool {
        self.held.as_ref().is_some_and(|(held, ..)| held == site)
    }

    /// All points of a site are forgotten, and brought back a night or two later: all its moments are there again.
    pub async fn mistake(&mut self, night: i64) {
        if self.mistake.as_ref().is_some_and(|mistake| mistake.found_out <= night) {
            self.find_out().await;
        } else if self.mistake.is_none() && self.random.one_in(40) {
            self.make_a_mistake(night).await;
        }
    }

    /// The mistake is found out, if there is one.
    pub async fn find_out(&mut self) {
        if let Some(Mistake { site, points, .. }) = self.mistake.take() {
            let state = self.hosts[0].open(&site).await.unwrap().state().clone();
            let is_there = |id: &SnapshotId| state.forgotten.iter().any(|record| record.id == *id);
            let snapshots: Vec<SnapshotId> = points.into_iter().filter(is_there).collect();
            if !snapshots.is_empty() {
                self.commit(&site, CommitEvent::Undeleted { snapshots }).await;
                self.ledger.count(|counts| counts.mistakes += 1);
            }
        }
    }

    async fn make_a_mistake(&mut self, night: i64) {
        let (name, found_out) = (self.a_site(), night + 1 + self.random.below(2) as i64);
        let state = self.hosts[0].open(name).await.unwrap().state().clone();
        let points: Vec<SnapshotId> = state.snapshots.iter().map(|record| record.id).collect();
        if points.is_empty() || self.is_held(name) {
            return;
        }
        let now = midnight(night);
        let forgotten = Forgotten { at: now, till: Timestamp(now.0 + UNDELETE) };
        let (snapshots, reason) = (points.clone(), "the wrong one".to_owned());
        self.commit(name, CommitEvent::Forgot { snapshots, forgotten, reason }).await;
        self.mistake = Some(Mistake { site: name.to_owned(), points, found_out });
    }

    /// A site is erased, by a command that may have to be run twice, and begins anew: nothing of before can be read.
    pub async fn erase(&mut self, now: Timestamp) {
        if !self.random.one_in(80) {
            return;
        }
        let name = self.a_site();
        let host = &self.hosts[0];
        let clock = match host.repository.trusted_now(now).await {
            // Both died before a run was recorded: then nobody erases anything.
            Err(Error::Clock { .. }) => return,
            other => other.unwrap(),
        };
        if self.is_held(name) {
            return;
        }
        if self.random.one_in(2) {
            host.faults.at_next(1 + self.random.below(16) as usize, Failure::KillAfter);
        }
        loop {
            let erased = async {
                let mut site = host.open(name).await?;
                lifecycle::erase(&host.engine, &mut site, "asked for", &clock).await.map_err(of_repository)
            };
            let erased = erased.await;
            let is_killed = host.faults.is_killed();
            host.faults.heal();
            match erased {
                Ok(_) => break,
                Err(_) if is_killed => self.ledger.count(|counts| counts.crashes += 1),
                Err(error) => panic!("year {}: {error}", self.seed),
            }
        }
        self.ledger.erased(name, self.app.unseen_of(name));
        self.mistake.take_if(|mistake| mistake.site == name);
        // A process that captures learns of it when it begins anew.
        for host in &self.hosts {
            host.open(name).await.unwrap();
        }
        self.check_erased(name).await;
    }

    async fn check_erased(&self, name: &str) {
        let context = format!("year {}, {name}", self.seed);
        let repository = Repository::open(self.store.clone(), &self.key).await.unwrap();
        let site = repository.site(&site_id(name), None).await.unwrap().unwrap();
        assert!(site.state().snapshots.is_empty() && site.state().forgotten.is_empty(), "{context}");
        assert_eq!(site.keys_left().await.unwrap(), [""; 0], "{context}");
        let log = ChangeLog::open(&repository, &source()).await.unwrap();
        let Some(newest) = log.newest() else { return };
        let kept = log.kept(newest.epoch).await.unwrap();
        let Some(last) = newest.segment else { return };
        let segments = log.segments_kept(&kept, kept.first()..=last.number).await.unwrap();
        let mut tried = 0;
        for segment in segments.into_iter().rev() {
            let footer = log.footer(&segment).await.unwrap();
            let Some(block) = footer.block(site.id()).cloned().filter(|_| tried < TRIED_MAX) else { continue };
            let read = log.read_blocks(vec![SegmentBlock { segment, block }], |_, _| Ok::<(), String>(())).await;
            assert!(matches!(read, Err(Error::Erased { .. })), "{context}: read after it was erased: {read:?}");
            tried += 1;
        }
        self.ledger.count(|counts| counts.unreadable += tried as u64);
    }

    /// The store is as it was a commit ago: it is found out, and nothing is done to it.
    pub async fn lose_the_newest_commit(&self, now: Timestamp) {
        let [host, _] = &self.hosts;
        let site = host.open(SITES[0]).await.unwrap();
        let name = ObjectName::new(names::commit(&site.handle(), site.head().generation)).unwrap();
        let body = self.store.get(&name).await.unwrap();
        self.store.delete(&name).await.unwrap();
        let before = self.store.objects();
        let backup = host.back_up_all(&self.sites, (&self.app, &self.ledger), now).await;
        // Where the lost commit erased the site, the one before cannot be opened any more, or its key is gone.
        let is_damage = |error: &Error| error.fault() == Fault::Damage;
        assert!(backup.as_ref().is_err_and(is_damage), "{backup:?}");
        let prune = host.tidy(&self.names(), &self.ledger, now).await;
        let is_found_out = |error: &Error| is_damage(error) || matches!(error, Error::Clock { .. });
        assert!(prune.as_ref().is_err_and(is_found_out), "{prune:?}");
        assert_eq!(self.store.objects(), before, "something was done to a store that lost commits");
        self.store.replace(&name, body);
        self.lose_the_newest_segment(host, now).await;
    }

    /// The same of the log.
    async fn lose_the_newest_segment(&self, host: &Host, now: Timestamp) {
        let visit = Visit { segment: 1, begins_anew: false, compacts: Compacts::No };
        capture(host, (&self.app, &self.ledger), now, visit).await.unwrap();
        let log = ChangeLog::open(&host.repository, &source()).await.unwrap();
        let newest = log.newest().unwrap().segment.unwrap();
        let name = ObjectName::new(log.object_of(&newest)).unwrap();
        let body = self.store.get(&name).await.unwrap();
        self.store.delete(&name).await.unwrap();
        let before = self.store.objects();
        let captured = capture(host, (&self.app, &self.ledger), now, visit).await;
        assert!(matches!(captured, Err(Error::LogRolledBack { .. })), "{captured:?}");
        assert_eq!(self.store.objects(), before, "something was done to a log that lost segments");
        self.store.replace(&name, body);
    }

    /// Neither clock is believed that is a year past the newest run.
    pub async fn jump_both_clocks(&mut self, now: Timestamp) {
        let ahead = Timestamp(now.0 + 365 * DAY);
        self.store.set_clock(ahead);
        let [host, _] = &self.hosts;
        let before = self.store.objects();
        let refused = host.tidy(&self.names(), &self.ledger, ahead).await;
        assert!(matches!(refused, Err(Error::Clock { .. })), "{refused:?}");
        assert_eq!(self.store.objects(), before);
        self.store.set_clock(now);
    }
}
