//! `[notify.NAME]`, `[ping]` and `[metrics]`: who is told of alarms, and who may ask.
//!
//! Addresses may be secrets (whoever knows a chat's webhook can write there): they stand here, or are named like every other
//! secret. Tokens and keys are always named.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lifeboat_control::alarms::Severity;
use lifeboat_control::notify::PingOnBreach;
use lifeboat_control::watch::PING;

use super::ConfigError;
use super::reader::{Field, Table};
use super::repository::{KeyRef, parse_key};
use super::values;

const URL_EXAMPLE: &str = "\"https://alerts.example/lifeboat\"";
/// A cycle waits for whoever is told.
const TIMEOUT_MAX: Duration = Duration::from_secs(120);
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where an address is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UrlRef {
    Here(String),
    Secret(KeyRef),
}

/// How somebody is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotifyWay {
    Webhook { url: UrlRef, token: Option<KeyRef>, signing_key: Option<KeyRef> },
    Command(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyConfig {
    pub name: String,
    pub way: NotifyWay,
    pub min_severity: Severity,
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PingConfig {
    pub url: UrlRef,
    pub is_post: bool,
    pub on_breach: PingOnBreach,
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Sites have series of their own as long as there are no more of them; 0: never.
    pub site_series_max: u64,
    /// Where `/metrics` is to be asked for; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    pub token: Option<KeyRef>,
}

pub(super) fn read_all(root: &mut Table<'_, '_>, directory: &Path) -> Result<Vec<NotifyConfig>, ConfigError> {
    let Some(mut all) = root.take_table("notify")? else { return Ok(Vec::new()) };
    all.take_rest().into_iter().map(|(name, field)| read_one(name, field, directory)).collect()
}

fn read_one(name: &str, field: Field<'_, '_>, directory: &Path) -> Result<NotifyConfig, ConfigError> {
    if name == PING {
        return Err(field.error(
            format!("the name is taken: key=`{}`", field.key),
            "the ping is written as [ping]; give this one another name",
        ));
    }
    let mut table = field.table()?;
    let (webhook, command) = (table.take("webhook"), table.take("command"));
    let way = match (webhook, command) {
        (Some(field), None) => NotifyWay::Webhook {
            url: url(&field, directory)?,
            token: secret(&mut table, "token", directory)?,
            signing_key: secret(&mut table, "signing_key", directory)?,
        },
        (None, Some(field)) => NotifyWay::Command(command_of(&field)?),
        (Some(_), Some(field)) => {
            return Err(field.error(
                format!("one notifier tells in one way: key=`{}`", field.key),
                "write two: [notify.NAME] with `webhook`, and another one with `command`",
            ));
        }
        (None, None) => {
            return Err(table.error(
                format!("a notifier without a way: key=`notify.{name}`"),
                format!("write `webhook = {URL_EXAMPLE}` or `command = [\"/usr/local/bin/tell\"]`"),
            ));
        }
    };
    let min_severity = match table.take("min_severity") {
        Some(field) => severity(&field)?,
        None => Severity::Warning,
    };
    let timeout = timeout(&mut table)?;
    table.finish()?;
    Ok(NotifyConfig { name: name.to_owned(), way, min_severity, timeout })
}

pub(super) fn read_ping(root: &mut Table<'_, '_>, directory: &Path) -> Result<Option<PingConfig>, ConfigError> {
    let Some(mut table) = root.take_table("ping")? else { return Ok(None) };
    let url = url(&table.require("url", URL_EXAMPLE)?, directory)?;
    let is_post = match table.take("method") {
        Some(field) => one_of(&field, [("GET", false), ("POST", true)])?,
        None => false,
    };
    let on_breach = match table.take("on_breach") {
        Some(field) => one_of(&field, [("silence", PingOnBreach::Silence), ("fail", PingOnBreach::Fail)])?,
        None => PingOnBreach::Silence,
    };
    let timeout = timeout(&mut table)?;
    table.finish()?;
    Ok(Some(PingConfig { url, is_post, on_breach, timeout }))
}

pub(super) fn read_metrics(root: &mut Table<'_, '_>, directory: &Path) -> Result<MetricsConfig, ConfigError> {
    let mut metrics = MetricsConfig { site_series_max: 0, listen: None, token: None };
    let Some(mut table) = root.take_table("metrics")? else { return Ok(metrics) };
    if let Some(field) = table.take("site_series_max") {
        metrics.site_series_max = field.count("200")?.into();
    }
    metrics.token = secret(&mut table, "token", directory)?;
    if let Some(field) = table.take("listen") {
        let wanted = "an address and a port";
        let address: Option<SocketAddr> = field.text(wanted, "\"127.0.0.1:9464\"")?.parse().ok();
        let address = address.ok_or_else(|| field.mistyped(wanted, "\"127.0.0.1:9464\""))?;
        if !address.ip().is_loopback() && metrics.token.is_none() {
            return Err(field.error(
                format!("an address that other hosts can reach needs a token: key=`{}`", field.key),
                "set `token = \"file:metrics.token\"`, or listen on 127.0.0.1 and put a proxy before it",
            ));
        }
        metrics.listen = Some(address);
    }
    table.finish()?;
    Ok(metrics)
}

/// Never repeats the text: it may be the secret.
fn url(field: &Field<'_, '_>, directory: &Path) -> Result<UrlRef, ConfigError> {
    let text = field.text("an address, or the place of one", URL_EXAMPLE)?;
    if ["https://", "http://"].iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty())) {
        return Ok(UrlRef::Here(text.to_owned()));
    }
    match parse_key(text, directory) {
        Ok(secret) => Ok(UrlRef::Secret(secret)),
        Err(_) => Err(field.error(
            format!("not an address, and not the place of one: key=`{}`", field.key),
            format!("for example {URL_EXAMPLE}, or env:NAME or file:PATH where the address is a secret"),
        )),
    }
}

