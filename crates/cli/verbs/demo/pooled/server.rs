//! The server a person names, and the database that the demo makes there, and drops.

use std::path::Path;

use lifeboat_model::Faulty;
use lifeboat_source::postgres::{Server, Session};
use zeroize::Zeroizing;

use crate::config::{KeyRef, parse_key};
use crate::output::Output;
use crate::{CliError, Context, key_file};

/// Databases of the demo are called this and 16 hex digits.
const PREFIX: &str = "lifeboat_demo_";

/// A server where the role may do what the demo does, and the text it was named by.
pub(super) struct Named {
    server: Server,
    url: Zeroizing<String>,
    version: String,
}

/// The server behind `--postgres`: a URL, or where one is. No message repeats it: it may hold a password.
pub(super) fn find(text: &str, context: &Context) -> Result<Named, CliError> {
    let url = match text.split_once(':') {
        Some(("env" | "file", _)) => {
            let place = parse_key(text, &context.path(Path::new(""))).map_err(|(detail, _)| {
                CliError::usage(format!("{detail}: --postgres")).with_hint("write --postgres env:NAME or file:PATH")
            })?;
            read(&place, context)?
        }
        _ => {
            if has_password(text) {
                context.output.warn(
                    "everybody on this host can see the password in the list of processes",
                    Some("write --postgres env:NAME or --postgres file:PATH"),
                );
            }
            Zeroizing::new(text.to_owned())
        }
    };
    let server = Server::new("demo", &url).map_err(|error| tell(&error))?;
    let version = check_role(&mut server.connect().map_err(|error| tell(&error))?)?;
    Ok(Named { server, url, version })
}

fn read(place: &KeyRef, context: &Context) -> Result<Zeroizing<String>, CliError> {
    let hint = "put a connection URL there, such as postgres://me:PASSWORD@127.0.0.1/postgres";
    match place {
        KeyRef::Env(name) => {
            let value = context.env(name).and_then(|value| value.into_string().ok()).filter(|url| !url.is_empty());
            let missing =
                || CliError::operator(format!("the environment variable is not set: name=`{name}`")).with_hint(hint);
            value.map(Zeroizing::new).ok_or_else(missing)
        }
        KeyRef::File(path) => match key_file::read_secret(path) {
            Ok(text) => Ok(Zeroizing::new(text.trim().to_owned())),
            Err(error) => {
                let message = error.message.replace("key file", "file of --postgres");
                Err(CliError::operator(message).with_hint(format!("{hint}; mode 0600")))
            }
        },
    }
}

fn has_password(url: &str) -> bool {
    let credentials = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(user, _)| user);
    credentials.is_some_and(|user| user.contains(':')) || url.contains("password=")
}

/// An error of the source, with the argument's name in place of the configuration's key.
fn tell(error: &lifeboat_source::Error) -> CliError {
    let named = |text: String| text.replace("the source's `url`", "--postgres").replace("`url`", "--postgres");
    let told = CliError::of(error);
    let message = named(told.message).replace("bad source configuration: source=`demo`, ", "");
    CliError { message, hint: told.hint.map(named), fault: error.fault() }
}

/// The same database by another URL: what comes later in it wins.
fn with_database(url: &str, database: &str) -> String {
    if !url.contains("://") {
        return format!("{url} dbname={database}");
    }
    // A password may hold a question mark.
    let after_credentials = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    let glue = if after_credentials.contains('?') { '&' } else { '?' };
    format!("{url}{glue}dbname={database}")
}

/// A database of the demo's own; dropped with this, unless it is to be kept.
pub(super) struct Pool {
    admin: Server,
    server: Server,
    url: Zeroizing<String>,
    database: String,
    version: String,
    keeps: bool,
    is_dropped: bool,
    output: Output,
}

impl Pool {
    pub fn make(named: &Named, keeps: bool, context: &Context) -> Result<Self, CliError> {
        let mut session = named.server.connect().map_err(|error| tell(&error))?;
        let database = format!("{PREFIX}{:016x}", super::super::stage::random()?);
        let pool = Self {
            admin: named.server.clone(),
            server: named.server.with_database(&database),
            url: Zeroizing::new(with_database(&named.url, &database)),
            database,
            version: named.version.clone(),
            keeps,
            is_dropped: false,
            output: context.output.clone(),
        };
        // Whatever the server's own default is: the demo's text is UTF-8.
        let make = format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'", pool.database);
        let made = session.batch_execute("SET default_transaction_read_only = off");
        made.and_then(|()| session.batch_execute(&make))
            .map_err(|error| tell(&session.failed("cannot make a database for the demo", &error)))?;
        Ok(pool)
    }

