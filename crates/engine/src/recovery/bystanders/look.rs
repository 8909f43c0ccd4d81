//! One look: digests of sites, a few at once; rows of all of them at one moment, files by their metadata.
//!
//! A site that was asked for and not reached in time is in the look all the same, without a digest: so a proof counts it
//! among those that could not be compared, and never passes for one that has nothing to compare.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lifeboat_model::{BystanderChoice, BystanderLook, BystanderPart, RecoveryId, SiteId, Timestamp};
use lifeboat_source::postgres::RowsLook;
use lifeboat_source::postgres::target::LiveRows;
use sha2::{Digest, Sha256};

use crate::backup::{Fingerprinter, probe_part};
use crate::fleet::AnySource;
use crate::{Engine, Error};

/// Sites that are looked at at once: each takes a connection, beside those of the applications.
const AT_ONCE: usize = 4;
/// A sample passes over sites that are not there; so many for each one that it wants, and no more.
const PASSED_OVER: usize = 4;

/// What to look at.
#[derive(Debug, Clone)]
pub struct BystanderRequest<'r> {
    pub recovery: RecoveryId,
    pub choice: BystanderChoice,
    /// Sites that are known, and not in the recovery.
    pub others: &'r BTreeSet<SiteId>,
    /// What is not read by then, from when the sources answer, is not compared; `None`: however long it takes.
    pub patience: Option<Duration>,
}

/// One source, as it is looked at.
enum Eye<'e> {
    Rows(&'e AnySource, RowsLook<'e>),
    Metadata(&'e AnySource),
    /// It cannot be.
    Shut(&'e AnySource),
}

/// One site's parts, and whether it has any, or may have: a part that cannot be read says nothing.
struct Seen {
    may_be_present: bool,
    parts: Vec<BystanderPart>,
}

/// Looks at bystanders that are chosen by the recovery's id. Blocks.
///
/// A source that cannot be looked at ends nothing: its parts are not compared.
pub fn look_at_bystanders(engine: &Engine, request: &BystanderRequest<'_>) -> Result<BystanderLook, Error> {
    let ranked = ranked(request.recovery, request.others);
    let (wanted, tried) = match request.choice {
        BystanderChoice::None => (0, 0),
        BystanderChoice::Sample(count) => (count as usize, (count as usize).saturating_mul(PASSED_OVER)),
        BystanderChoice::All => (ranked.len(), ranked.len()),
    };
    let tried = &ranked[..tried.min(ranked.len())];
    look(engine, tried, Present::First(wanted), request.patience, request.others.len() as u64)
}

/// Looks at the same sites. Those of which nothing was read have nothing to be compared with.
pub fn look_again(engine: &Engine, first: &BystanderLook) -> Result<BystanderLook, Error> {
    let was_read = first.parts.iter().filter(|part| part.digest.is_some());
    let sites: BTreeSet<&SiteId> = was_read.map(|part| &part.site).collect();
    let sites: Vec<&SiteId> = sites.into_iter().collect();
    let mut look = look(engine, &sites, Present::Any, None, first.others)?;
    // Nobody asked about those sources then.
    look.parts.retain(|part| first.parts.iter().any(|old| old.source == part.source));
    Ok(look)
}

/// The order in which bystanders are chosen: the same whenever it is asked for, and another one each time.
fn ranked(recovery: RecoveryId, others: &BTreeSet<SiteId>) -> Vec<&SiteId> {
    let rank = |site: &&SiteId| {
        let digest = Sha256::new_with_prefix(b"lifeboat bystander 1\0").chain_update(recovery.0);
        <[u8; 32]>::from(digest.chain_update(site.as_str()).finalize())
    };
    let mut ranked: Vec<&SiteId> = others.iter().collect();
    ranked.sort_by_cached_key(rank);
    ranked
}

/// Which of the sites are told of.
#[derive(Debug, Clone, Copy)]
enum Present {
    /// The first so many that are there.
    First(usize),
    /// All of them: one that is there no more has changed.
    Any,
}

/// Looks at sites in their order.
fn look(
    engine: &Engine,
    sites: &[&SiteId],
    present: Present,
    patience: Option<Duration>,
    others: u64,
) -> Result<BystanderLook, Error> {
    let looked_at = Timestamp::now();
    let wanted = match present {
        Present::First(count) => count,
        Present::Any => usize::MAX,
    };
    let at_once = AT_ONCE.min(wanted).min(sites.len());
    let eyes: Vec<Eye<'_>> = match at_once {
        0 => Vec::new(),
        _ => engine.fleet.sources().iter().map(|source| open_eye(source, at_once)).collect(),
    };
    // Servers that are slow to take a connection have cost none of the time for reading.
    let till = patience.map(|patience| Instant::now() + patience);
    let is_late = || till.is_some_and(|till| Instant::now() >= till);
    let (next, there) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let seen = Mutex::new(Vec::new());
    let work = || {
        while there.load(Ordering::Relaxed) < wanted && engine.check_cancelled().is_ok() && !is_late() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(site) = sites.get(number) else { return };
            let one = see(&eyes, site, till);
            there.fetch_add(usize::from(one.may_be_present), Ordering::Relaxed);
            seen.lock().unwrap_or_else(PoisonError::into_inner).push((number, one));
        }
    };
    std::thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(work))));
    engine.check_cancelled()?;
    let mut seen: Vec<(usize, Seen)> = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    seen.sort_by_key(|(number, _)| *number);
    let reached: BTreeSet<usize> = seen.iter().map(|(number, _)| *number).collect();
    let is_asked = |one: &Seen| one.may_be_present || matches!(present, Present::Any);
    let mut chosen: Vec<Seen> = seen.into_iter().map(|(_, one)| one).filter(is_asked).take(wanted).collect();
    let not_reached = (0..sites.len()).filter(|number| !reached.contains(number));
    let room = wanted.saturating_sub(chosen.len());
    chosen.extend(not_reached.take(room).map(|number| unread(engine, sites[number])));
    let mut parts: Vec<BystanderPart> = chosen.into_iter().flat_map(|one| one.parts).collect();
    parts.sort_by(|a, b| (&a.site, &a.source).cmp(&(&b.site, &b.source)));
    let moments = eyes.iter().filter_map(|eye| match eye {
        Eye::Rows(_, look) => look.moment().cloned(),
        Eye::Metadata(_) | Eye::Shut(_) => None,
    });
    Ok(BystanderLook { looked_at, others, moments: moments.collect(), parts })
}

