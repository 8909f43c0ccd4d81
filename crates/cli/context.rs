//! What every verb is given: how to speak, where the configuration is, whether to stop.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lifeboat_format::SecretKey;

use crate::args::GlobalArgs;
use crate::audit::Asked;
use crate::config::{Config, DEFAULT_FILE, KeyRef};
use crate::output::{Output, Streams};
use crate::signal::{self, CancelFlag};
use crate::{CliError, key_file};

/// Looks an environment variable up.
pub type Env = Box<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

/// The process around a command line: the real one, or a test's.
pub struct Process {
    pub streams: Streams,
    pub env: Env,
    /// Relative paths in arguments are relative to it.
    pub directory: PathBuf,
    /// Whether Ctrl-C and SIGTERM are listened for.
    pub listens: bool,
}

/// A process without its streams.
pub(crate) struct Surroundings {
    env: Env,
    directory: PathBuf,
    listens: bool,
}

impl Process {
    pub fn current() -> Self {
        Self {
            streams: Streams::of_process(),
            env: Box::new(|name| std::env::var_os(name)),
            directory: PathBuf::new(),
            listens: true,
        }
    }

    pub(crate) fn split(self) -> (Streams, Surroundings) {
        let Self { streams, env, directory, listens } = self;
        (streams, Surroundings { env, directory, listens })
    }
}

/// What a verb works with.
pub struct Context {
    pub global: GlobalArgs,
    pub output: Output,
    pub cancel: CancelFlag,
    /// The arguments as they can be typed again.
    pub typed: String,
    /// The same without values.
    pub asked: Asked,
    surroundings: Surroundings,
}

impl Context {
    pub(crate) fn new(global: GlobalArgs, output: Output, surroundings: Surroundings) -> Self {
        Self {
            global,
            output,
            cancel: CancelFlag::default(),
            typed: String::new(),
            asked: Asked::default(),
            surroundings,
        }
    }

    pub(crate) fn with_typed(self, typed: String, asked: Asked) -> Self {
        Self { typed, asked, ..self }
    }

    /// A path from the arguments.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.surroundings.directory.join(path)
    }

    /// Where the configuration is or would be.
    pub fn config_path(&self) -> PathBuf {
        self.path(self.global.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE)))
    }

    pub fn config(&self) -> Result<Config, CliError> {
        Ok(Config::load(&self.config_path())?)
    }

    pub fn master_key(&self, config: &Config) -> Result<SecretKey, CliError> {
        self.load_key(&config.repository.key)
    }

    /// A variable of the environment.
    pub fn env(&self, name: &str) -> Option<OsString> {
        (self.surroundings.env)(name)
    }

    pub fn load_key(&self, key: &KeyRef) -> Result<SecretKey, CliError> {
        key_file::load(key, &self.surroundings.env)
    }

    /// Says what the configuration asks for and this version does not do.
    pub fn tell_notes(&self, config: &Config) {
        for note in &config.notes {
            self.output.warn(note, None);
        }
    }

    /// Runs asynchronous work to its end; from here on Ctrl-C asks it to stop.
    pub fn block_on<T>(&self, work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
        if self.surroundings.listens {
            signal::listen(self.cancel.clone(), self.output.clone())?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|io| CliError::operator(format!("cannot start threads: reason=`{io}`")))?;
        runtime.block_on(work)
    }
}
