//! `[sources.NAME]`: the systems that hold parts of sites.

use std::path::Path;

use lifeboat_model::{EntryPath, SourceName};
use lifeboat_source::postgres::Tenancy;

use super::ConfigError;
use super::postgres::{self, PostgresSettings};
use super::reader::{Field, Table};
use super::values;
use crate::suggest::{either, nearest};

const KINDS: [&str; 3] = ["files", "sqlite", "postgres"];
const LATER_KINDS: [&str; 2] = ["objects", "command"];

/// One source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceConfig {
    /// Its identity in the repository.
    pub name: SourceName,
    /// The name it had before: its snapshots are still found under it.
    pub was: Option<SourceName>,
    pub settings: SourceSettings,
    /// Line and key, for complaints that concern several sources.
    pub(super) offset: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSettings {
    Files(FilesConfig),
    Sqlite(SqliteConfig),
    Postgres(Box<PostgresSettings>),
}

/// A directory per site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesConfig {
    /// Absolute, with `{site}` in it.
    pub path: String,
    /// Files and directories that are left out, relative to a site's directory.
    pub exclude: Vec<String>,
    /// Databases of other sources inside a site's directory, relative to it, `{site}` possibly in
    /// it: found by comparing the paths, left out together with their `-wal`, `-shm` and `-journal`.
    pub databases: Vec<InnerDatabase>,
}

/// An SQLite database that lies in the tree of a files source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InnerDatabase {
    /// The sqlite source that covers it.
    pub source: SourceName,
    /// Relative to the site's directory; may hold `{site}`.
    pub path: String,
}

/// A database file per site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteConfig {
    /// Absolute, with `{site}` in it.
    pub path: String,
}

impl SourceConfig {
    /// The absolute path with `{site}` in it; a database has none.
    pub fn path(&self) -> Option<&str> {
        match &self.settings {
            SourceSettings::Files(files) => Some(&files.path),
            SourceSettings::Sqlite(sqlite) => Some(&sqlite.path),
            SourceSettings::Postgres(_) => None,
        }
    }

    /// Whether changes of it can be followed in this version.
    pub fn can_be_captured(&self) -> bool {
        matches!(&self.settings, SourceSettings::Postgres(postgres) if postgres.tenancy != Tenancy::Database)
    }

    /// Whether its database files can be followed page by page.
    pub fn has_pages(&self) -> bool {
        matches!(&self.settings, SourceSettings::Sqlite(_))
    }

    /// Whether it is scanned between two backups.
    pub fn has_files(&self) -> bool {
        matches!(&self.settings, SourceSettings::Files(_))
    }

    /// Where it is, for people: the path, or the place of the connection URL.
    pub fn place(&self) -> String {
        match &self.settings {
            SourceSettings::Postgres(postgres) => postgres.url.to_string(),
            _ => self.path().unwrap_or_default().to_owned(),
        }
    }
}

pub(super) fn read(root: &mut Table<'_, '_>, directory: &Path) -> Result<Vec<SourceConfig>, ConfigError> {
    let Some(mut table) = root.take_table("sources")? else { return Ok(Vec::new()) };
    let mut sources: Vec<SourceConfig> = Vec::new();
    for (name, field) in table.take_rest() {
        let name = SourceName::new(name).map_err(|error| {
            field.error(error.to_string(), "the name is the source's identity in the repository, e.g. [sources.notes]")
        })?;
        sources.push(read_one(name, field, directory)?);
    }
    check_renames(&sources, root)?;
    Ok(sources)
}

