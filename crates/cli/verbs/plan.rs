//! A restore plan, for people and for programs.

use lifeboat_engine::{
    Change, Replayed, RestorePlan, RestorePoint, RestoreRequest, RestoreTarget, RowsCounted, RowsLimit,
};
use lifeboat_model::{PointInTime, Timestamp};
use serde_json::{Value, json};

use crate::Context;
use crate::output::{Align, Table, ago, and_more, bytes, count};
use crate::words;

/// Changes that people are shown unless they ask for all.
const SHOWN_MAX: usize = 20;

/// Prints the plan: what is to be approved.
pub(super) fn show_plan(plan: &RestorePlan, request: &RestoreRequest, context: &Context) {
    let output = &context.output;
    output.event("plan", to_json(plan, request));
    let now = Timestamp::now();
    let verb = match request.point {
        RestorePoint::At(_) => "Restore",
        RestorePoint::Undo(_) => "Undo a restore of",
    };
    show_head(plan, (verb, now), request, context);
    parts_table(plan).lines().iter().for_each(|line| output.line(line));
    output.line("");
    if !context.output.is_json() {
        show_changes(plan, if context.global.verbose > 0 { usize::MAX } else { SHOWN_MAX }, context);
    }
    show_counted(plan, context);
    show_kept(plan, context);
    for part in &plan.parts {
        part.notes.iter().for_each(|note| output.line(format!("  note: {}: {note}", part.source)));
    }
    for (source, note) in plan.replayed.iter().flat_map(|replayed| &replayed.notes) {
        output.line(format!("  note: {source}: {note}"));
    }
    for (source, reason) in &plan.left_out {
        output.line(format!("  left as it is: {source}: {reason}"));
    }
    for conflict in &plan.conflicts {
        output.line(format!("  CONFLICT: {}: {}", conflict.source, conflict.detail));
        show_keys(&conflict.keys, context);
    }
    if plan.is_empty() {
        output.line("Nothing has to be changed.");
    }
    if !request.exact && plan.parts.iter().any(|part| part.replace > 0) {
        output.line("REPLACE and WRITE are upper limits: what is read and found equal is left as it is.");
    }
    let requests = if plan.read_requests == 1 { "request" } else { "requests" };
    output.line(format!("Reads at most {} in about {} {requests}.", bytes(plan.read_bytes), count(plan.read_requests)));
    output.line(format!("Plan {}", plan.hash));
}

/// A line a part: what is done to it. Where later work is kept, nothing is replaced or removed.
fn parts_table(plan: &RestorePlan) -> Table {
    let columns = match plan.keeps_later {
        true => &["ADD", "KEPT", "NEWER", "EQUAL", "WRITE"][..],
        false => &["ADD", "REPLACE", "METADATA", "REMOVE", "KEEP", "WRITE"][..],
    };
    let numbers = columns.iter().map(|column| (*column, Align::Right));
    let columns: Vec<(&str, Align)> =
        std::iter::once(("PART", Align::Left)).chain(numbers).chain([("PLACE", Align::Left)]).collect();
    let mut table = Table::new(&columns);
    for part in &plan.parts {
        let counts = match plan.keeps_later {
            true => vec![part.add, part.kept, part.newer, part.keep],
            false => vec![part.add, part.replace, part.metadata, part.remove, part.keep],
        };
        let counts = counts.into_iter().map(count).chain([bytes(part.write_bytes), part.place.clone()]);
        table.row(std::iter::once(part.source.to_string()).chain(counts));
    }
    table
}

/// Prints what differs from the point and stays: entries by path; rows by key, where everything is asked for.
fn show_kept(plan: &RestorePlan, context: &Context) {
    let max = if context.global.verbose > 0 { usize::MAX } else { SHOWN_MAX };
    for part in &plan.parts {
        for path in part.kept_entries.iter().take(max) {
            context.output.line(format!("  kept     {}/{path}", part.source));
        }
        if let Some(more) = and_more(part.kept_entries.len(), max) {
            context.output.line(format!("  … {more} kept (-v shows all)"));
        }
        for limit in part.limits.iter().filter(|limit| !limit.kept_keys.is_empty()) {
            context.output.line(format!("  kept     {}/{}, rows that differ from the point", part.source, limit.table));
            show_keys(&limit.kept_keys, context);
        }
    }
}

