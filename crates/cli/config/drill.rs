//! `[drill]`: where sites are rebuilt to prove that they can be, and taken away again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_model::SourceName;

use super::reader::{Field, Table};
use super::repository::{KeyRef, parse_key};
use super::sources::{SourceConfig, SourceSettings};
use super::{ConfigError, values};

const URL_EXAMPLE: &str = "\"env:APP_DRILL_URL\"";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillConfig {
    /// Mode 0700; made when it is missing.
    pub directory: PathBuf,
    /// The database made for drills of each source of kind "postgres"; none of any: rows are written as files.
    pub databases: BTreeMap<SourceName, KeyRef>,
    /// So often each site is to be proven by one; `None`: nobody is alarmed of one that never was.
    pub every: Option<Duration>,
}

pub(super) fn read(
    root: &mut Table<'_, '_>,
    sources: &[SourceConfig],
    directory: &Path,
) -> Result<DrillConfig, ConfigError> {
    let mut drill =
        DrillConfig { directory: directory.join("lifeboat.drills"), databases: BTreeMap::new(), every: None };
    let Some(mut table) = root.take_table("drill")? else { return Ok(drill) };
    if let Some(field) = table.take("directory") {
        drill.directory = values::path(&field, directory, "\"/var/lib/lifeboat/drills\"")?;
        if drill.directory.to_str().is_none_or(|path| path.contains(['{', '}'])) {
            return Err(field.error(
                format!("one directory is meant, the same for every site: key=`{}`", field.key),
                "write it without braces, for example `directory = \"/var/lib/lifeboat/drills\"`",
            ));
        }
    }
    if let Some(field) = table.take("every") {
        drill.every = Some(values::duration(&field, "90d")?);
    }
    if let Some(mut databases) = table.take_table("databases")? {
        for (name, field) in databases.take_rest() {
            let source = of_database(name, &field, sources)?;
            drill.databases.insert(source, url(&field, directory)?);
        }
        refuse_some(&databases, &drill, sources)?;
    }
    table.finish()?;
    Ok(drill)
}

fn of_database(name: &str, field: &Field<'_, '_>, sources: &[SourceConfig]) -> Result<SourceName, ConfigError> {
    let found = of_postgres(sources).find(|source| source.name.as_str() == name);
    found.map(|source| source.name.clone()).ok_or_else(|| {
        let names: Vec<&str> = of_postgres(sources).map(|source| source.name.as_str()).collect();
        field.error(
            format!("no source of kind \"postgres\" has this name: key=`{}`", field.key),
            match names.is_empty() {
                true => "there is none: take it out".to_owned(),
                false => format!("those there are: {}", names.join(", ")),
            },
        )
    })
}

/// A site is rebuilt as a whole, in one way.
fn refuse_some(table: &Table<'_, '_>, drill: &DrillConfig, sources: &[SourceConfig]) -> Result<(), ConfigError> {
    let lacking = of_postgres(sources).find(|source| !drill.databases.contains_key(&source.name));
    match lacking.filter(|_| !drill.databases.is_empty()) {
        None => Ok(()),
        Some(source) => Err(table.error(
            format!("a source has no database for drills, and others have: source=`{}`", source.name),
            format!("name one for it too, for example `{} = {URL_EXAMPLE}`, or take the others out", source.name),
        )),
    }
}

fn of_postgres(sources: &[SourceConfig]) -> impl Iterator<Item = &SourceConfig> {
    sources.iter().filter(|source| matches!(source.settings, SourceSettings::Postgres(_)))
}

/// Never repeats the text: it may be the secret.
fn url(field: &Field<'_, '_>, directory: &Path) -> Result<KeyRef, ConfigError> {
    let text = field.text("the place of a connection URL", URL_EXAMPLE)?;
    parse_key(text, directory).map_err(|(detail, _)| {
        field.error(
            format!("{detail}: key=`{}`", field.key),
            "put the connection URL into a file of mode 0600 and write file:PATH, or env:NAME",
        )
    })
}