fn read_one(name: SourceName, field: Field<'_, '_>, directory: &Path) -> Result<SourceConfig, ConfigError> {
    let offset = field.offset;
    let mut table = field.table()?;
    let kind = table.require("kind", "\"files\"")?;
    let kind_text = kind.text("a kind of source", "\"files\"")?;
    let was = table.take("was").map(|field| former_name(&field)).transpose()?;
    let settings = match kind_text {
        "files" => SourceSettings::Files(FilesConfig {
            path: values::template(
                &table.require("path", "\"/srv/sites/{site}/attachments\"")?,
                directory,
                "\"/srv/sites/{site}/attachments\"",
            )?,
            exclude: exclude(&mut table)?,
            databases: Vec::new(),
        }),
        "sqlite" => SourceSettings::Sqlite(SqliteConfig {
            path: values::template(
                &table.require("path", "\"/srv/sites/{site}/notes.db\"")?,
                directory,
                "\"/srv/sites/{site}/notes.db\"",
            )?,
        }),
        "postgres" => SourceSettings::Postgres(Box::new(postgres::read(&mut table, directory)?)),
        other => return Err(bad_kind(&kind, other)),
    };
    if !matches!(settings, SourceSettings::Files(_))
        && let Some(field) = table.take("exclude")
    {
        return Err(field.error(
            format!("a {kind_text} source has nothing to exclude: key=`{}`", field.key),
            "take the key out; it belongs to sources of kind \"files\"",
        ));
    }
    table.finish()?;
    Ok(SourceConfig { name, was, settings, offset })
}

fn bad_kind(field: &Field<'_, '_>, kind: &str) -> ConfigError {
    if LATER_KINDS.contains(&kind) {
        return field.error(
            format!("not in this version: kind=`{kind}`, key=`{}`", field.key),
            "this version knows the kinds files, sqlite and postgres; take the section out to go on without it",
        );
    }
    let hint = match either(&nearest(kind, KINDS.into_iter().chain(LATER_KINDS))) {
        Some(names) => format!("did you mean {names}?"),
        None => {
            "use files (a directory a site), sqlite (a database file a site) or postgres (a database of many)".into()
        }
    };
    field.error(format!("no such kind of source: kind=`{kind}`, key=`{}`", field.key), hint)
}

fn former_name(field: &Field<'_, '_>) -> Result<SourceName, ConfigError> {
    let text = field.text("the source's former name", "\"old-name\"")?;
    SourceName::new(text).map_err(|error| field.error(error.to_string(), "give the name the source had before"))
}

/// Paths relative to a site's directory; `/**` at the end says what is meant anyway.
fn exclude(table: &mut Table<'_, '_>) -> Result<Vec<String>, ConfigError> {
    let example = "[\"cache\", \"tmp/previews\"]";
    let Some(field) = table.take("exclude") else { return Ok(Vec::new()) };
    let mut paths = Vec::new();
    for text in field.texts("a list of paths inside a site's directory", example)? {
        let path = text.strip_suffix("/**").unwrap_or(&text).trim_end_matches('/');
        if path.contains(['*', '?', '[', '{']) {
            return Err(field.error(
                format!("not in this version: patterns, exclude=`{text}`, key=`{}`", field.key),
                format!("name files and directories as they are, for example `exclude = {example}`"),
            ));
        }
        match EntryPath::new(path) {
            Ok(inside) if !inside.is_root() => paths.push(path.to_owned()),
            _ => {
                return Err(field.error(
                    format!("not a path inside a site's directory: exclude=`{text}`, key=`{}`", field.key),
                    format!("write it relative and without `..`, for example `exclude = {example}`"),
                ));
            }
        }
    }
    Ok(paths)
}

/// A former name must not be somebody's present one, and belongs to one source only.
fn check_renames(sources: &[SourceConfig], root: &Table<'_, '_>) -> Result<(), ConfigError> {
    for (at, source) in sources.iter().enumerate() {
        let Some(was) = &source.was else { continue };
        let present = sources.iter().any(|other| other.name == *was);
        let twice = sources[..at].iter().any(|other| other.was.as_ref() == Some(was));
        if present || twice {
            return Err(root.document().error(
                source.offset,
                format!("a former name is taken by another source: key=`sources.{}.was`, name=`{was}`", source.name),
                "a name stands for one source for ever: take `was` out, or name the other source differently",
            ));
        }
    }
    Ok(())
}
