//! Where sites are rebuilt: below one directory, and where the operator named them, in databases made for drills.
//!
//! The engines of a drill have the configuration's sources at other places: nothing they could write is live.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_engine::{AnySource, Engine, Fleet, Scratch};
use lifeboat_model::{SiteId, SourceName};
use lifeboat_source::postgres::target::{DatabasePlace, database_place};

use crate::CliError;
use crate::config::{Config, SourceSettings};
use crate::open::{Open, fleet};

/// A place for drills that this process has to itself, and the configuration whose sources lie there.
pub(super) struct ScratchPlace {
    pub scratch: Arc<Scratch>,
    config: Config,
}

impl ScratchPlace {
    pub fn claim(open: &Open) -> Result<Self, CliError> {
        refuse_others_directory(&open.config)?;
        let config = elsewhere(&open.config);
        let places = fleet(&config)?;
        let scratch = tokio::task::block_in_place(|| {
            let (databases, live) = match config.drill.databases.is_empty() {
                true => (Vec::new(), BTreeSet::new()),
                false => databases(&open.engine.fleet, &places)?,
            };
            let owner = (config.drill.directory.as_path(), open.engine.repository.config().repository);
            Scratch::claim(owner, &places, &databases, &live).map_err(CliError::from)
        })?;
        Ok(Self { scratch: Arc::new(scratch), config })
    }

    /// Engines for so many workers, which remember nothing of what others have read.
    pub fn crew(&self, open: &Open, count: usize, sites: BTreeSet<SiteId>) -> Result<Vec<Engine>, CliError> {
        let mut crew = open.crew(&self.config, count, sites)?;
        crew.iter_mut().for_each(|engine| engine.scratch = Some(Arc::clone(&self.scratch)));
        Ok(crew)
    }
}

/// What lies there is taken away, and what lies above may be somebody's site.
fn refuse_others_directory(config: &Config) -> Result<(), CliError> {
    let own = real(&config.drill.directory);
    // The last directory that is no site's: `/srv` of `/srv/{site}/files`, and of `/srv/site-{site}`.
    let root = |template: &str| {
        let before = template.split("{site}").next().unwrap_or_default();
        real(Path::new(before.rsplit_once('/').map_or("/", |(directory, _)| directory)))
    };
    let sources = config.sources.iter().filter_map(|source| match &source.settings {
        SourceSettings::Files(files) => Some((format!("the sites of source `{}`", source.name), root(&files.path))),
        SourceSettings::Sqlite(sqlite) => Some((format!("the sites of source `{}`", source.name), root(&sqlite.path))),
        SourceSettings::Postgres(_) => None,
    });
    let repository = config.repository.directory.iter().map(|directory| ("the repository".to_owned(), real(directory)));
    let catalog = [("the catalog".to_owned(), real(&config.repository.catalog))];
    for (whose, other) in sources.chain(repository).chain(catalog) {
        if own.starts_with(&other) || other.starts_with(&own) {
            return Err(CliError::usage(format!(
                "the directory for drills and that of {whose} lie in each other: drill.directory=`{}`, other=`{}`",
                own.display(),
                other.display()
            ))
            .with_hint("name a `directory` of its own in [drill]: drills take away what they find there"));
        }
    }
    Ok(())
}

/// Without symbolic links, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let Some((above, real)) = there else { return path.to_owned() };
    path.strip_prefix(above).map_or(real.clone(), |rest| real.join(rest))
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

/// Where each database for drills is, in the order of the fleet, and which servers live ones are on. None of them may be a
/// live one, whichever source that is of and however its URL is written, and each is one source's alone.
fn databases(live: &Fleet, places: &Fleet) -> Result<(Vec<DatabasePlace>, BTreeSet<String>), CliError> {
    let live = places_of(live).map(|(source, place)| {
        place.map_err(|error: CliError| {
            CliError { message: format!("it cannot be told whether a database for drills is the live one: {}", error.message), ..error }
                .with_hint(format!(
                    "the live database of `{source}` must answer for that; without it take `databases` out of [drill]: rows are \
                     written as files then"
                ))
        })
    });
    let live: Vec<DatabasePlace> = live.collect::<Result<_, _>>()?;
    let mut found: Vec<DatabasePlace> = Vec::new();
    for (source, place) in places_of(places) {
        let place = place?;
        if live.contains(&place) {
            return Err(CliError::usage(format!(
                "the database for drills is a live one: key=`drill.databases.{source}`"
            ))
            .with_hint("make another database, best on another server, with the types that the tables use"));
        }
        if found.contains(&place) {
            return Err(CliError::usage(format!(
                "two sources have the same database for drills: key=`drill.databases.{source}`"
            ))
            .with_hint("give each source one of its own"));
        }
        found.push(place);
    }
    Ok((found, live.into_iter().map(|place| place.system_identifier).collect()))
}

fn places_of(fleet: &Fleet) -> impl Iterator<Item = (&SourceName, Result<DatabasePlace, CliError>)> {
    fleet.sources().iter().filter_map(|source| match source {
        AnySource::Postgres(postgres) => {
            Some((source.name(), database_place(postgres.server()).map_err(CliError::from)))
        }
        _ => None,
    })
}
