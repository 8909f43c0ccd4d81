//! Which sites are to be backed up now.
//!
//! ```text
//! site  its last moment ≤ now ─ done since? ─ yes ─▶ not before its next moment
//!                                    no ─ tried since? ─ no ─▶ due
//!                                                       yes ─▶ due again after 5m, 10m, 20m … or at its next moment
//! due   by policy, the most overdue first (age of its point against the RPO) ─▶ batches ─▶ as many as there is room for
//! ```
//!
//! However many firings were missed, a site is due once: what is asked is whether it was done since its last one. What failed
//! once is tried again among the others, for as a rule something passing was in the way. What failed more often has a batch of
//! its own, a small one, and the last place: it takes one of the places there are and never more, whatever keeps it from
//! succeeding.
//!
//! A clock is not believed blindly: what was done more than an hour from now is no fact, so that a clock that was wrong for
//! a while costs one more run, and never a night.
//!
//! Invariant (once-a-firing): a site that was done since its last moment is not due, and one that was not is due or waits for
//! its back-off, never longer than till its next moment.

use std::collections::BTreeMap;
use std::time::Duration;

use lifeboat_model::{SiteId, Timestamp};

use super::{Firings, Schedule, Turn};

/// The first pause after a failure, doubled with each one more, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(5 * 60);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3_600);
/// Hosts' clocks differ; by more than this, one of them was wrong.
const AHEAD_MAX: Duration = Duration::from_secs(3_600);
/// Sites that are tried again at once: they may take the longest of all.
const AGAIN_MAX: usize = 16;

/// What a policy says of when.
#[derive(Debug, Clone)]
pub struct DuePolicy {
    /// `None`: its sites are never due by themselves.
    pub schedule: Option<Schedule>,
    pub rpo: Duration,
}

/// What is known of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueSite {
    pub site: SiteId,
    /// Which of the policies is its.
    pub policy: usize,
    /// When it was last found as a point says, or a point of it was made.
    pub done_at: Option<Timestamp>,
    /// When it was last tried in vain, and how often since it was done; of what passes, once.
    pub failed_at: Option<Timestamp>,
    pub failures: u32,
    /// It is being backed up.
    pub is_running: bool,
}

/// How much may begin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    /// Batches that may begin.
    pub batches: usize,
    /// Sites of one batch.
    pub sites_max: usize,
    /// Policies of which a batch is under way: one at a time, so that none takes all places.
    pub running: Vec<usize>,
    /// A batch of what is tried again is under way.
    pub is_trying_again: bool,
}

/// Sites that are backed up together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub policy: usize,
    /// They failed before, and again.
    pub is_again: bool,
    /// The most overdue first.
    pub sites: Vec<SiteId>,
}

/// What is to be done, and when that may change by the clock alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    pub batches: Vec<Batch>,
    /// Sites that are due, those of `batches` among them.
    pub due: usize,
    /// `None`: nothing is ever due.
    pub look_again_at: Option<Timestamp>,
}

enum Verdict {
    /// Not before this.
    Later(Option<Timestamp>),
    Now {
        is_again: bool,
    },
}

/// Decides what to back up now. Takes time in proportion to the sites.
pub fn due(now: Timestamp, sites: &[DueSite], policies: &[DuePolicy], room: &Room) -> Decision {
    let firings: Vec<Option<Firings>> =
        policies.iter().map(|policy| policy.schedule.as_ref().map(|schedule| schedule.firings(now))).collect();
    let mut decision = Decision::default();
    let mut groups: BTreeMap<(bool, usize), Vec<(f64, &SiteId)>> = BTreeMap::new();
    for site in sites {
        let Some(Some(of_policy)) = firings.get(site.policy) else { continue };
        let turn = Turn::of(&site.site);
        match verdict(site, (of_policy, turn), now) {
            Verdict::Now { is_again } if !site.is_running => {
                decision.due += 1;
                let overdue = overdue(site, policies[site.policy].rpo, now);
                // What is tried again is one group, whose policy it may be.
                let group = if is_again { (true, 0) } else { (false, site.policy) };
                groups.entry(group).or_default().push((overdue, &site.site));
                let next = of_policy.next_of(turn, now);
                decision.look_again_at = earliest(decision.look_again_at, next);
            }
            Verdict::Now { .. } => {}
            Verdict::Later(at) => decision.look_again_at = earliest(decision.look_again_at, at),
        }
    }
    let mut batches: Vec<(f64, Batch)> = groups
        .into_iter()
        .filter(|((is_again, policy), _)| match is_again {
            true => !room.is_trying_again,
            false => !room.running.contains(policy),
        })
        .map(|((is_again, policy), sites)| batch(is_again, policy, sites, room))
        .collect();
    batches.sort_by(|(a, first), (b, second)| first.is_again.cmp(&second.is_again).then(b.total_cmp(a)));
    decision.batches = batches.into_iter().take(room.batches).map(|(_, batch)| batch).collect();
    decision
}

fn batch(is_again: bool, policy: usize, mut sites: Vec<(f64, &SiteId)>, room: &Room) -> (f64, Batch) {
    sites.sort_by(|(a, first), (b, second)| b.total_cmp(a).then_with(|| first.cmp(second)));
    let most = if is_again { room.sites_max.min(AGAIN_MAX) } else { room.sites_max };
    let worst = sites.first().map_or(0.0, |(overdue, _)| *overdue);
    let sites = sites.into_iter().take(most).map(|(_, site)| site.clone()).collect();
    (worst, Batch { policy, is_again, sites })
}

fn verdict(site: &DueSite, (firings, turn): (&Firings, Turn), now: Timestamp) -> Verdict {
    let next = firings.next_of(turn, now);
    let Some(moment) = firings.last_of(turn, now) else { return Verdict::Later(next) };
    let is_since = |at: Option<Timestamp>| believed(at, now).filter(|at| *at >= moment);
    if is_since(site.done_at).is_some() {
        return Verdict::Later(next);
    }
    match is_since(site.failed_at) {
        None => Verdict::Now { is_again: false },
        Some(failed_at) => {
            let again_at = after(failed_at, pause(site.failures));
            match again_at <= now {
                true => Verdict::Now { is_again: site.failures > 1 },
                false => Verdict::Later(earliest(next, Some(again_at))),
            }
        }
    }
}

/// A fact of the future is one of a host whose clock is a little ahead, or no fact.
fn believed(at: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    at.filter(|at| at.since(now) <= AHEAD_MAX)
}

fn pause(failures: u32) -> Duration {
    let doubled = 1u32.checked_shl(failures.saturating_sub(1)).filter(|times| *times > 0);
    doubled.and_then(|times| FIRST_PAUSE.checked_mul(times)).map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
}

/// The age of its newest point in RPOs; of a site that has none, more than of any other.
fn overdue(site: &DueSite, rpo: Duration, now: Timestamp) -> f64 {
    match believed(site.done_at, now) {
        None => f64::INFINITY,
        Some(done_at) => now.since(done_at).as_secs_f64() / rpo.as_secs_f64().max(1.0),
    }
}

fn after(at: Timestamp, pause: Duration) -> Timestamp {
    at.saturating_add(pause)
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}
