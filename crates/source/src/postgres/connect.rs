//! Connections: TLS, the settings every session needs, and errors in a person's words.

use std::ffi::OsStr;
use std::ops::{Deref, DerefMut};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use lifeboat_model::Fault;
use postgres::config::{Config, Host, SslMode};
use postgres::error::SqlState;
use postgres::{Client, NoTls};

use crate::Error;

/// What a session must not inherit from the role's or the database's defaults. Time-outs that a
/// careful administrator sets would end a snapshot half way; text must come out the same everywhere. Queries of the
/// catalogue are compiled for a second and run for a millisecond, unless that is turned off.
pub(super) const SETTINGS: &str = "
    SET statement_timeout = 0; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = 0;
    SET idle_session_timeout = 0; SET jit = off;
    SET row_security = off; SET search_path = ''; SET client_min_messages = warning;
    SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET extra_float_digits = 1;
    SET bytea_output = 'hex'; SET xmloption = 'content'; SET standard_conforming_strings = on;
    SET client_encoding = 'UTF8'; SET lc_monetary = 'C'; SET synchronous_commit = on;
    SET transform_null_equals = off; SET default_transaction_isolation = 'read committed'";
/// Since 17 one more time-out, for transactions of any kind.
pub(super) const SETTINGS_17: &str = "SET transaction_timeout = 0";
/// The same as in the settings.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One database, as the configuration names it.
#[derive(Clone)]
pub struct Server {
    source_name: String,
    config: Config,
    /// Why it cannot be connected to at all: what is done without the database works nevertheless.
    unusable: Option<Unusable>,
}

#[derive(Clone)]
struct Unusable {
    action: String,
    detail: String,
    hint: String,
}

/// A connection. Blocks; closes itself when dropped, wherever that is.
pub struct Session {
    client: Option<Client>,
    source_name: String,
}

