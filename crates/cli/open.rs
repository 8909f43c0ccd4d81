//! From the configuration to an engine: the one place where the parts are put together.
//!
//!   lifeboat.toml ─▶ key ─▶ store ─▶ repository ┐
//!                  ─▶ sources, hooks, policies ─┼─▶ [`lifeboat_engine::Engine`]
//!                  ─▶ catalog, bars, Ctrl-C ────┘
//!
//! What is not here: what the verbs do with it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use lifeboat_engine::{AnySource, Engine, Fleet, HeadMemory, Hooks, Policy, Usage};
use lifeboat_format::SecretKey;
use lifeboat_model::{ProgressSink, SiteId};
use lifeboat_repo::Repository;
use lifeboat_source::PathTemplate;
use lifeboat_source::files::{Exclusion, FilesSource};
use lifeboat_source::postgres::{PostgresConfig, PostgresSource, Server};
use lifeboat_source::sqlite::SqliteSource;
use lifeboat_store::{Meter, Meters, OpenOptions, Pace, Remember, Remembered, Store};

use crate::config::{Config, KeyRef, PostgresSettings, SourceConfig, SourceSettings};
use crate::key_file;
use crate::memory::CatalogMemory;
use crate::progress::Bars;
use crate::{CliError, Context};

/// Bases that are younger are never taken anew, however short the window is.
const BASE_AGE_MIN: Duration = Duration::from_secs(3 * 86_400);

/// An engine, and what the command line keeps of its parts.
pub struct Open {
    pub config: Config,
    pub engine: Engine,
    pub memory: Arc<CatalogMemory>,
    pub bars: Arc<Bars>,
    surround: Surround,
}

/// What all engines of a process share.
struct Surround {
    cancel: Arc<AtomicBool>,
    memory: Arc<CatalogMemory>,
    bars: Arc<Bars>,
}

impl Surround {
    /// An engine with sources, and so connections, of its own.
    fn engine(&self, repository: Repository, meters: Arc<Meters>, config: &Config) -> Result<Engine, CliError> {
        let policies = config.clone();
        Ok(Engine {
            repository,
            fleet: fleet(config)?,
            hooks: hooks(config),
            memory: Arc::clone(&self.memory) as Arc<dyn HeadMemory>,
            progress: Arc::clone(&self.bars) as Arc<dyn ProgressSink>,
            cancel: Arc::clone(&self.cancel),
            fetch: config.limits.fetch(),
            ingest: config.limits.ingest(),
            usage: Box::new(move || {
                let used = meters.snapshot();
                Usage { requests: used.requests(), bytes_read: used.bytes_in }
            }),
            read_once: None,
            scratch: None,
            policy: Box::new(move |site| policy(&policies, site)),
        })
    }
}

impl Open {
    /// One more engine over the same repository in this store, of `count` that work side by side, with the sources of
    /// `config`: what it asks the store is counted on its own, and together they take the memory of one.
    /// What was answered about the change logs is `remembered` for all of them.
    pub fn engine_at(
        &self,
        config: &Config,
        (store, count): (&Arc<dyn Store>, usize),
        remembered: &Arc<Remembered>,
    ) -> Result<Engine, CliError> {
        let metered = Meter::new(Arc::clone(store));
        let meters = metered.meters();
        let remembering = Remember::new(metered, Arc::clone(remembered));
        let repository = self.engine.repository.over(Arc::new(remembering));
        let mut engine = self.surround.engine(repository, meters, config)?;
        let memory = engine.fetch.bytes_in_flight_max / count;
        engine.fetch.bytes_in_flight_max = memory.max(BYTES_IN_FLIGHT_MIN);
        Ok(engine)
    }
}

/// With less, an engine beside others cannot read ahead.
const BYTES_IN_FLIGHT_MIN: usize = 8 << 20;

impl Context {
    /// Everything the verbs need, from the configuration file.
    pub async fn open(&self) -> Result<Open, CliError> {
        let config = self.config()?;
        let key = self.master_key(&config)?;
        self.open_with(config, &key).await
    }

    /// The same, with a configuration and a key that are there already.
    pub async fn open_with(&self, config: Config, key: &SecretKey) -> Result<Open, CliError> {
        let options = OpenOptions { limits: config.limits.store(), ..OpenOptions::default() };
        let store = lifeboat_store::open(&config.repository.url, &options).await?;
        let reached = match &self.allowance {
            Some(allowance) => Arc::new(Pace::sharing(store.store, Arc::clone(allowance), self.cancel.shared())),
            None => store.store,
        };
        let repository = Repository::open(reached, key).await?;
        let memory =
            Arc::new(CatalogMemory::open(&config.repository.catalog, repository.clone(), self.output.clone())?);
        let bars = Arc::new(Bars::new(&self.output));
        let usual = Surround { cancel: self.cancel.shared(), memory: Arc::clone(&memory), bars: Arc::clone(&bars) };
        let engine = usual.engine(repository, store.meters, &config)?;
        Ok(Open { config, engine, memory, bars, surround: usual })
    }

