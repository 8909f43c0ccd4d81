//! `--only` of rows: a table of a part, or some of its rows by key, and the tables that takes.

use std::collections::BTreeSet;

use lifeboat_model::{Entry, EntryKind, EntryPath, RestoreId, SiteId};
use lifeboat_source::postgres::describe::{DESCRIPTION_PATH, large_object_of_path, table_of_path};
use lifeboat_source::postgres::target::{KeyRange, Narrow};
use lifeboat_source::postgres::{PostgresSource, TableName};

use super::{Only, RestoreRequest, RestoreTarget};
use crate::Error;

/// The schema that need not be named.
const PUBLIC: &str = "public.";

/// The part's entries that are wanted, and which of their rows; `None`: all. `source`: needed in place.
pub(super) fn select_rows(
    source: Option<&PostgresSource>,
    request: &RestoreRequest,
    entries: Vec<Entry>,
) -> Result<(Vec<Entry>, Option<Narrow>), Error> {
    let Some(only) = request.only.as_ref().filter(|only| only.entry.is_some() || only.keys.is_some()) else {
        return Ok((entries, None));
    };
    let (table, keys) = named(only, &entries)?;
    let is_description = |entry: &Entry| entry.path.as_bytes() == DESCRIPTION_PATH;
    if request.target != RestoreTarget::InPlace {
        if keys.is_some() {
            return Err(Error::NoSuchThing {
                detail: "some rows of a table beside or exported are not in this version".into(),
                hint: "leave the brackets out: the whole table".into(),
            });
        }
        let kept = entries.into_iter().filter(|entry| entry.path == table || is_description(entry));
        return Ok((kept.collect(), None));
    }
    let narrow = Narrow { table: table_of_path(&table.to_string()), keys };
    let source = source.ok_or_else(|| Error::Bug("rows in place without their source".into()))?;
    let (needed, needs_objects) = needed(source, &request.site, &narrow)?;
    let is_needed = |entry: &Entry| match entry.kind {
        EntryKind::Table { .. } => needed.contains(&table_of_path(&entry.path.to_string())),
        _ if large_object_of_path(entry.path.as_bytes()).is_some() => needs_objects,
        _ => is_description(entry), // a table comes back where the others are: the structure is not made anew
    };
    Ok((entries.into_iter().filter(is_needed).collect(), Some(narrow)))
}

/// The tables that may have to be written, and whether their rows can refer to large objects.
fn needed(source: &PostgresSource, site: &SiteId, narrow: &Narrow) -> Result<(BTreeSet<TableName>, bool), Error> {
    tokio::task::block_in_place(|| {
        let target = source.target(site, RestoreId([0; 8]))?.only(narrow.clone())?;
        Ok((target.needed(), target.needs_objects()))
    })
}

/// The table of the snapshot that is meant. A name that is one as it stands is never cut at a bracket.
fn named(only: &Only, entries: &[Entry]) -> Result<(EntryPath, Option<KeyRange>), Error> {
    let find = |path: &EntryPath| {
        let is_table = |entry: &&Entry| matches!(entry.kind, EntryKind::Table { .. });
        let named = |name: String| entries.iter().filter(is_table).find(move |entry| entry.path.to_string() == name);
        let found = named(path.to_string()).or_else(|| named(format!("{PUBLIC}{path}")));
        found.map(|entry| entry.path.clone())
    };
    if let Some(table) = only.entry.as_ref().and_then(find) {
        return Ok((table, None));
    }
    if let Some((path, keys)) = &only.keys
        && let Some(table) = find(path)
    {
        return Ok((table, Some(KeyRange::parse(keys)?)));
    }
    let asked = only.keys.as_ref().map(|(path, _)| path).or(only.entry.as_ref()).map(ToString::to_string);
    Err(Error::NoSuchThing {
        detail: format!("the snapshot has no such table: part=`{}`, table=`{}`", only.part, asked.unwrap_or_default()),
        hint: "`lifeboat ls` with the same --at lists its tables; names are written as SQL prints them, such as \
               app/public.issues or 'app/public.\"Issue Types\"'"
            .into(),
    })
}