impl Server {
    /// Reads a connection URL or keyword string. The message never shows it: it may hold a password.
    pub fn new(source_name: &str, url: &str) -> Result<Self, Error> {
        let mut config: Config = url.parse().map_err(|_| Error::BadConfig {
            source_name: source_name.to_owned(),
            detail: "`url` is no PostgreSQL connection URL".into(),
            hint: "such as postgres://lifeboat:PASSWORD@db.example:5432/app?sslmode=require, given as env:NAME or \
                   file:PATH"
                .into(),
        })?;
        if config.get_application_name().is_none() {
            config.application_name("lifeboat");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        Ok(Self { source_name: source_name.to_owned(), config, unusable: None })
    }

    /// Under which name it is connected to.
    pub(super) fn application_name(&self) -> &str {
        self.config.get_application_name().unwrap_or_default()
    }

    /// A server of which not even the URL is known: each connection fails with these words.
    pub fn unusable(source_name: &str, action: &str, detail: &str, hint: &str) -> Self {
        let unusable = Unusable { action: action.to_owned(), detail: detail.to_owned(), hint: hint.to_owned() };
        Self { source_name: source_name.to_owned(), config: Config::new(), unusable: Some(unusable) }
    }

    /// The same server, another database of it.
    pub fn with_database(&self, database: &str) -> Self {
        let mut config = self.config.clone();
        config.dbname(database);
        Self { config, ..self.clone() }
    }

    pub fn source_name(&self) -> &str {
        &self.source_name
    }

    /// How to connect; an error if nobody can say.
    pub(super) fn config(&self) -> Result<&Config, Error> {
        self.refuse_unusable().map(|()| &self.config)
    }

    fn refuse_unusable(&self) -> Result<(), Error> {
        let Some(Unusable { action, detail, hint }) = self.unusable.clone() else { return Ok(()) };
        Err(Error::Database { source_name: self.source_name.clone(), action, detail, hint, fault: Fault::Operator })
    }

    /// The name of the database it connects to.
    pub(super) fn database(&self) -> &str {
        self.config.get_dbname().or(self.config.get_user()).unwrap_or_default()
    }

    /// Tells one of PostgreSQL's own programs where the server is, by its environment: arguments are seen
    /// by everybody on the machine.
    pub(super) fn tell_environment(&self, command: &mut Command) {
        let hosts = self.config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        });
        let ports = self.config.get_ports().iter().map(u16::to_string);
        let mode = match self.config.get_ssl_mode() {
            SslMode::Disable => "disable",
            SslMode::Require => "require",
            _ => "prefer",
        };
        command.env("PGHOST", hosts.collect::<Vec<_>>().join(","));
        command.env("PGPORT", ports.collect::<Vec<_>>().join(","));
        command.env("PGDATABASE", self.database()).env("PGSSLMODE", mode).env("PGCLIENTENCODING", "UTF8");
        command.env("PGAPPNAME", self.config.get_application_name().unwrap_or("lifeboat"));
        command.env_remove("PGSERVICE").env_remove("PGOPTIONS").stdin(Stdio::null());
        if let Some(user) = self.config.get_user() {
            command.env("PGUSER", user);
        }
        if let Some(password) = self.config.get_password() {
            command.env("PGPASSWORD", OsStr::from_bytes(password));
        }
    }

    /// A new session with the settings above.
    pub fn connect(&self) -> Result<Session, Error> {
        self.refuse_unusable()?;
        let failed = |error: postgres::Error| self.cannot_connect(&error);
        let client = match self.config.get_ssl_mode() {
            SslMode::Disable => self.config.connect(NoTls),
            _ => self.config.connect(self.tls()?),
        };
        let mut session = Session { client: Some(client.map_err(failed)?), source_name: self.source_name.clone() };
        session.batch_execute(SETTINGS).map_err(failed)?;
        let version: String = session.query_one("SHOW server_version_num", &[]).map_err(failed)?.get(0);
        let version: u32 = version.parse().unwrap_or(0);
        if version < 140_000 {
            return Err(Error::BadConfig {
                source_name: self.source_name.clone(),
                detail: format!("the server is PostgreSQL {}: 14 is the oldest that works", version / 10_000),
                hint: "upgrade the server".into(),
            });
        }
        if version >= 170_000 {
            session.batch_execute(SETTINGS_17).map_err(failed)?;
        }
        Ok(session)
    }

    /// Certificates are checked against the system's authorities (`sslmode=require` checks them too).
    pub(super) fn tls(&self) -> Result<tokio_postgres_rustls::MakeRustlsConnect, Error> {
        let failed = |detail: String| Error::Database {
            source_name: self.source_name.clone(),
            action: "cannot set up TLS".into(),
            detail,
            hint: "install the system's certificate authorities (ca-certificates), or say sslmode=disable in `url`"
                .into(),
            fault: Fault::Operator,
        };
        tokio_postgres_rustls::MakeRustlsConnect::with_native_certs()
            .map(|(connect, _)| connect)
            .map_err(|errors| failed(format!("no usable certificates: {errors:?}")))
    }

    fn cannot_connect(&self, error: &postgres::Error) -> Error {
        let (hint, fault) = connect_advice(error.code());
        Error::Database {
            source_name: self.source_name.clone(),
            action: "cannot connect to the database".into(),
            detail: words_of(error),
            hint: hint.into(),
            fault,
        }
    }
}

impl Session {
    /// An error of this session, while it did `action` ("cannot read table `public.issues`").
    pub fn failed(&self, action: impl Into<String>, error: &postgres::Error) -> Error {
        let message = error.as_db_error().map_or("", |db| db.message());
        let (hint, fault) = advice(error.code(), message);
        Error::Database {
            source_name: self.source_name.clone(),
            action: action.into(),
            detail: words_of(error),
            hint: hint.into(),
            fault,
        }
    }

    /// The same for what `COPY` in or out failed with.
    pub fn failed_io(&self, action: impl Into<String>, error: &std::io::Error) -> Error {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<postgres::Error>()) {
            Some(error) => self.failed(action, error),
            None => Error::Database {
                source_name: self.source_name.clone(),
                action: action.into(),
                detail: error.to_string(),
                hint: "the connection was lost: run the same command again".into(),
                fault: Fault::Retry,
            },
        }
    }

    pub fn source_name(&self) -> &str {
        &self.source_name
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client.as_ref().expect("a session has its client until it is dropped")
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        self.client.as_mut().expect("a session has its client until it is dropped")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closing blocks on the client's own runtime, which panics on a thread of another one.
        let client = self.client.take();
        let _ = std::thread::spawn(move || drop(client)).join();
    }
}

