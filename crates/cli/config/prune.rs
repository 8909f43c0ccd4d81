//! `[prune]`: when what nobody needs any more is deleted, and how much may be forgotten at once.

use std::time::Duration;

use lifeboat_repo::PruneRules;

use super::ConfigError;
use super::reader::Table;
use super::values;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneConfig {
    pub rules: PruneRules,
    /// Percent of all points that may be forgotten at once with nobody looking.
    pub forget_limit: u8,
    /// How often the daemon forgets and prunes; `None`: never by itself.
    pub every: Option<Duration>,
}

impl Default for PruneConfig {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self { rules: PruneRules { grace: DAY * 3, unnamed: DAY * 2 }, forget_limit: 30, every: None }
    }
}

pub(super) fn read(root: &mut Table<'_, '_>) -> Result<PruneConfig, ConfigError> {
    let mut prune = PruneConfig::default();
    let Some(mut table) = root.take_table("prune")? else { return Ok(prune) };
    if let Some(field) = table.take("grace") {
        prune.rules.grace = values::duration(&field, "3d")?;
    }
    if let Some(field) = table.take("unnamed") {
        prune.rules.unnamed = values::duration(&field, "2d")?;
    }
    if let Some(field) = table.take("forget_limit") {
        prune.forget_limit = values::percent(&field, "30%")?;
    }
    if let Some(field) = table.take("every") {
        prune.every = super::daemon::duration_or_off(&field, "24h")?;
    }
    table.finish()?;
    Ok(prune)
}
