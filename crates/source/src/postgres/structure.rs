//! The structure of a site's schema or database, as `pg_dump` writes it: what makes it again when it
//! was dropped.
//!
//! `pg_dump` knows every kind of object of every version, and sees the snapshot that the rows are read
//! under. Its password goes by its environment, never by its arguments.

use std::path::{Path, PathBuf};
use std::process::Command;

use lifeboat_model::Fault;
use serde::{Deserialize, Serialize};

use super::{PostgresConfig, Server, Session, locks};
use crate::Error;

/// Entry paths of the two halves in a snapshot.
pub const PRE_DATA_PATH: &[u8] = b".lifeboat/pre-data.sql";
pub const POST_DATA_PATH: &[u8] = b".lifeboat/post-data.sql";

/// How a failure is told that is over when a migration is.
pub const ALTERED_MEANWHILE: &str = "somebody alters its tables and waits for the locks of this backup";

/// Where distributions keep the programs of several versions.
const PLACES: &[&str] = &["/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/pgsql"];

/// SQL without any row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Structure {
    /// Schema, types, functions, tables, sequences, views.
    pub pre_data: String,
    /// Indexes, constraints, triggers, policies: faster and safer when the rows are in.
    pub post_data: String,
    /// Of a database of the site's own.
    pub database: Option<DatabaseProperties>,
    /// Materialized views that are to show nothing.
    pub unfilled_views: Vec<String>,
    /// Statements for a person: a schema that was dropped is in no publication any more.
    pub publications: Vec<String>,
}

/// A table by itself, with its columns and rows where not all are meant; and whole schemas.
const PUBLISHED: &str = "
    SELECT format('ALTER PUBLICATION %I ADD TABLE ONLY %I.%I%s%s;', p.pubname, n.nspname, c.relname,
        (SELECT ' (' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')' FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum = ANY (r.prattrs::int2[])),
        ' WHERE (' || pg_get_expr(r.prqual, r.prrelid) || ')')
    FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1
    UNION ALL
    SELECT format('ALTER PUBLICATION %I ADD TABLES IN SCHEMA %I;', p.pubname, n.nspname)
    FROM pg_publication_namespace r JOIN pg_publication p ON p.oid = r.pnpubid
        JOIN pg_namespace n ON n.oid = r.pnnspid WHERE n.nspname = $1
    ORDER BY 1";
/// The same of a server of version 14, which publishes only whole tables.
const PUBLISHED_14: &str = "
    SELECT format('ALTER PUBLICATION %I ADD TABLE ONLY %I.%I;', p.pubname, n.nspname, c.relname)
    FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1
    ORDER BY 1";
const UNFILLED: &str = "
    SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'm' AND NOT c.relispopulated AND ($1::text IS NULL OR n.nspname = $1)
    ORDER BY 1";

impl Structure {
    /// Adds what `pg_dump` does not write down: which views show nothing; of a database its properties, of
    /// a schema alone the publications it is in.
    pub(super) fn complete(self, session: &mut Session, version: u32, schema: Option<&str>) -> Result<Self, Error> {
        let mut names = |action: &str, query: &str| -> Result<Vec<String>, Error> {
            let rows = session.query(query, &[&schema]).map_err(|error| session.failed(action, &error))?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        };
        let unfilled_views = names("cannot look for views without data", UNFILLED)?;
        let published = if version < 150_000 { PUBLISHED_14 } else { PUBLISHED };
        let publications = match schema {
            Some(_) => names("cannot look for publications", published)?,
            None => Vec::new(),
        };
        let database = if schema.is_none() { Some(DatabaseProperties::read(session)?) } else { None };
        Ok(Self { database, unfilled_views, publications, ..self })
    }
}

