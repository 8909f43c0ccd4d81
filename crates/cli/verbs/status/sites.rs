//! The sites: each in JSON, those that are not as promised in the table.

use std::collections::BTreeMap;

use lifeboat_control::SiteSummary;
use lifeboat_control::alarms::{AlarmNote, SiteFacts};
use lifeboat_model::{SiteId, SourceName, Timestamp};
use serde_json::Value;

use crate::config::Config;
use crate::output::{Align, Output, Table, ago, count, duration};
use crate::verbs::assess::{Assessment, Gone, SiteStatus};

const DAY_SECONDS: u64 = 86_400;

pub fn tell(found: &Assessment, alarms: &[AlarmNote], (tells_all, config): (bool, &Config), output: &Output) {
    let now = found.facts.at;
    let mut table = Table::new(&[
        ("SITE", Align::Left),
        ("LAST GOOD POINT", Align::Left),
        ("RESTORABLE TILL", Align::Left),
        ("RPO", Align::Left),
        ("PROVEN", Align::Left),
        ("STATE", Align::Left),
    ]);
    let worst = worst_of_sites(alarms);
    let facts: BTreeMap<&SiteId, &SiteFacts> = found.facts.sites.iter().map(|facts| (&facts.site, facts)).collect();
    for site in &found.sites {
        let name = site.line.site.as_str();
        let facts = facts.get(&site.line.site).copied();
        let trouble = worst.get(name).map(|alarm| alarm.kind.title());
        let state = site.state(trouble, now);
        output.event("site", to_json(site, facts, (&state, config), now));
        let holds = site.line.summary.as_ref().is_some_and(|summary| summary.holds > 0 || summary.has_intent);
        if tells_all || holds || trouble.is_some() {
            let time = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |time| ago(time, now));
            table.row([
                name.to_owned(),
                time(site.line.good_till),
                time(site.restorable_till),
                duration(site.line.rpo),
                proven(site, now),
                state,
            ]);
        }
    }
    if !table.is_empty() {
        output.line("");
        table.lines().iter().for_each(|line| output.line(line));
    }
    if let Some(gone) = found.sites.iter().find(|site| site.gone == Some(Gone::Alarm)) {
        let site = &gone.line.site;
        let is_only_born = gone.line.summary.as_ref().is_some_and(SiteSummary::is_only_born);
        let at = if is_only_born { " --at TIME" } else { "" };
        output.say(format!(
            "Gone by mistake: `lifeboat restore {site}{at}`. On purpose: `lifeboat backup {site} --accept-loss`, once."
        ));
    }
}

/// The worst alarm of each site that has one which is more than a notice.
fn worst_of_sites(alarms: &[AlarmNote]) -> BTreeMap<&str, &AlarmNote> {
    let breaches = alarms.iter().filter(|alarm| alarm.severity.is_breach());
    // They come worst first, and the last of a key stays.
    breaches.rev().filter_map(|alarm| Some((alarm.site.as_deref()?, alarm))).collect()
}

fn proven(site: &SiteStatus, now: Timestamp) -> String {
    match site.line.summary.as_ref().and_then(|summary| summary.proven) {
        None => "never".to_owned(),
        Some(proven) if proven.took > site.line.rto => {
            format!("{}, in {}, RTO {}", ago(proven.at, now), duration(proven.took), duration(site.line.rto))
        }
        Some(proven) => format!("{}, in {}", ago(proven.at, now), duration(proven.took)),
    }
}

fn to_json(site: &SiteStatus, facts: Option<&SiteFacts>, (state, config): (&str, &Config), now: Timestamp) -> Value {
    let mut object = site.line.to_json(now);
    object["restorable_till"] = site.restorable_till.map(|till| till.to_string()).into();
    object["within_rpo"] = (!site.is_late(now)).into();
    object["without_base"] = site.without_base.iter().map(SourceName::as_str).collect::<Vec<_>>().into();
    object["gone"] = matches!(site.gone, Some(Gone::Alarm | Gone::Accepted)).into();
    object["loss_accepted"] = (site.gone == Some(Gone::Accepted)).into();
    object["state"] = state.into();
    object["policy"] = config.policy_name_of(&site.line.site).into();
    object["within_rto"] = facts.and_then(SiteFacts::is_within_rto).into();
    object["verified_at"] = facts.and_then(SiteFacts::verified_at).map(|at| at.to_string()).into();
    let unproven_since = facts.and_then(SiteFacts::unproven_since);
    object["restore_debt_days"] = unproven_since.map(|since| now.since(since).as_secs() / DAY_SECONDS).into();
    object
}

/// The last line: may I sleep?
pub fn tell_sum(sites: &[SiteStatus], alarms: &[AlarmNote], output: &Output) {
    let worst = worst_of_sites(alarms);
    let is_breached = |site: &&SiteStatus| worst.contains_key(site.line.site.as_str());
    let breached = sites.iter().filter(is_breached).count() as u64;
    let others = alarms.iter().filter(|alarm| alarm.severity.is_breach() && alarm.site.is_none()).count() as u64;
    output.line("");
    let total = count(sites.len() as u64);
    output.line(match (breached, others) {
        (0, 0) => format!("{total} sites, all within their RPO."),
        (0, _) => format!("{total} sites, all within their RPO; {} other alarms.", count(others)),
        (_, 0) => format!("{total} sites, {} not as promised.", count(breached)),
        _ => format!("{total} sites, {} not as promised. {} other alarms.", count(breached), count(others)),
    });
}