    pub fn connect(&self) -> Result<Session, CliError> {
        let mut session = self.server.connect().map_err(|error| tell(&error))?;
        session
            .batch_execute("SET default_transaction_read_only = off")
            .map_err(|error| tell(&session.failed("cannot prepare the session", &error)))?;
        Ok(session)
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub fn database(&self) -> &str {
        &self.database
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    /// For Lifeboat's own configuration, in a file that nobody else may read.
    pub fn note_url(&self, directory: &Path) -> Result<(), CliError> {
        key_file::write_new_secret(&directory.join("database.url"), &self.url)
    }

    /// Drops the database; a second time does nothing.
    pub fn drop_now(&mut self) -> Result<(), CliError> {
        if std::mem::replace(&mut self.is_dropped, true) {
            return Ok(());
        }
        // An application that has not ended yet must not keep it.
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.database);
        let drop_it = || -> Result<(), lifeboat_source::Error> {
            let mut session = self.admin.connect()?;
            let dropped = session.batch_execute("SET default_transaction_read_only = off");
            dropped
                .and_then(|()| session.batch_execute(&statement))
                .map_err(|error| session.failed("cannot drop the demo's database", &error))
        };
        // The client blocks on a runtime of its own, which panics on a thread of another one.
        match std::thread::scope(|scope| scope.spawn(drop_it).join()) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(tell(&error).with_hint(format!("drop it by hand: {}", self.how_to_drop()))),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// An error after which the database stays says so.
    pub fn with_name(&self, error: CliError) -> CliError {
        match self.keeps {
            true => {
                let hint = error.hint.clone().map_or(String::new(), |hint| format!("{hint}; "));
                let drop_it = self.how_to_drop();
                error.with_hint(format!("{hint}everything stays, when you have seen enough: {drop_it}"))
            }
            false => error,
        }
    }

    pub fn how_to_drop(&self) -> String {
        format!("psql YOUR-URL -c 'DROP DATABASE {}'", self.database)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.keeps
            && let Err(error) = self.drop_now()
        {
            self.output.warn(&error.message, error.hint.as_deref());
        }
    }
}

/// The server's version, once the role may do what the demo does.
fn check_role(session: &mut Session) -> Result<String, CliError> {
    let query = "
        SELECT pg_catalog.quote_ident(current_user), r.rolsuper, r.rolsuper OR r.rolcreatedb,
            pg_catalog.current_setting('server_version'),
            pg_catalog.current_setting('server_version_num')::int >= 150000
        FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";
    let failed = |session: &Session, error| tell(&session.failed("cannot look at the role", &error));
    let row = session.query_one(query, &[]).map_err(|error| failed(session, error))?;
    let (role, is_super, may_create): (String, bool, bool) = (row.get(0), row.get(1), row.get(2));
    let (version, is_15): (String, bool) = (row.get(3), row.get(4));
    if !may_create {
        return Err(CliError::operator(format!("the role may not make a database: role=`{role}`"))
            .with_hint(format!("as a superuser: ALTER ROLE {role} CREATEDB; or name another role in --postgres")));
    }
    let may_set = match is_15 {
        true => {
            let query = "SELECT pg_catalog.has_parameter_privilege('session_replication_role', 'SET')";
            session.query_one(query, &[]).map_err(|error| failed(session, error))?.get(0)
        }
        false => is_super,
    };
    if !may_set {
        let hint = match is_15 {
            true => format!("as a superuser: GRANT SET ON PARAMETER session_replication_role TO {role};"),
            false => "before PostgreSQL 15 only a superuser may: name one in --postgres".to_owned(),
        };
        let message = format!("the role may not keep triggers from firing, which a restore needs: role=`{role}`");
        return Err(CliError::operator(message).with_hint(hint));
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_s_database_is_named_in_every_form_of_a_url() {
        let check = |url: &str, want: &str| assert_eq!(with_database(url, "d"), want);
        check("postgres://me@host/app", "postgres://me@host/app?dbname=d");
        check("postgres://me:a?b@host", "postgres://me:a?b@host?dbname=d");
        check("postgres://host/app?sslmode=disable", "postgres://host/app?sslmode=disable&dbname=d");
        check("host=/tmp user=me", "host=/tmp user=me dbname=d");
    }

    #[test]
    fn a_password_in_a_url_is_seen() {
        let check = |url: &str, want: bool| assert_eq!(has_password(url), want, "{url}");
        check("postgres://me:secret@host/app", true);
        check("host=db user=me password=secret", true);
        check("postgres://me@host:5432/app", false);
        check("postgres://host:5432/app", false);
        check("host=/tmp port=1", false);
    }
}
