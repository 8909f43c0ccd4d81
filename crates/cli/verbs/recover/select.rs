//! Which sites a recovery is for: named, listed in a file, or those that vanished.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lifeboat_engine::{CaseAsked, DamageRequest, Restorable, find_damage};
use lifeboat_model::{CaseAim, PointInTime, RunOutcome, SiteId, SnapshotId, Timestamp};

use super::super::remembered::Remembered;
use crate::args::RecoverPlanArgs;
use crate::open::Open;
use crate::{CliError, Context, bad_point, suggest};

/// What a site has that nobody gave a priority: there is room before it and behind it.
const PRIORITY: u32 = 100;
/// Wrong lines that an error names.
const NAMED_MAX: usize = 5;
/// Runs that are looked through for who was there.
const RUNS_MAX: usize = 400;

/// A line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub site: SiteId,
    pub priority: u32,
    pub deadline: Option<Timestamp>,
}

impl Wanted {
    fn of(site: SiteId) -> Self {
        Self { site, priority: PRIORITY, deadline: None }
    }
}

/// The sites that were asked for: every one known, none twice, as many as expected.
pub(super) async fn wanted(args: &RecoverPlanArgs, open: &Open, context: &Context) -> Result<Vec<Wanted>, CliError> {
    let wanted = match (&args.list, &args.vanished_since) {
        (Some(file), _) => read_list(&context.path(file))?,
        (None, Some(since)) => {
            let since = time(since, "--vanished-since")?;
            vanished_since(since, open).await?.into_iter().map(Wanted::of).collect()
        }
        (None, None) => args.sites.iter().cloned().map(Wanted::of).collect(),
    };
    refuse_twice(&wanted)?;
    refuse_strangers(&wanted, open).await?;
    if wanted.len() != args.expect {
        return Err(CliError::usage(format!(
            "another number of sites than expected: found=`{}`, expected=`{}`",
            wanted.len(),
            args.expect
        ))
        .with_hint("look at the list: who is in it that should not be, or is missing? Then say how many are meant with --expect"));
    }
    Ok(wanted)
}

/// What of each site is to come back.
pub(super) async fn cases(
    args: &RecoverPlanArgs,
    wanted: Vec<Wanted>,
    open: &Open,
) -> Result<Vec<CaseAsked>, CliError> {
    let mut aims = match args.before_damage {
        true => before_damage(&wanted, time(&args.since, "--since")?, open).await?,
        false => {
            let point = super::super::point(args.at.as_deref())?;
            wanted.iter().map(|wanted| (wanted.site.clone(), point.clone())).collect()
        }
    };
    let asked = wanted.into_iter().filter_map(|Wanted { site, priority, deadline }| {
        let aim = CaseAim::Point(aims.remove(&site)?);
        Some(CaseAsked { site, aim, priority, deadline })
    });
    Ok(asked.collect())
}

fn time(text: &str, option: &str) -> Result<Timestamp, CliError> {
    match PointInTime::parse(text, Timestamp::now()).map_err(|error| bad_point(&error))? {
        PointInTime::Time(time) => Ok(time),
        _ => Err(CliError::usage(format!("not a time: {option}=`{text}`"))
            .with_hint("use RFC 3339 with a zone (2022-04-05T07:38:00Z) or a duration ago such as `2h`")),
    }
}

fn read_list(file: &Path) -> Result<Vec<Wanted>, CliError> {
    let text = std::fs::read_to_string(file).map_err(|io| {
        CliError::usage(format!("cannot read the list of sites: file=`{}`, reason=`{io}`", file.display()))
            .with_hint("name a file with a site a line")
    })?;
    parse_list(&text).map_err(|(line, detail)| {
        CliError::usage(format!("a line of the list is wrong: file=`{}`, line=`{line}`, {detail}", file.display()))
            .with_hint("a line is SITE, or SITE,PRIORITY, or SITE,PRIORITY,DEADLINE (2022-04-05T12:00:00Z); `#` begins a comment; nothing was planned")
    })
}

/// A site whose id has a comma is named on the command line.
fn parse_list(text: &str) -> Result<Vec<Wanted>, (usize, String)> {
    let mut wanted = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |detail: String| (number, detail);
        let mut words = line.splitn(3, ',').map(str::trim);
        let site = SiteId::new(words.next().unwrap_or_default()).map_err(|error| wrong(error.to_string()))?;
        let priority = match words.next() {
            None | Some("") => PRIORITY,
            Some(word) => word.parse().map_err(|_| wrong(format!("not a priority: priority=`{word}`")))?,
        };
        let deadline = match words.next() {
            None | Some("") => None,
            Some(word) => Some(Timestamp::parse(word).map_err(|error| wrong(error.to_string()))?),
        };
        wanted.push(Wanted { site, priority, deadline });
    }
    Ok(wanted)
}

fn refuse_twice(wanted: &[Wanted]) -> Result<(), CliError> {
    let mut seen = BTreeSet::new();
    match wanted.iter().find(|wanted| !seen.insert(&wanted.site)) {
        None => Ok(()),
        Some(twice) => Err(CliError::usage(format!("a site is named twice: site=`{}`", twice.site))
            .with_hint("name each once; nothing was planned")),
    }
}

