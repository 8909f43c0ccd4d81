//! What `sources inspect` says of a database: whose each table is, what is nobody's, what is not allowed.

use lifeboat_model::SourceName;
use lifeboat_source::postgres::{Class, InspectedTable, Inspection, Need, PostgresSource};
use serde_json::json;

use crate::output::{Failed, count};
use crate::{CliError, Context, exit};

/// Looks, and tells; what an operator must mend comes back.
pub(super) fn inspect(source: &PostgresSource, place: &str, context: &Context) -> Result<Option<Failed>, CliError> {
    let found = Inspection::of(source.server(), source.config())?;
    let name = source.server().source_name();
    context.output.event("source", as_json(name, place, &found));
    tell(name, place, &found, context);
    Ok(failed(name, &found))
}

fn as_json(name: &str, place: &str, found: &Inspection) -> serde_json::Value {
    let table = |table: &InspectedTable| {
        let suggestion = match &table.class {
            Class::Unclassed { suggestion } => Some(suggestion.to_string()),
            _ => None,
        };
        json!({
            "table": table.name.as_str(),
            "class": table.class.word(),
            "how": table.class.to_string(),
            "rows_estimate": table.rows_estimate.max(0),
            "ownerless_rows": table.ownerless_rows,
            "partitions": table.partitions,
            "notes": table.notes,
            "suggestion": suggestion,
            "missing_index": table.missing_index,
        })
    };
    let missing = found.missing.iter().map(|missing| {
        json!({ "needed_for": missing.needed_for.word(), "what": missing.what, "statement": missing.statement })
    });
    json!({
        "source": name,
        "kind": "postgres",
        "path": place,
        "database": found.server.database,
        "server_version": found.server.version,
        "system_identifier": found.server.system_identifier,
        "is_standby": found.server.is_standby,
        "role": found.server.role,
        "sites": found.sites,
        "sites_unnamed": found.unnamed.iter().map(|(id, reason)| json!({ "id": id, "reason": reason })).collect::<Vec<_>>(),
        "tables": found.tables.iter().map(table).collect::<Vec<_>>(),
        "suggested_lines": found.suggested_lines,
        "missing_privileges": missing.collect::<Vec<_>>(),
        "views_skipped": found.views.iter().map(|view| view.as_str()).collect::<Vec<_>>(),
        "staging": found.staging,
        "not_sites": found.not_sites,
        "copies_skipped": found.copies.iter().map(|copy| copy.name.as_str()).collect::<Vec<_>>(),
    })
}

fn tell(name: &str, place: &str, found: &Inspection, context: &Context) {
    let output = &context.output;
    let server = &found.server;
    output.line(format!("{name} (postgres)  {place}"));
    let sites = found.sites.map_or_else(|| "unknown".to_owned(), count);
    let standby = if server.is_standby {
        ", a standby: no restore can go there, and nothing that is captured is backed up from it"
    } else {
        ""
    };
    output.line(format!(
        "  database {} on PostgreSQL {}{standby}, as role {}; {sites} sites",
        server.database,
        server.version / 10_000,
        server.role
    ));
    for table in &found.tables {
        output.line(format!("  {}", line_of(table)));
        for note in &table.notes {
            output.line(format!("    {note}"));
        }
    }
    for (id, reason) in &found.unnamed {
        output.line(format!("  site in no snapshot: id=`{id}`, {reason}"));
    }
    if !found.views.is_empty() {
        let views: Vec<&str> = found.views.iter().map(|view| view.as_str()).collect();
        output.line(format!("  without views, which hold nothing of their own: {}", views.join(", ")));
    }
    for schema in &found.staging {
        output.line(format!("  {schema}: staged by a restore that runs now, or was killed: run its command again"));
    }
    if !found.not_sites.is_empty() {
        output.line(format!("  no sites, and in no backup: {}", found.not_sites.join(", ")));
    }
    for copy in &found.copies {
        let (kind, drop, more) = match copy.is_database {
            true => ("database", "DROP DATABASE", ""),
            false => ("schema", "DROP SCHEMA", " CASCADE"),
        };
        output.line(format!("  without {kind} {}, made by `restore --beside` ({})", copy.name, copy.comment));
        output.line(format!("    {drop} {}{more}; -- when nobody looks at it any more", copy.name));
    }
    let indexes: Vec<&String> = found.tables.iter().filter_map(|table| table.missing_index.as_ref()).collect();
    if !indexes.is_empty() {
        output.line("  one site's rows are found only by reading everybody's; these indexes make restores fast:");
        indexes.iter().for_each(|statement| output.line(format!("    {statement}")));
    }
    if !found.suggested_lines.is_empty() {
        output.line(format!("  for the unclassed tables, to be checked and written into [sources.{name}]:"));
        for line in &found.suggested_lines {
            output.line(format!("    {line}"));
        }
    }
    for need in [Need::Backup, Need::Restore] {
        let missing: Vec<_> = found.missing.iter().filter(|missing| missing.needed_for == need).collect();
        if !missing.is_empty() {
            output.line(format!("  privileges that role {} lacks for a {}:", server.role, need.word()));
            if need == Need::Restore {
                output.line("    (grant them to the role that restores; one that only backs up is better off without)");
            }
        }
        for missing in missing {
            output.line(format!("    {}", missing.what));
            output.line(format!("      {}", missing.statement));
        }
    }
}

