//! Which sites are to be read back now, so that every byte is read within so many days.
//!
//! A site is read as a whole, and whoever was read longest ago is next. What was read is waited for by its share of the
//! time: a site with a tenth of all bytes takes a tenth of it. So the store is read evenly, and a little faster than it must
//! be, for a daemon is down now and then. A site whose time is over is read at once.

use std::time::Duration;

use lifeboat_model::{SiteId, Timestamp};

use super::firing::hash;

/// All is read within this share of the time.
const PACE: f64 = 0.9;
/// Time that was not used is made up for as far as this.
const MADE_UP_MAX: Duration = Duration::from_secs(3_600);
/// Sites that one look gives: whatever stops the daemon stops between two of them.
const SITES_MAX: usize = 64;

/// A site with stored data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSite {
    pub site: SiteId,
    /// About what is stored of it.
    pub bytes: u64,
    /// When all of it was read last.
    pub read_at: Option<Timestamp>,
}

/// What is to be read, and when to look again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// One after the other.
    pub sites: Vec<SiteId>,
    /// `None`: there is nothing to be read.
    pub look_again_at: Option<Timestamp>,
}

/// Decides what to read back now, if all is to be read `every` so often.
pub fn to_read(now: Timestamp, every: Duration, sites: &[ReadSite]) -> Reading {
    // Each counts for something: many small sites are not read all at once.
    let weight = |site: &ReadSite| site.bytes as f64 + 1.0;
    let total: f64 = sites.iter().map(weight).sum();
    let read_at = |site: &ReadSite| site.read_at.filter(|at| *at <= now);
    let mut order: Vec<&ReadSite> = sites.iter().collect();
    order.sort_by_cached_key(|site| (read_at(site), hash(&site.site)));
    let share = |site: &ReadSite| every.mul_f64(PACE * weight(site) / total);
    let newest = sites.iter().max_by_key(|site| read_at(site)).filter(|site| read_at(site).is_some());
    // What was read last is waited for; then as many follow as fit into the time since.
    let (mut left, mut wait) = match newest.and_then(|site| Some((site, read_at(site)?))) {
        None => (Duration::ZERO, Duration::ZERO),
        Some((site, at)) => {
            let (since, wait) = (now.since(at), share(site));
            (since.saturating_sub(wait).min(MADE_UP_MAX), wait.saturating_sub(since))
        }
    };
    let mut reading = Reading::default();
    for site in order {
        let is_over = read_at(site).is_some_and(|at| now.since(at) >= every);
        let is_next = wait.is_zero();
        if reading.sites.len() == SITES_MAX || !(is_over || is_next) {
            break;
        }
        reading.sites.push(site.site.clone());
        if is_next {
            match left.checked_sub(share(site)) {
                Some(rest) => left = rest,
                None => wait = share(site).saturating_sub(left).max(Duration::from_secs(1)),
            }
        }
    }
    let oldest = sites.iter().filter_map(read_at).min().map(|at| at.saturating_add(every));
    let paced = now.saturating_add(wait);
    reading.look_again_at = (!sites.is_empty()).then(|| oldest.map_or(paced, |oldest| oldest.min(paced)).max(now));
    reading
}
