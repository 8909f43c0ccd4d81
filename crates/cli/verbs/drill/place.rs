//! Where sites are rebuilt: below one directory, and where the operator named them, in databases made for drills.
//!
//! The engines of a drill have the configuration's sources at other places: nothing they could write is live.

use std::collections::BTreeSet;
use std::sync::Arc;

use lifeboat_engine::{AnySource, Engine, Fleet, Scratch};
use lifeboat_model::SiteId;

use crate::CliError;
use crate::config::{Config, SourceSettings};
use crate::open::{Open, fleet};

/// Engines for so many workers.
pub(super) fn crew(open: &Open, count: usize, sites: BTreeSet<SiteId>) -> Result<Vec<Engine>, CliError> {
    let config = elsewhere(&open.config);
    let places = fleet(&config)?;
    let scratch = tokio::task::block_in_place(|| {
        sites.first().map_or(Ok(()), |site| refuse_live(&open.engine.fleet, &places, &config, site))?;
        Scratch::claim(&config.drill.directory, &places, !config.drill.databases.is_empty()).map_err(CliError::from)
    })?;
    let scratch = Arc::new(scratch);
    let mut crew = open.crew(&config, count, sites)?;
    crew.iter_mut().for_each(|engine| engine.scratch = Some(Arc::clone(&scratch)));
    Ok(crew)
}

/// The same sources, each with a place for a site called by the name that a drill gives it.
fn elsewhere(config: &Config) -> Config {
    let mut config = config.clone();
    let root = config.drill.directory.display().to_string();
    for source in &mut config.sources {
        let place = format!("{root}/{{site}}/{}", source.name);
        match &mut source.settings {
            SourceSettings::Files(files) => files.path = place,
            SourceSettings::Sqlite(sqlite) => {
                let file = sqlite.path.rsplit('/').next().filter(|file| !file.contains('{')).unwrap_or("database");
                sqlite.path = format!("{place}/{file}");
            }
            SourceSettings::Postgres(postgres) => {
                if let Some(url) = config.drill.databases.get(&source.name) {
                    postgres.url = url.clone();
                }
            }
        }
    }
    config
}

/// A database for drills that is the live one would be loaded while its users work.
fn refuse_live(live: &Fleet, places: &Fleet, config: &Config, site: &SiteId) -> Result<(), CliError> {
    for name in config.drill.databases.keys() {
        let identity = |fleet: &Fleet| match fleet.source(name) {
            Some(AnySource::Postgres(source)) => lifeboat_source::Source::identity(source.as_ref(), site).map(Some),
            _ => Ok(None),
        };
        let scratch = identity(places)?;
        // On the worst day the live one does not answer: then nobody can be at work in it.
        if scratch.is_some() && identity(live).is_ok_and(|live| live == scratch) {
            return Err(CliError::usage(format!(
                "the database for drills is the live one: key=`drill.databases.{name}`"
            ))
            .with_hint("make another database, best on another server, with the types that the tables use"));
        }
    }
    Ok(())
}