fn secret(table: &mut Table<'_, '_>, key: &'static str, directory: &Path) -> Result<Option<KeyRef>, ConfigError> {
    let Some(field) = table.take(key) else { return Ok(None) };
    let text = field.text("the place of a secret", "\"env:NAME\"")?;
    let parsed = parse_key(text, directory).map_err(|(detail, _)| {
        field.error(
            format!("{detail}: key=`{}`", field.key),
            format!("put it into a file of mode 0600 and write `{key} = \"file:PATH\"`, or env:NAME"),
        )
    });
    parsed.map(Some)
}

fn command_of(field: &Field<'_, '_>) -> Result<Vec<String>, ConfigError> {
    let (wanted, example) = ("a program and its arguments (no shell)", "[\"/usr/local/bin/tell\", \"--oncall\"]");
    let argv = field.texts(wanted, example)?;
    if argv.is_empty() { Err(field.mistyped(wanted, example)) } else { Ok(argv) }
}

fn severity(field: &Field<'_, '_>) -> Result<Severity, ConfigError> {
    one_of(field, Severity::ALL.map(|severity| (severity.as_str(), severity)))
}

fn one_of<T: Copy, const LEN: usize>(
    field: &Field<'_, '_>,
    choices: [(&'static str, T); LEN],
) -> Result<T, ConfigError> {
    let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let wanted = format!("one of {}", names.join(", "));
    let text = field.text(&wanted, &names[0])?;
    let found = choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
    found.ok_or_else(|| field.mistyped(&wanted, &names[0]))
}

fn timeout(table: &mut Table<'_, '_>) -> Result<Duration, ConfigError> {
    let Some(field) = table.take("timeout") else { return Ok(TIMEOUT) };
    match values::duration(&field, "10s")? {
        timeout if timeout <= TIMEOUT_MAX => Ok(timeout),
        _ => Err(field.error(
            format!("everything else waits for so long: key=`{}`", field.key),
            "at most 120s, for example `timeout = \"10s\"`",
        )),
    }
}