/// Prints primary keys, which are a tenant's values, where everything is asked for.
fn show_keys(keys: &[String], context: &Context) {
    match (keys.is_empty(), context.global.verbose > 0) {
        (true, _) => {}
        (false, true) => keys.iter().for_each(|key| context.output.line(format!("             [{key}]"))),
        (false, false) => context.output.line("             (-v lists their keys)"),
    }
}

/// What is put back, and where.
fn show_head(plan: &RestorePlan, (verb, now): (&str, Timestamp), request: &RestoreRequest, context: &Context) {
    let output = &context.output;
    output.line(format!("{verb} {}, to {} ({})", plan.site, plan.at, ago(plan.at, now)));
    let reason = plan.mark_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    output.line(format!("  snapshot  {} ({}{reason})", plan.snapshot, words::mark(plan.mark)));
    if let (RestorePoint::At(PointInTime::Time(asked)), None) = (&request.point, &plan.replayed)
        && *asked != plan.at
    {
        output.line(format!("  asked     {asked}: no change log reaches it, this is the newest good point before it"));
    }
    if let Some(replayed) = &plan.replayed {
        output.line(format!("  moment    {}", replayed.moment));
        for part in &replayed.parts {
            let changes = if part.changes == 1 { "change" } else { "changes" };
            let (source, till) = (&part.source, part.till);
            output.line(format!("  replay    {source}: {} {changes} since, up to lsn:{till}", count(part.changes)));
        }
    }
    output.line(format!("  target    {}", target(request)));
    if plan.keeps_later {
        output.line("  later     what was written since stays: only what is missing now comes back");
    }
    if plan.keeps_undo {
        output.line("  undo      what is replaced or removed is kept first");
    }
    output.line("");
}

/// Prints what a comparison has found of the tables that differ.
pub(super) fn show_counted(plan: &RestorePlan, context: &Context) {
    for part in &plan.parts {
        for (table, counted) in part.limits.iter().filter_map(|limit| Some((&limit.table, limit.counted?))) {
            let RowsCounted { insert, update, delete, equal, kept, newer } = counted;
            if plan.keeps_later && insert + kept > 0 {
                context.output.line(format!(
                    "  {}/{table}: {} to insert, {} kept that differ, {} newer, {} equal",
                    part.source,
                    count(insert),
                    count(kept),
                    count(newer),
                    count(equal)
                ));
            } else if insert + update + delete > 0 {
                context.output.line(format!(
                    "  {}/{table}: {} to insert, {} to update, {} to delete, {} equal",
                    part.source,
                    count(insert),
                    count(update),
                    count(delete),
                    count(equal)
                ));
            }
        }
    }
}

/// One table of a plan's JSON.
fn table_json(limit: &RowsLimit, keeps_later: bool) -> Value {
    let mut table = json!({ "table": limit.table, "write_max": limit.write, "delete_max": limit.delete });
    if let (Some(counted), Some(keys)) = (limit.counted, table.as_object_mut()) {
        let RowsCounted { insert, update, delete, equal, kept, newer } = counted;
        let counts = [("insert", insert), ("update", update), ("delete", delete), ("equal", equal)];
        keys.extend(counts.map(|(key, rows)| (key.to_owned(), rows.into())));
        if keeps_later {
            keys.extend([("kept", kept), ("newer", newer)].map(|(key, rows)| (key.to_owned(), rows.into())));
            keys.insert("kept_keys".to_owned(), json!(limit.kept_keys));
        }
    }
    table
}

