//! The plan of a forget, in words: of one site every point with its reasons, of many those that lose some.

use lifeboat_control::retention::Reason;
use lifeboat_model::Timestamp;
use serde_json::json;

use super::SiteForget;
use crate::Context;
use crate::open::Open;
use crate::output::{Align, Table, ago, count, plural};

pub fn plan(plan: &[SiteForget], open: &Open, (dropped, hash): (u64, &str), context: &Context) {
    let output = &context.output;
    let now = Timestamp::now();
    for site in plan {
        for decision in &site.decisions {
            let is_kept = !site.drop.contains(&decision.id);
            output.event(
                "point",
                json!({
                    "site": site.site.as_str(),
                    "snapshot_id": decision.id.to_string(),
                    "at": decision.at.to_string(),
                    "kept": is_kept,
                    "reasons": decision.reasons.iter().map(|reason| name(*reason)).collect::<Vec<_>>(),
                    "held": site.held.is_some(),
                }),
            );
        }
    }
    let mut table = Table::new(&[
        ("SITE", Align::Left),
        ("SNAPSHOT", Align::Left),
        ("TIME", Align::Left),
        ("AGE", Align::Left),
        ("", Align::Left),
        ("WHY", Align::Left),
    ]);
    let tells_all = plan.len() == 1 || context.global.verbose > 0;
    for site in plan {
        for decision in site.decisions.iter().filter(|decision| tells_all || site.drop.contains(&decision.id)) {
            let goes = site.drop.contains(&decision.id);
            let reasons: Vec<&str> = decision.reasons.iter().map(|reason| words(*reason)).collect();
            let why = match (goes, decision.is_kept()) {
                (true, true) => format!("named, though {}", reasons.join(", ")),
                (true, false) => "no rule keeps it".to_owned(),
                (false, _) => reasons.join(", "),
            };
            table.row([
                site.site.to_string(),
                decision.id.to_string(),
                decision.at.to_string(),
                ago(decision.at, now),
                if goes { "forget" } else { "keep" }.to_owned(),
                why,
            ]);
        }
        if let Some(held) = site.held.as_ref().filter(|_| tells_all) {
            output.line(format!("{} is {held}", site.site));
        }
    }
    if !output.is_log() {
        table.lines().iter().for_each(|line| output.line(line));
    }
    let kept: usize = plan.iter().map(|site| site.decisions.len() - site.drop.len()).sum();
    let undelete =
        plan.iter().filter(|site| !site.drop.is_empty()).map(|site| open.config.policy_of(&site.site).undelete);
    let undelete = undelete
        .min()
        .map_or_else(String::new, |least| format!("; they can be brought back for {}", crate::output::duration(least)));
    output.line(match dropped {
        0 => format!("{}: {} kept, none forgotten.", plural(plan.len() as u64, "site"), plural(kept as u64, "point")),
        _ => format!(
            "{}: {} kept, {} forgotten{undelete}. Plan {hash}.",
            plural(plan.len() as u64, "site"),
            plural(kept as u64, "point"),
            count(dropped)
        ),
    });
}

fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::Held => "held",
        Reason::OpenRestore => "an open restore needs it",
        Reason::Newest => "the newest",
        Reason::NothingBetter => "there is no better one",
        Reason::InTheFuture => "in the future, by this clock",
        Reason::Window => "in the window",
        Reason::BaseOfWindow => "the window begins on it",
        Reason::Undo => "a restore can be undone with it",
        Reason::Last => "one of the last",
        Reason::Within => "young enough",
        Reason::Hourly => "of its hour",
        Reason::Daily => "of its day",
        Reason::Weekly => "of its week",
        Reason::Monthly => "of its month",
        Reason::Yearly => "of its year",
    }
}

fn name(reason: Reason) -> &'static str {
    match reason {
        Reason::Held => "held",
        Reason::OpenRestore => "open_restore",
        Reason::Newest => "newest",
        Reason::NothingBetter => "nothing_better",
        Reason::InTheFuture => "in_the_future",
        Reason::Window => "window",
        Reason::BaseOfWindow => "base_of_window",
        Reason::Undo => "undo",
        Reason::Last => "last",
        Reason::Within => "within",
        Reason::Hourly => "hourly",
        Reason::Daily => "daily",
        Reason::Weekly => "weekly",
        Reason::Monthly => "monthly",
        Reason::Yearly => "yearly",
    }
}