/// What a database has besides its content.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DatabaseProperties {
    pub encoding: String,
    pub collate: String,
    pub ctype: String,
    /// Provider and locale where it is not the C library's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<(String, String)>,
    pub owner: String,
    /// Negative: none.
    pub connection_limit: i32,
    /// `ALTER DATABASE … SET key=value`, some for one role.
    pub settings: Vec<(Option<String>, String)>,
    /// Who may do what and pass it on, everybody where there is no name; `None`: as is the default.
    pub grants: Option<Vec<(Option<String>, String, bool)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl DatabaseProperties {
    /// Of the connected database. Columns of `pg_database` differ between versions: asked by name.
    pub(super) fn read(session: &mut Session) -> Result<Self, Error> {
        let failed = "cannot read the database's properties";
        let query = "
            SELECT pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datctype::text,
                to_jsonb(d) ->> 'datlocprovider', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
                pg_get_userbyid(d.datdba)::text, d.datconnlimit, d.oid, d.datacl IS NULL,
                shobj_description(d.oid, 'pg_database')
            FROM pg_database d WHERE d.datname = current_database()";
        let row = session.query_one(query, &[]).map_err(|error| session.failed(failed, &error))?;
        let (provider, locale): (Option<String>, Option<String>) = (row.get(3), row.get(4));
        let provider = match provider.as_deref() {
            Some("i") => Some("icu".to_owned()),
            Some("b") => Some("builtin".to_owned()),
            _ => None,
        };
        let (oid, has_default_grants): (u32, bool) = (row.get(7), row.get(8));
        let settings = "
            SELECT nullif(pg_get_userbyid(s.setrole)::text, 'unknown (OID=0)'), unnest(s.setconfig)
            FROM pg_db_role_setting s WHERE s.setdatabase = $1";
        let settings = session.query(settings, &[&oid]).map_err(|error| session.failed(failed, &error))?;
        let grants = "
            SELECT CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee)::text END,
                a.privilege_type, a.is_grantable
            FROM pg_database d, aclexplode(d.datacl) a WHERE d.oid = $1";
        let grants = session.query(grants, &[&oid]).map_err(|error| session.failed(failed, &error))?;
        Ok(Self {
            encoding: row.get(0),
            collate: row.get(1),
            ctype: row.get(2),
            locale: provider.zip(locale),
            owner: row.get(5),
            connection_limit: row.get(6),
            settings: settings.iter().map(|row| (row.get(0), row.get(1))).collect(),
            grants: (!has_default_grants)
                .then(|| grants.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()),
            comment: row.get(9),
        })
    }
}

