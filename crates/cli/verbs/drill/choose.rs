//! Which sites are rehearsed: those that are named, those that were proven longest ago, or some by chance.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use futures_util::stream::{self, StreamExt};
use lifeboat_model::{RecoveryId, SiteId, SnapshotId, Timestamp};

use crate::args::DrillArgs;
use crate::open::Open;
use crate::verbs::sites::{Known, Line, PARALLEL, line_of};
use crate::{CliError, Context, suggest};

/// A site to be rehearsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub site: SiteId,
    /// Its newest good point, and till when that is known to be the site.
    pub latest: Option<SnapshotId>,
    pub good_till: Option<Timestamp>,
    /// When a drill proved it last.
    pub proven_at: Option<Timestamp>,
}

impl Chosen {
    fn of(line: Line) -> Self {
        let proven_at = line.summary.as_ref().and_then(|summary| summary.proven).map(|proven| proven.at);
        let latest = line.summary.as_ref().and_then(|summary| summary.latest);
        Self { site: line.site, latest, good_till: line.good_till, proven_at }
    }
}

pub(super) async fn sites(
    args: &DrillArgs,
    drill: RecoveryId,
    open: &Open,
    context: &Context,
) -> Result<Vec<Chosen>, CliError> {
    let known = Known::gather(open, context).await?;
    let wanted: Vec<SiteId> = match args.sites.is_empty() {
        true => known.sites().into_iter().cloned().collect(),
        false => args.sites.clone(),
    };
    if let Some(twice) = twice(&args.sites) {
        return Err(CliError::usage(format!("a site is named twice: site=`{twice}`")).with_hint("name each site once"));
    }
    let lines = stream::iter(wanted.iter().map(async |site| line_of(site, &known, open).await)).buffered(PARALLEL);
    let lines: Vec<Line> = lines.collect::<Vec<_>>().await.into_iter().collect::<Result<_, _>>()?;
    // What was never backed up cannot come back, and `sites` and `status` say so.
    let (backed, never): (Vec<Line>, Vec<Line>) = lines.into_iter().partition(|line| line.summary.is_some());
    if let Some(never) = never.first().filter(|_| !args.sites.is_empty()) {
        return Err(match never.sources.is_empty() {
            true => suggest::unknown_site(&never.site, known.sites()),
            false => CliError::usage(format!("the site was never backed up: site=`{}`", never.site))
                .with_hint(format!("make its first point with `lifeboat backup {}`", never.site)),
        });
    }
    let all: Vec<Chosen> = backed.into_iter().map(Chosen::of).collect();
    let chosen = match (args.sample, args.recovery) {
        (Some(count), _) => longest_ago(all, count as usize, drill),
        (_, Some(count)) => by_chance(all, count as usize, drill),
        (None, None) => all,
    };
    match chosen.is_empty() {
        true => Err(CliError::usage("there is no site to rehearse: nothing was ever backed up".to_owned())
            .with_hint("begin with `lifeboat backup --all`")),
        false => Ok(chosen),
    }
}

fn twice(sites: &[SiteId]) -> Option<&SiteId> {
    let mut seen = HashSet::new();
    sites.iter().find(|site| !seen.insert(*site))
}

/// Those that were never proven first; of equals any, another time others.
fn longest_ago(mut all: Vec<Chosen>, count: usize, drill: RecoveryId) -> Vec<Chosen> {
    all.sort_by_cached_key(|chosen| (chosen.proven_at, lot(&chosen.site, drill)));
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

    fn chosen(site: &str, proven_at: Option<i64>) -> Chosen {
        Chosen { site: SiteId::new(site).unwrap(), good_till: None, latest: None, proven_at: proven_at.map(Timestamp) }
    }

    #[test]
    fn a_sample_is_of_those_that_were_proven_longest_ago_and_never() {
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
