//! Which sites are rehearsed: those that are named, those that were proven longest ago, or some by chance.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use futures_util::stream::{self, StreamExt};
use lifeboat_model::{Fault, RecoveryId, SiteId, Timestamp};

use crate::args::DrillArgs;
use crate::open::Open;
use crate::verbs::assess::{self, Reach};
use crate::verbs::never_backed_up;
use crate::verbs::sites::{Known, PARALLEL, line_of};
use crate::{CliError, Context, suggest};

/// A site to be rehearsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub site: SiteId,
    /// The newest moment that all of it can be put back to; `None`: nobody asks, for no source lists it any more.
    pub reaches_till: Option<Timestamp>,
    /// When a drill proved it last, and when it was last in one.
    pub proven_at: Option<Timestamp>,
    drilled_at: Option<Timestamp>,
}

impl Chosen {
    fn of(Reach { line, till, is_gone }: Reach) -> Self {
        let proven_at = line.summary.as_ref().and_then(|summary| summary.proven).map(|proven| proven.at);
        let failed_at = line.summary.as_ref().and_then(|summary| summary.drill_failed).map(|failed| failed.at);
        let reaches_till = till.filter(|_| !is_gone);
        Self { site: line.site, reaches_till, proven_at, drilled_at: proven_at.max(failed_at) }
    }
}

/// Those that are rehearsed, and those whose state in the bucket cannot be read: whoever drew one of them is told.
pub(super) async fn sites(
    args: &DrillArgs,
    drill: RecoveryId,
    open: &Open,
    context: &Context,
) -> Result<(Vec<Chosen>, Vec<(SiteId, CliError)>), CliError> {
    if let Some(twice) = twice(&args.sites) {
        return Err(CliError::usage(format!("a site is named twice: site=`{twice}`")).with_hint("name each site once"));
    }
    let known = Known::gather(open, context).await?;
    known.warn_of_failed(&context.output);
    let sources = assess::captured(open).await?;
    let wanted: Vec<SiteId> = match args.sites.is_empty() {
        true => known.sites().into_iter().cloned().collect(),
        false => args.sites.clone(),
    };
    let ask = async |site: SiteId| {
        let line = line_of(&site, &known, open).await?;
        // What was never backed up cannot come back, and `sites` and `status` say so.
        match line.summary.is_some() {
            true => Ok(Some(Chosen::of(assess::reach(line, (&sources, &known), open).await?))),
            false if args.sites.is_empty() => Ok(None),
            false if line.sources.is_empty() => Err(suggest::unknown_site(&site, known.sites())),
            false => Err(never_backed_up(&site)),
        }
    };
    let asked = stream::iter(wanted.into_iter().map(async |site| (site.clone(), ask(site).await))).buffered(PARALLEL);
    let (mut all, mut damaged) = (Vec::new(), Vec::new());
    for (site, asked) in asked.collect::<Vec<_>>().await {
        match asked {
            Ok(chosen) => all.extend(chosen),
            // The damage of one site must not keep the others from being proven.
            Err(error) if error.fault == Fault::Damage => damaged.push((site, error)),
            Err(error) => return Err(error),
        }
    }
    // Damage is what a sample is there to find.
    let chosen = match (args.sample, args.recovery) {
        (Some(count), _) => longest_ago(all, (count as usize).saturating_sub(damaged.len()), drill),
        (_, Some(count)) => by_chance(all, (count as usize).saturating_sub(damaged.len()), drill),
        (None, None) => all,
    };
    match chosen.is_empty() && damaged.is_empty() {
        true => Err(CliError::usage("there is no site to rehearse: nothing was ever backed up".to_owned())
            .with_hint("begin with `lifeboat backup --all`")),
        false => Ok((chosen, damaged)),
    }
}

fn twice(sites: &[SiteId]) -> Option<&SiteId> {
    let mut seen = HashSet::new();
    sites.iter().find(|site| !seen.insert(*site))
}

/// Those that were never in a drill first, however it ended: what cannot be proven must not keep the others waiting. Of
/// equals any, another time others.
fn longest_ago(mut all: Vec<Chosen>, count: usize, drill: RecoveryId) -> Vec<Chosen> {
    all.sort_by_cached_key(|chosen| (chosen.drilled_at, lot(&chosen.site, drill)));
    all.truncate(count);
    all
}

fn by_chance(mut all: Vec<Chosen>, count: usize, drill: RecoveryId) -> Vec<Chosen> {
    all.sort_by_cached_key(|chosen| lot(&chosen.site, drill));
    all.truncate(count);
    all
}

/// What a drill, which has an id of its own by chance, draws for a site.
fn lot(site: &SiteId, drill: RecoveryId) -> u64 {
    let mut hasher = DefaultHasher::new();
    (drill.0, site.as_str()).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(site: &str, drilled_at: Option<i64>) -> Chosen {
        Chosen {
            site: SiteId::new(site).unwrap(),
            reaches_till: None,
            proven_at: None,
            drilled_at: drilled_at.map(Timestamp),
        }
    }

    #[test]
    fn a_sample_is_of_those_that_were_drilled_longest_ago_and_never() {
        let all =
            vec![chosen("new", Some(30)), chosen("old", Some(10)), chosen("never", None), chosen("mid", Some(20))];
        let names = |count| -> Vec<String> {
            longest_ago(all.clone(), count, RecoveryId([1; 8])).iter().map(|chosen| chosen.site.to_string()).collect()
        };
        assert_eq!(names(2), ["never", "old"]);
        assert_eq!(names(9), ["never", "old", "mid", "new"]);
    }

    #[test]
    fn another_drill_draws_other_sites() {
        let all: Vec<Chosen> = (0..100).map(|number| chosen(&format!("site-{number}"), None)).collect();
        let drawn = |drill: u8| by_chance(all.clone(), 10, RecoveryId([drill; 8]));
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        assert_eq!(drawn(1).len(), 10);
    }
}
