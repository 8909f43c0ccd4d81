//! `[hooks]`: the operator's own commands around a switch.

use std::time::Duration;

use super::ConfigError;
use super::reader::Table;
use super::values::{self, SITE};

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// Commands that keep a site from being written to while it is switched. `{site}` is filled in;
/// no shell reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HooksConfig {
    pub freeze: Vec<String>,
    pub thaw: Vec<String>,
    /// How long each may take.
    pub timeout: Duration,
}

pub(super) fn read(root: &mut Table<'_, '_>) -> Result<Option<HooksConfig>, ConfigError> {
    let Some(mut table) = root.take_table("hooks")? else { return Ok(None) };
    let freeze = command(&mut table, "freeze")?;
    let thaw = command(&mut table, "thaw")?;
    let timeout = match table.take("timeout") {
        Some(field) => values::duration(&field, "60s")?,
        None => TIMEOUT_DEFAULT,
    };
    let hooks = match (freeze, thaw) {
        (Some(freeze), Some(thaw)) => Some(HooksConfig { freeze, thaw, timeout }),
        (None, None) => None,
        (Some(_), None) => return Err(half(&table, "thaw", "off")),
        (None, Some(_)) => return Err(half(&table, "freeze", "on")),
    };
    table.finish()?;
    Ok(hooks)
}

fn half(table: &Table<'_, '_>, missing: &str, word: &str) -> ConfigError {
    table.error(
        format!("freeze and thaw come together: key=`hooks.{missing}`"),
        format!("write {missing} = [\"/usr/local/bin/maintenance\", \"{word}\", \"{SITE}\"]"),
    )
}

fn command(table: &mut Table<'_, '_>, key: &'static str) -> Result<Option<Vec<String>>, ConfigError> {
    let Some(field) = table.take(key) else { return Ok(None) };
    let example = "[\"/usr/local/bin/maintenance\", \"on\", \"{site}\"]";
    let wanted = "a list of a program and its arguments (no shell)";
    let argv = field.texts(wanted, example)?;
    if argv.is_empty() {
        return Err(field.mistyped(wanted, example));
    }
    if !argv.iter().any(|argument| argument.contains(SITE)) {
        return Err(field.error(
            format!("the hook does not say which site: key=`{}`", field.key),
            format!("put {SITE} where the site id goes, for example `{key} = {example}`"),
        ));
    }
    Ok(Some(argv))
}