/// Prints up to `max` changes, and returns how many there are.
pub(super) fn show_changes(plan: &RestorePlan, max: usize, context: &Context) -> u64 {
    let all = plan.parts.iter().flat_map(|part| part.changes.iter().map(move |change| (&part.source, change)));
    let mut total = 0u64;
    for (number, (source, (change, path))) in all.enumerate() {
        total += 1;
        if number < max {
            let name = change_name(*change);
            context.output.event("difference", json!({ "source": source.as_str(), "change": name, "path": path }));
            context.output.line(format!("  {name:<8} {source}/{path}"));
        }
    }
    if let Some(more) = and_more(total as usize, max) {
        context.output.line(format!("  … {more} (-v shows all)"));
    }
    total
}

/// What the restore would do to the live entry.
fn change_name(change: Change) -> &'static str {
    match change {
        Change::Add => "add",
        Change::Replace => "replace",
        Change::Metadata => "metadata",
        Change::Remove => "remove",
    }
}

fn target(request: &RestoreRequest) -> String {
    match &request.target {
        RestoreTarget::InPlace => "in place".into(),
        RestoreTarget::Beside(name) => format!("beside, as {name}"),
        RestoreTarget::Export(directory) => format!("export to {}", directory.display()),
    }
}

/// The parts of a plan.
pub(super) fn parts_json(plan: &RestorePlan) -> Vec<Value> {
    let parts = plan.parts.iter().map(|part| {
        let mut json = json!({
            "source": part.source.as_str(),
            "kind": words::kind(part.kind),
            "place": part.place,
            "add": part.add,
            "replace": part.replace,
            "metadata": part.metadata,
            "remove": part.remove,
            "keep": part.keep,
            "write_bytes": part.write_bytes,
            "notes": part.notes,
            "tables": part.limits.iter().map(|limit| table_json(limit, plan.keeps_later)).collect::<Vec<_>>(),
        });
        if let (true, Some(keys)) = (plan.keeps_later, json.as_object_mut()) {
            keys.extend([("kept", part.kept), ("newer", part.newer)].map(|(key, rows)| (key.to_owned(), rows.into())));
            keys.insert("kept_entries".to_owned(), json!(part.kept_entries));
        }
        json
    });
    parts.collect()
}

fn replayed_json(replayed: &Replayed) -> Value {
    let parts = replayed.parts.iter().map(|part| {
        json!({
            "source": part.source.as_str(),
            "base_snapshot_id": part.base.map(|id| id.to_string()),
            "epoch": part.epoch.0,
            "till": part.till.to_string(),
            "changes": part.changes,
        })
    });
    let notes = replayed.notes.iter().map(|(source, note)| json!({ "source": source.as_str(), "detail": note }));
    json!({
        "moment": replayed.moment.to_string(),
        "parts": parts.collect::<Vec<_>>(),
        "notes": notes.collect::<Vec<_>>(),
    })
}

fn to_json(plan: &RestorePlan, request: &RestoreRequest) -> Value {
    let conflicts = plan.conflicts.iter().map(|conflict| {
        let mut json = json!({ "source": conflict.source.as_str(), "detail": conflict.detail });
        if let (true, Some(keys)) = (plan.keeps_later, json.as_object_mut()) {
            keys.insert("keys".to_owned(), json!(conflict.keys));
        }
        json
    });
    let left_out = plan.left_out.iter().map(|(source, reason)| json!({ "source": source.as_str(), "reason": reason }));
    json!({
        "plan_hash": plan.hash,
        "site": plan.site.as_str(),
        "at": plan.at.to_string(),
        "replayed": plan.replayed.as_ref().map(replayed_json),
        "snapshot_id": plan.snapshot.to_string(),
        "mark": words::mark(plan.mark),
        "mark_reason": plan.mark_reason,
        "target": target(request),
        "parts": parts_json(plan),
        "left_out": left_out.collect::<Vec<_>>(),
        "conflicts": conflicts.collect::<Vec<_>>(),
        "read_bytes": plan.read_bytes,
        "read_requests": plan.read_requests,
        "keeps_undo": plan.keeps_undo,
        "keeps_later": plan.keeps_later,
    })
}