/// A site that was asked for, and that nobody had the time to look at.
fn unread(engine: &Engine, site: &SiteId) -> Seen {
    let part = |source: &AnySource| BystanderPart { site: site.clone(), source: source.name().clone(), digest: None };
    Seen { may_be_present: true, parts: engine.fleet.sources().iter().map(part).collect() }
}

fn open_eye(source: &AnySource, at_once: usize) -> Eye<'_> {
    match source {
        AnySource::Postgres(rows) => match rows.look().and_then(|look| look.connect(at_once).map(|()| look)) {
            Ok(look) => Eye::Rows(source, look),
            Err(error) => {
                tracing::warn!(%error, source = %source.name(), "the bystanders' rows cannot be looked at");
                Eye::Shut(source)
            }
        },
        AnySource::Sqlite(_) | AnySource::Files(_) => Eye::Metadata(source),
    }
}

/// All parts of one site.
fn see(eyes: &[Eye<'_>], site: &SiteId, till: Option<Instant>) -> Seen {
    let mut may_be_present = false;
    let parts = eyes.iter().map(|eye| {
        let (source, seen) = match eye {
            Eye::Rows(source, look) => {
                let patience = till.map(|till| till.saturating_duration_since(Instant::now()));
                let rows = look.rows_of(site, patience).inspect_err(|error| {
                    tracing::warn!(%error, %site, "a bystander's rows cannot be looked at");
                });
                (*source, rows.ok().map(|rows| (rows.is_present, digest_of(&rows))))
            }
            Eye::Metadata(source) => {
                let mut digest = Fingerprinter::default();
                (*source, probe_part(source, site, &mut digest).map(|has| (has, digest.finish())))
            }
            Eye::Shut(source) => (*source, None),
        };
        may_be_present |= seen.is_none_or(|(has, _)| has);
        BystanderPart { site: site.clone(), source: source.name().clone(), digest: seen.map(|(_, digest)| digest) }
    });
    let parts = parts.collect();
    Seen { may_be_present, parts }
}

/// Over every table with a row, and every large object: a table that is made meanwhile, and empty, changes nothing.
fn digest_of(rows: &LiveRows) -> [u8; 32] {
    let mut digest = Sha256::new_with_prefix(b"lifeboat rows 1\0");
    for table in rows.tables.iter().filter(|table| table.rows > 0) {
        let name = table.name.as_str();
        digest.update((name.len() as u64).to_le_bytes());
        digest.update(name);
        digest.update(table.rows.to_le_bytes());
        digest.update(table.digests.in_order);
    }
    for object in &rows.objects {
        digest.update(object.oid.to_le_bytes());
        digest.update(object.size.to_le_bytes());
        digest.update(object.digest);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_the_same_each_time_and_another_one_for_another_recovery() {
        let others: BTreeSet<SiteId> = (0..1_000).map(|n| SiteId::new(format!("site-{n}")).unwrap()).collect();
        let first = |recovery| ranked(RecoveryId([recovery; 8]), &others)[..20].to_vec();
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
        // New sites change little of who is chosen.
        let mut more = others.clone();
        more.insert(SiteId::new("new").unwrap());
        let then: BTreeSet<&SiteId> = ranked(RecoveryId([1; 8]), &more)[..21].iter().copied().collect();
        assert!(first(1).into_iter().all(|site| then.contains(site)));
    }
}
