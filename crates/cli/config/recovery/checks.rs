//! `[recovery.checks.NAME]`: what the operator asks about a site that is back. Exactly one of a statement, a command and
//! a page.

use std::time::Duration;

use lifeboat_engine::{Ask, OwnCheck};
use lifeboat_model::SourceName;
use lifeboat_source::postgres::Tenancy;

use super::{SITE, SourceConfig, SourceSettings, count, says_which, timeout};
use crate::config::ConfigError;
use crate::config::reader::{Field, Table};

const NAME_LEN_MAX: usize = 64;
const SQL: &str = "\"SELECT count(*) > 0 FROM users WHERE site_id = $1\"";
const COMMAND: &str = "[\"/usr/local/bin/smoke-test\", \"{site}\"]";
const HTTP: &str = "\"https://app.example/{site}/health\"";

pub(super) fn read(
    recovery: &mut Table<'_, '_>,
    sources: &[SourceConfig],
    usual: Duration,
) -> Result<Vec<OwnCheck>, ConfigError> {
    let Some(mut all) = recovery.take_table("checks")? else { return Ok(Vec::new()) };
    all.take_rest().into_iter().map(|(name, field)| one(name, field, sources, usual)).collect()
}

fn one(name: &str, field: Field<'_, '_>, sources: &[SourceConfig], usual: Duration) -> Result<OwnCheck, ConfigError> {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(is_plain) {
        return Err(field.error(
            format!("a check is called by letters, digits, `-` and `_`: key=`{}`", field.key),
            "for example [recovery.checks.login]",
        ));
    }
    let at = field.clone();
    let mut table = field.table()?;
    let timeout = timeout(&mut table, usual)?;
    let ask = match (table.take("sql"), table.take("command"), table.take("http")) {
        (Some(statement), None, None) => sql(&statement, &mut table, sources)?,
        (None, Some(argv), None) => command(&argv)?,
        (None, None, Some(url)) => http(&url, &mut table)?,
        (None, None, None) => {
            return Err(at.error(
                format!("the check does not say what is asked: key=`{}`", at.key),
                format!("write one of `sql = {SQL}`, `command = {COMMAND}` and `http = {HTTP}`"),
            ));
        }
        _ => {
            return Err(at.error(
                format!("a check asks one thing: key=`{}`", at.key),
                "write one of `sql`, `command` and `http`, and another check for another one",
            ));
        }
    };
    table.finish()?;
    Ok(OwnCheck { name: name.to_owned(), ask, timeout })
}

fn sql(statement: &Field<'_, '_>, table: &mut Table<'_, '_>, sources: &[SourceConfig]) -> Result<Ask, ConfigError> {
    let sql = statement.text("a statement that gives one value", SQL)?;
    let (source, tenancy) = source(statement, table, sources)?;
    // Where a site has a schema or a database, the statement is run there.
    if tenancy == Tenancy::Column && !sql.contains("$1") {
        return Err(statement.error(
            format!("the statement does not say which site: key=`{}`", statement.key),
            format!("put $1 where the site id goes, for example `sql = {SQL}`"),
        ));
    }
    let expect = table.take("expect").map(|field| field.count("0")).transpose()?.map(i64::from);
    Ok(Ask::Sql { source, sql: sql.to_owned(), expect })
}

/// The database that is asked: the one there is, or the one that is named.
fn source(
    statement: &Field<'_, '_>,
    table: &mut Table<'_, '_>,
    sources: &[SourceConfig],
) -> Result<(SourceName, Tenancy), ConfigError> {
    let databases: Vec<(&SourceName, Tenancy)> = sources
        .iter()
        .filter_map(|source| match &source.settings {
            SourceSettings::Postgres(settings) => Some((&source.name, settings.tenancy)),
            _ => None,
        })
        .collect();
    let named = match table.take("source") {
        Some(field) => Some((field.text("the name of a source", "\"app\"")?, field)),
        None => None,
    };
    let found = match (&named, databases.as_slice()) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some((name, _)), all) => all.iter().find(|(known, _)| known.as_str() == *name),
    };
    if let Some((name, tenancy)) = found {
        return Ok(((*name).clone(), *tenancy));
    }
    let hint = match databases.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>() {
        names if names.is_empty() => "only a source of kind \"postgres\" is asked by a statement".to_owned(),
        names => format!("write source = \"NAME\", one of {}", names.join(", ")),
    };
    Err(match named {
        Some((name, field)) => {
            field.error(format!("no PostgreSQL source of this name: key=`{}`, source=`{name}`", field.key), hint)
        }
        None => statement.error(format!("it is not said which database is asked: key=`{}`", statement.key), hint),
    })
}

fn command(field: &Field<'_, '_>) -> Result<Ask, ConfigError> {
    let wanted = "a list of a program and its arguments (no shell)";
    let argv = field.texts(wanted, COMMAND)?;
    match argv.first() {
        None => Err(field.mistyped(wanted, COMMAND)),
        Some(_) if says_which(&argv) => Ok(Ask::Command(argv)),
        Some(_) => Err(silent(field, "command", COMMAND)),
    }
}

fn silent(field: &Field<'_, '_>, key: &str, example: &str) -> ConfigError {
    field.error(
        format!("the check does not say which site: key=`{}`", field.key),
        format!("put {SITE} where the site id goes, for example `{key} = {example}`"),
    )
}

fn http(field: &Field<'_, '_>, table: &mut Table<'_, '_>) -> Result<Ask, ConfigError> {
    let wanted = "an address of a page";
    let url = field.text(wanted, HTTP)?;
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split(['/', '?']).next()).filter(|host| !host.is_empty());
    let Some(host) = host.filter(|_| !url.contains(|char: char| char.is_whitespace() || char.is_control())) else {
        return Err(field.mistyped(wanted, HTTP));
    };
    if host.contains('@') {
        return Err(field.error(
            format!("credentials do not belong into the configuration: key=`{}`", field.key),
            "ask by a command that knows them: `command = [\"curl\", \"--fail\", \"--netrc-file\", …]`",
        ));
    }
    if !url.contains(SITE) {
        return Err(silent(field, "http", HTTP));
    }
    let status = match table.take("status") {
        Some(field) => count(&field, 100..=599, "200")?,
        None => 200,
    };
    let contains = match table.take("contains") {
        Some(field) => match field.text("a text that the page has in it", "\"Log in\"")? {
            "" => return Err(field.mistyped("a text that the page has in it", "\"Log in\"")),
            text => Some(text.to_owned()),
        },
        None => None,
    };
    Ok(Ask::Http { url: url.to_owned(), status: u16::try_from(status).unwrap_or(200), contains })
}