/// A list with anything in it that is not a known site is refused whole: it may be a list of something else.
async fn refuse_strangers(wanted: &[Wanted], open: &Open) -> Result<(), CliError> {
    let remembered = Remembered::gather(open).await?;
    let known = remembered.sites();
    let mut strangers = Vec::new();
    for Wanted { site, .. } in wanted.iter().filter(|wanted| !known.contains(&wanted.site)) {
        // The bucket has the last word, and is asked for those alone.
        if open.engine.repository.newest_generation(site).await?.0 == 0 {
            strangers.push(site);
        }
    }
    let Some(first) = strangers.first() else { return Ok(()) };
    let what = match () {
        () if open.config.sources.iter().any(|source| source.name.as_str() == first.as_str()) => {
            "that is the name of a source, and no site"
        }
        () if SnapshotId::parse(first.as_str()).is_ok() => {
            "that looks like the id of a snapshot or a restore, and is no site"
        }
        () => "nothing was ever backed up under that id: it may be the id of something else, such as an app",
    };
    let named: Vec<&str> = strangers.iter().take(NAMED_MAX).map(|site| site.as_str()).collect();
    let more = if strangers.len() > NAMED_MAX { ", …" } else { "" };
    let near = suggest::unknown_site(first, known).hint.unwrap_or_default();
    Err(CliError::usage(format!(
        "the list is refused whole: {} of {} are no sites: {what}: sites=`{}{more}`",
        strangers.len(),
        wanted.len(),
        named.join(", ")
    ))
    .with_hint(format!("{near}; nothing was planned")))
}

/// Sites that some run found at that time or later, and that no source lists now, or only orphans of.
async fn vanished_since(since: Timestamp, open: &Open) -> Result<Vec<SiteId>, CliError> {
    let health = tokio::task::block_in_place(|| open.engine.fleet.look(&Default::default(), true));
    if let Some(failed) = health.iter().find(|source| source.failure.is_some()) {
        let reason = failed.failure.as_ref().map(|(detail, _)| detail.clone()).unwrap_or_default();
        return Err(CliError::operator(format!(
            "nobody can tell who vanished while a source has failed: source=`{}`, {reason}",
            failed.source
        ))
        .with_hint("mend the source first, or name the sites in a list with --sites FILE"));
    }
    let mut listed: BTreeSet<SiteId> = health.into_iter().flat_map(|source| source.sites).collect();
    // Rows that a script forgot do not make a customer.
    let orphaned = tokio::task::block_in_place(|| open.engine.fleet.orphaned())?;
    listed.retain(|site| !orphaned.contains(site));
    let mut there = BTreeSet::new();
    for run in open.engine.repository.newest_runs(RUNS_MAX).await? {
        let was_there = |outcome: &RunOutcome| matches!(outcome, RunOutcome::Published | RunOutcome::Unchanged);
        there.extend(run.sites.into_iter().filter(|site| was_there(&site.outcome)).map(|site| site.site));
        if run.finished_at < since {
            break; // the newest run before that time: who was there then
        }
    }
    Ok(there.difference(&listed).cloned().collect())
}

/// The last good moment of each site, as `find-damage` tells it.
async fn before_damage(
    wanted: &[Wanted],
    since: Timestamp,
    open: &Open,
) -> Result<BTreeMap<SiteId, PointInTime>, CliError> {
    let report = find_damage(&open.engine, &DamageRequest { since, source: None }).await?;
    if let Some((source, error)) = report.failed.into_iter().next() {
        let error = CliError::of(&error);
        return Err(CliError {
            message: format!("a change log cannot be read: source=`{source}`: {}", error.message),
            ..error
        });
    }
    let now = Timestamp::now();
    let mut found: BTreeMap<SiteId, PointInTime> = BTreeMap::new();
    // Runs first: what a log says of the same site is nearer to the moment.
    for damage in &report.runs {
        if let Some((snapshot, _)) = damage.last_good {
            found.insert(damage.site.clone(), PointInTime::Snapshot(snapshot));
        }
    }
    for damage in report.incidents.iter().rev().flat_map(|incident| &incident.sites) {
        let at = match &damage.restorable {
            Restorable::Unknown | Restorable::Exact => damage.last_good.at(),
            Restorable::Earlier { at, .. } => at.clone(),
            Restorable::Never => continue,
        };
        found.insert(damage.site.clone(), PointInTime::parse(&at, now).map_err(|error| bad_point(&error))?);
    }
    let without: Vec<&str> =
        wanted.iter().filter(|wanted| !found.contains_key(&wanted.site)).map(|wanted| wanted.site.as_str()).collect();
    match without.first() {
        None => Ok(found),
        Some(_) => {
            let more = if without.len() > NAMED_MAX { ", …" } else { "" };
            let named = without.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
            Err(CliError::operator(format!(
                "no damage was found in that time, or no good point before it: sites=`{named}{more}`, since=`{since}`"
            ))
            .with_hint("look further back with --since, see `lifeboat find-damage`, or give one moment with --at"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_a_site_a_line_with_order_and_deadline() {
        let text = "# tier 1\nacme,1,2026-11-27T12:00:00Z\n\n globex , 2 \ninitech\nsite with spaces,,\n";
        let wanted = parse_list(text).unwrap();
        let told: Vec<_> = wanted.iter().map(|w| (w.site.as_str(), w.priority, w.deadline.is_some())).collect();
        let want = [
            ("acme", 1, true),
            ("globex", 2, false),
            ("initech", PRIORITY, false),
            ("site with spaces", PRIORITY, false),
        ];
        assert_eq!(told, want);
        let check = |text: &str, line: usize, part: &str| {
            let (at, detail) = parse_list(text).unwrap_err();
            assert!(at == line && detail.contains(part), "{at} {detail}");
        };
        check("acme\nglobex,first", 2, "not a priority: priority=`first`");
        check("acme,1,tomorrow", 1, "RFC 3339");
        check("acme,1,2026-11-27T12:00:00", 1, "zone");
        check(",1", 1, "empty");
    }
}