/// A name as an SQL identifier.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Runs `pg_dump` under an exported snapshot; `schema`: of this one alone.
pub(super) fn dump(
    server: &Server,
    config: &PostgresConfig,
    version: u32,
    snapshot: &str,
    schema: Option<&str>,
) -> Result<Structure, Error> {
    let program = program(server, config, version)?;
    let run = |section: &str| {
        let mut command = Command::new(&program);
        command.args(["--schema-only", "--no-password", "--lock-wait-timeout=10s"]);
        command.arg(format!("--section={section}")).arg(format!("--snapshot={snapshot}"));
        match schema {
            // Within quotes nothing of a pattern is special.
            Some(schema) => command.arg(format!("--schema=\"{}\"", schema.replace('"', "\"\""))),
            // What a restore has staged is nobody's, and may be there when its undo is kept.
            None => command.arg(format!("--exclude-schema=lifeboat_stage_{}", "[0-9a-f]".repeat(16))),
        };
        server.tell_environment(&mut command);
        output(server, &program, command)
    };
    let (pre_data, post_data) = std::thread::scope(|scope| {
        let post_data = scope.spawn(|| run("post-data"));
        let pre_data = run("pre-data");
        (pre_data, post_data.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    Ok(Structure { pre_data: pre_data?, post_data: post_data?, ..Structure::default() })
}

/// The `pg_dump` that is configured, or one that is installed and new enough for the server's version.
pub(super) fn program(server: &Server, config: &PostgresConfig, version: u32) -> Result<PathBuf, Error> {
    match &config.pg_dump {
        Some(program) => Ok(program.clone()),
        None => find(version / 10_000).ok_or_else(|| no_program(server, version / 10_000)),
    }
}

fn output(server: &Server, program: &Path, mut command: Command) -> Result<String, Error> {
    let failed = |detail: String, hint: &str| Error::Database {
        source_name: server.source_name().to_owned(),
        action: "cannot read the structure".into(),
        detail,
        hint: hint.to_owned(),
        fault: Fault::Operator,
    };
    let output = command.output().map_err(|io| {
        let hint = "install PostgreSQL's client programs, or name the program: pg_dump = \"/path/to/pg_dump\"";
        failed(format!("`{}` cannot be run: {io}", program.display()), hint)
    })?;
    if !output.status.success() {
        // A statement that waits for the locks under which the rows are read makes everybody behind it wait.
        if let Some(waiting) = locks::waiting_for_us(server) {
            return Err(Error::Database {
                source_name: server.source_name().to_owned(),
                action: "cannot read the structure".into(),
                detail: format!("{ALTERED_MEANWHILE}: {waiting}"),
                hint: "run the backup again when the migration is over".into(),
                fault: Fault::Retry,
            });
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().next().unwrap_or("it said nothing").to_owned();
        let hint = "pg_dump must be of the server's version or a newer one, and the role may have to be allowed more";
        return Err(failed(last, hint));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| failed("it is no UTF-8 text".into(), ""))?;
    Ok(statements(&text))
}

/// Without what is of the run and not of the schema: words to `psql`, comments on versions, and
/// settings that an older server does not know, or that would let it wait for a lock for ever.
fn statements(dumped: &str) -> String {
    let is_kept = |line: &&str| {
        !(line.starts_with("\\restrict ")
            || line.starts_with("\\unrestrict ")
            || line.starts_with("-- Dumped ")
            || *line == "SET transaction_timeout = 0;"
            || *line == "SET lock_timeout = 0;")
    };
    dumped.lines().filter(is_kept).flat_map(|line| [line, "\n"]).collect()
}

/// The newest `pg_dump` that is installed, if it is as new as the server.
fn find(major: u32) -> Option<PathBuf> {
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> = std::env::split_paths(&in_path).map(|dir| dir.join("pg_dump")).collect();
    for place in PLACES {
        let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
        candidates.extend(entries.map(|entry| entry.path().join("bin/pg_dump")));
    }
    let known = candidates.into_iter().filter(|path| path.is_file()).filter_map(|path| Some((major_of(&path)?, path)));
    known.filter(|(found, _)| *found >= major).min_by_key(|(found, _)| *found).map(|(_, path)| path)
}

/// The version a program says it is of: `pg_dump (PostgreSQL) 15.18`.
fn major_of(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn no_program(server: &Server, major: u32) -> Error {
    Error::BadConfig {
        source_name: server.source_name().to_owned(),
        detail: format!("no pg_dump of version {major} or newer is installed: it writes down the structure"),
        hint: format!(
            "install it (Debian, Ubuntu: apt-get install postgresql-client-{major}), or name it: pg_dump = \
             \"/path/to/pg_dump\""
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_dumps_of_one_structure_are_the_same_text() {
        let dump = |key: &str, version: &str| {
            format!(
                "--\n-- PostgreSQL database dump\n--\n\n\\restrict {key}\n\n-- Dumped from database version {version}\n\
                 SET statement_timeout = 0;\nSET transaction_timeout = 0;\nCREATE TABLE a.t (x text);\n\\unrestrict {key}\n"
            )
        };
        let (one, other) = (statements(&dump("abc", "15.1")), statements(&dump("xyz", "15.2")));
        assert_eq!(one, other);
        assert!(one.contains("CREATE TABLE a.t (x text);\n") && !one.contains("restrict"), "{one}");
        assert!(one.contains("SET statement_timeout = 0;\n") && !one.contains("transaction_timeout"), "{one}");
    }
}