fn line_of(table: &InspectedTable) -> String {
    let mut line = format!("{}: {}", table.name, table.class);
    if table.partitions > 0 {
        line += &format!(", {} partitions", table.partitions);
    }
    match table.ownerless_rows {
        Some(1) => line += ", 1 row of no site: in no snapshot",
        Some(rows) if rows > 1 => line += &format!(", {} rows of no site: in no snapshot", count(rows)),
        None if table.class.is_of_sites() => line += ", rows of no site not counted",
        _ => {}
    }
    line
}

/// Why a backup would fail or lack something, or a restore could not work.
fn failed(name: &str, found: &Inspection) -> Option<Failed> {
    let unclassed = found.tables.iter().filter(|table| matches!(table.class, Class::Unclassed { .. })).count();
    let lacks = |need: Need| found.missing.iter().filter(|missing| missing.needed_for == need).count();
    let ownerless: u64 = found.tables.iter().filter_map(|table| table.ownerless_rows).sum();
    let grants = "run the statements above as a superuser; docs/operations/postgres-roles.md makes such roles";
    let restores = "restore with a role of its own, whose `url` is given for that command alone \
                    (docs/operations/postgres-roles.md), or run the statements above as a superuser";
    let mut faults: Vec<(String, String)> = Vec::new();
    let mut fault = |is_one: bool, what: String, hint: String| {
        if is_one {
            faults.push((what, hint));
        }
    };
    let lines = format!("write the lines above into [sources.{name}] after checking them");
    fault(unclassed > 0, format!("{unclassed} tables of unknown class"), lines);
    for need in [Need::Backup, Need::Restore] {
        let what = format!("{} privileges that a {} needs are missing", lacks(need), need.word());
        fault(lacks(need) > 0, what, if need == Need::Backup { grants } else { restores }.to_owned());
    }
    let standby = "name the primary in the `url` of the configuration that is to restore";
    fault(found.server.is_standby, "no restore can go to a standby".to_owned(), standby.to_owned());
    let unnamed = format!("{} sites in no snapshot, because of their ids", found.unnamed.len());
    fault(!found.unnamed.is_empty(), unnamed, "give those sites other ids".to_owned());
    let owner = format!("name their table under `ignored` in [sources.{name}], or give the rows a site");
    fault(ownerless > 0, format!("{} rows of no site", count(ownerless)), owner);
    let hint = faults.first()?.1.clone();
    let what: Vec<String> = faults.into_iter().map(|(what, _)| what).collect();
    Some(Failed {
        site: None,
        message: format!("{name}: {}", what.join(", ")),
        hint: Some(hint),
        exit_code: exit::OPERATOR,
    })
}

/// The database source of that name.
pub(super) fn of<'a>(fleet: &'a lifeboat_engine::Fleet, name: &SourceName) -> Option<&'a PostgresSource> {
    match fleet.source(name) {
        Some(lifeboat_engine::AnySource::Postgres(source)) => Some(source),
        _ => None,
    }
}