    /// The store behind an address; `create_root` makes a missing directory, for `init` alone.
    pub async fn open_store(&self, url: &str, create_root: bool) -> Result<lifeboat_store::Opened, CliError> {
        Ok(lifeboat_store::open(url, &OpenOptions { create_root, ..OpenOptions::default() }).await?)
    }
}

fn policy(config: &Config, site: &SiteId) -> Policy {
    let policy = config.policy_of(site);
    let base_age_max = (policy.keep.window / 2).max(BASE_AGE_MIN);
    Policy { shrink_limit: f64::from(policy.shrink_limit) / 100.0, base_age_max }
}

fn hooks(config: &Config) -> Hooks {
    config.hooks.as_ref().map_or_else(Hooks::default, |hooks| Hooks {
        freeze: hooks.freeze.clone(),
        thaw: hooks.thaw.clone(),
        timeout: Some(hooks.timeout),
    })
}

/// The sources as the engine takes them.
pub fn fleet(config: &Config) -> Result<Fleet, CliError> {
    let sources: Result<Vec<AnySource>, CliError> = config.sources.iter().map(|source| build(source, config)).collect();
    Ok(Fleet::new(sources?))
}

fn build(source: &SourceConfig, config: &Config) -> Result<AnySource, CliError> {
    let name = source.name.clone();
    match &source.settings {
        SourceSettings::Sqlite(sqlite) => Ok(AnySource::Sqlite(SqliteSource::new(name, template(&sqlite.path)?))),
        SourceSettings::Files(files) => {
            let mut exclusions = own_files(config);
            for inner in &files.exclude {
                exclusions.push(Exclusion::Tree(template(&format!("{}/{inner}", files.path))?));
            }
            for other in &config.sources {
                if let SourceSettings::Sqlite(other) = &other.settings {
                    exclusions.push(Exclusion::Database(template(&other.path)?));
                }
            }
            Ok(AnySource::Files(FilesSource::new(name, template(&files.path)?, exclusions)))
        }
        SourceSettings::Postgres(postgres) => {
            let config = PostgresConfig {
                url: String::new(), // in the server, with its password
                tenancy: postgres.tenancy,
                names: postgres.names.clone(),
                not_sites: postgres.not_sites.clone(),
                pg_dump: postgres.pg_dump.clone(),
                tenant_column: postgres.tenant_column.clone(),
                root: postgres.root.clone(),
                shared: postgres.shared.clone(),
                ignored: postgres.ignored.clone(),
                tables: postgres.tables.clone(),
            };
            let server = server_of(source, postgres)?;
            Ok(AnySource::Postgres(Box::new(PostgresSource::with_server(name, config, server))))
        }
    }
}

/// The server, with the connection URL from where the configuration says it is. It holds a password: no
/// message repeats it. What needs no database works without it too: on the worst day there may be none.
fn server_of(source: &SourceConfig, postgres: &PostgresSettings) -> Result<Server, CliError> {
    let (name, hint) =
        (source.name.as_str(), "put the connection URL there, such as postgres://lifeboat:PASSWORD@db.example/app");
    match &postgres.url {
        KeyRef::Env(variable) => match std::env::var(variable).ok().filter(|url| !url.is_empty()) {
            Some(url) => Ok(Server::new(name, &url)?),
            None => {
                let action = "the environment variable of a source's `url` is not set";
                Ok(Server::unusable(name, action, &format!("name=`{variable}`"), hint))
            }
        },
        KeyRef::File(path) => match key_file::read_secret(path) {
            Ok(text) => Ok(Server::new(name, text.trim())?),
            Err(error) => {
                let action = "cannot take a source's `url` from its file";
                let detail = error.message.replace("key file", "file that a source's `url` names");
                let hint = format!("{hint}; mode 0600: file=`{}`", path.display());
                Ok(Server::unusable(name, action, &detail, &hint))
            }
        },
    }
}

/// What is Lifeboat's own and must be in no backup, should a path lead there all the same.
fn own_files(config: &Config) -> Vec<Exclusion> {
    let key = match &config.repository.key {
        KeyRef::File(path) => Some(path.as_path()),
        KeyRef::Env(_) => None,
    };
    let directory = config.repository.directory.as_deref();
    let own: [Option<&Path>; 4] = [key, directory, Some(&config.repository.catalog), Some(&config.drill.directory)];
    own.into_iter().flatten().map(|path| Exclusion::Path(path.to_owned())).collect()
}

fn template(text: &str) -> Result<PathTemplate, CliError> {
    // The configuration was checked with the same parser: only a path put together here can fail.
    PathTemplate::parse(text).map_err(|error| {
        CliError::usage(format!("bad path of a source: {error}")).with_hint("mend the path or `exclude` in [sources]")
    })
}