/// Nothing answers there. Whoever can wait may, for a server that is being started anew: see [`Error::is_unreachable`].
pub(crate) const UNREACHABLE: &str = "is the server up, and host and port in the source's `url` right?";

/// The same for an error of connecting.
pub(super) fn connect_advice(code: Option<&SqlState>) -> (&'static str, Fault) {
    match code {
        Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
            ("check user and password in the source's `url`", Fault::Operator)
        }
        Some(&SqlState::INVALID_CATALOG_NAME) => ("check the database's name in the source's `url`", Fault::Operator),
        Some(&SqlState::TOO_MANY_CONNECTIONS) => {
            ("the server takes no more connections: try again, or raise max_connections", Fault::Retry)
        }
        Some(&SqlState::CANNOT_CONNECT_NOW | &SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN) => {
            ("the server is starting or stopping: try again", Fault::Retry)
        }
        Some(_) => ("ask the server's log", Fault::Operator),
        None => (UNREACHABLE, Fault::Operator),
    }
}

/// What a person is to do about an error, and who must act: by its code; `None`: the connection is gone.
pub(super) fn advice(code: Option<&SqlState>, message: &str) -> (&'static str, Fault) {
    match code {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            ("`lifeboat sources inspect` prints the GRANT that is missing", Fault::Operator)
        }
        Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            ("somebody holds a lock for long: wait for them, or end their transaction", Fault::Retry)
        }
        Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED) => ("try again", Fault::Retry),
        Some(&SqlState::DISK_FULL | &SqlState::OUT_OF_MEMORY | &SqlState::INSUFFICIENT_RESOURCES) => {
            ("free some space on the database server, then run the same command again", Fault::Operator)
        }
        Some(&SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN | &SqlState::CANNOT_CONNECT_NOW) => {
            ("the server ended the connection: run the same command again", Fault::Retry)
        }
        Some(&SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN | &SqlState::INVALID_SCHEMA_NAME) => {
            ("a table was dropped, renamed or altered meanwhile: run the same command again", Fault::Operator)
        }
        Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => {
            ("the server takes no writes (a standby?): name the primary in the source's `url`", Fault::Operator)
        }
        Some(&SqlState::CHARACTER_NOT_IN_REPERTOIRE | &SqlState::UNTRANSLATABLE_CHARACTER) => (
            "the database holds text that has no form in UTF-8 (one of encoding SQL_ASCII takes any bytes): correct \
             those rows, or move to a database of encoding UTF8",
            Fault::Operator,
        ),
        Some(code) if is_too_long(code, message) => (
            "as text a row may be 1 GiB long, and a bytea takes twice its size: make that row's value smaller, or \
             name its table under `ignored`",
            Fault::Operator,
        ),
        Some(&SqlState::QUERY_CANCELED) => {
            ("somebody cancelled it (a time-out is none of ours): run the same command again", Fault::Retry)
        }
        Some(_) => ("the server's log may say more; then run the same command again", Fault::Operator),
        None => ("the connection was lost: run the same command again", Fault::Retry),
    }
}

/// The server's own limits of one value or row; for some it has no code of their own.
fn is_too_long(code: &SqlState, message: &str) -> bool {
    *code == SqlState::PROGRAM_LIMIT_EXCEEDED || message.starts_with("invalid memory alloc request size")
}

/// An error of the server in its own words, unless they may hold values of rows.
pub(super) fn words_of_server(code: &str, message: &str) -> String {
    // Of these classes (data, integrity) the message itself quotes values.
    if ["22", "23"].iter().any(|class| code.starts_with(class)) {
        return format!("SQLSTATE {code}");
    }
    format!("{message} (SQLSTATE {code})")
}

/// What the server said, with the part a person needs and without what may hold tenants' data
/// (`DETAIL` quotes rows).
fn words_of(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => words_of_server(db.code().code(), db.message()),
        None => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(error) = source {
                text = format!("{text}: {error}");
                source = error.source();
            }
            text
        }
    }
}
