//! What every verb is given: how to speak, where the configuration is, whether to stop.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_format::SecretKey;
use lifeboat_store::Allowance;

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
    /// What all who have it may read from the store and write to it in a second; `None`: as much as there is.
    pub allowance: Option<Arc<Allowance>>,
    surroundings: Arc<Surroundings>,
}

impl Context {
    pub(crate) fn new(global: GlobalArgs, output: Output, surroundings: Surroundings) -> Self {
        Self {
            global,
            output,
            cancel: CancelFlag::default(),
            typed: String::new(),
            asked: Asked::default(),
            allowance: None,
            surroundings: Arc::new(surroundings),
        }
    }

    pub(crate) fn with_typed(self, typed: String, asked: Asked) -> Self {
        Self { typed, asked, ..self }
    }

    /// For work of the same process that is stopped on its own.
    pub(crate) fn beside(&self, cancel: CancelFlag, allowance: Option<Arc<Allowance>>) -> Self {
        let (global, output, typed) = (self.global.clone(), self.output.clone(), self.typed.clone());
        let (asked, surroundings) = (self.asked.clone(), Arc::clone(&self.surroundings));
        Self { global, output, cancel, typed, asked, allowance, surroundings }
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
        self.start()?.block_on(work)
    }

    /// The same, and does not wait for what the work has left behind: the process ends next.
    pub(crate) fn block_on_and_leave<T>(&self, work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
        let runtime = self.start()?;
        let came = runtime.block_on(work);
        runtime.shutdown_background();
        came
    }

    fn start(&self) -> Result<tokio::runtime::Runtime, CliError> {
        if self.surroundings.listens {
            signal::listen(self.cancel.clone(), self.output.clone())?;
        }
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|io| CliError::operator(format!("cannot start threads: reason=`{io}`")))
    }
}
