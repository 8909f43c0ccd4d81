//! The built binary in front of a pooled database: a configuration, attachments, a repository.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use lifeboat_testkit::postgres::{Postgres, pooled_fleet, query_text, run_sql, site_name};
use lifeboat_testkit::s3_server::{ACCESS_KEY, SECRET_KEY};

/// Where the binary finds the connection URL.
pub const URL_VARIABLE: &str = "TEST_DATABASE_URL";

/// How the made-up product's database is to be read.
pub const FLEET: &str = "
[sources.app]
kind = \"postgres\"
url = \"env:TEST_DATABASE_URL\"
tenancy = \"column\"
tenant_column = \"site_id\"
root = \"sites\"
shared = [\"countries\", \"plans\"]
";

/// A schema a site, called as the site.
pub const SCHEMAS: &str = "
[sources.app]
kind = \"postgres\"
url = \"env:TEST_DATABASE_URL\"
tenancy = \"schema\"
";

/// A place to run the binary in.
pub struct Shop {
    dir: tempfile::TempDir,
    /// The database, as its superuser.
    pub url: String,
    /// Sites have a database each, of a name LIKE this; then the server is the test's own.
    databases: Option<&'static str>,
    /// Where the sites' attachments are.
    srv: PathBuf,
}

/// What a database has besides rows, as far as a restore may forget it.
const BESIDES: &str = "
    SELECT concat_ws(' ', (SELECT count(*) FROM pg_constraint), (SELECT count(*) FROM pg_index),
        (SELECT count(*) FROM pg_trigger), (SELECT string_agg(relname || relispopulated, ' ' ORDER BY relname)
            FROM pg_class WHERE relkind = 'm'),
        (SELECT string_agg(sequencename || coalesce(last_value, 0), ' ' ORDER BY sequencename) FROM pg_sequences),
        shobj_description(d.oid, 'pg_database'), d.datconnlimit, (SELECT setconfig FROM pg_db_role_setting
            WHERE setdatabase = d.oid))
    FROM pg_database d WHERE d.datname = current_database()";

/// What a command said.
#[derive(Debug)]
pub struct Said {
    /// Negative: the signal that ended it.
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Shop {
    /// A fresh database of the server with so many sites, each of about so many rows and one file.
    pub fn fleet(server: &Postgres, sites: u32, rows: u32) -> Self {
        Self::fleet_in(server, None, sites, rows)
    }

    /// The same with the repository at this URL; `None`: in a directory.
    pub fn fleet_in(server: &Postgres, repository: Option<&str>, sites: u32, rows: u32) -> Self {
        let url = server.fresh_database().unwrap();
        pooled_fleet(&url, sites, rows).unwrap();
        let shop = Self::made(&url, repository);
        shop.configure(FLEET);
        for number in 1..=sites {
            let logo = shop.attachment(number, "logo.png");
            std::fs::create_dir_all(logo.parent().unwrap()).unwrap();
            std::fs::write(logo, site_name(number).repeat(100)).unwrap();
        }
        let srv = shop.srv.display();
        let files = format!("[sources.files]\nkind = \"files\"\npath = \"{srv}/{{site}}/attachments\"\n");
        shop.configure(&files);
        shop
    }

    /// Over a database that is there, with this section of the configuration.
    pub fn of(url: &str, section: &str) -> Self {
        let shop = Self::made(url, None);
        shop.configure(section);
        shop
    }

    fn made(url: &str, repository: Option<&str>) -> Self {
        let dir = scratch();
        let srv = dir.path().join("srv");
        let shop = Self { dir, url: url.to_owned(), databases: None, srv };
        let usual = format!("file://{}/repository", shop.dir.path().display());
        shop.ok(&["init", "--repo", repository.unwrap_or(&usual)]);
        shop
    }

    /// A host that has the configuration and the key, and remembers nothing; the sites are the same.
    #[allow(dead_code)] // of recoveries
    pub fn another_host(&self) -> Self {
        let other = Self { dir: scratch(), url: self.url.clone(), databases: self.databases, srv: self.srv.clone() };
        for file in ["lifeboat.toml", "lifeboat.key"] {
            std::fs::copy(self.path(file), other.path(file)).unwrap();
        }
        other
    }

    /// A file of a site's.
    pub fn attachment(&self, site: u32, name: &str) -> PathBuf {
        self.srv.join(site_name(site)).join("attachments").join(name)
    }

    /// Sites with a database each, of a name LIKE `databases`, on a server of the test's own.
    pub fn of_databases(url: &str, section: &str, databases: &'static str) -> Self {
        Self { databases: Some(databases), ..Self::of(url, section) }
    }

    /// Adds a section to the configuration.
    pub fn configure(&self, section: &str) {
        let config = self.path("lifeboat.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(config, text + section).unwrap();
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// A command that reaches the database by this URL.
    pub fn command(&self, url: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(args).current_dir(self.dir.path()).env_remove("LIFEBOAT_CONFIG");
        command.env(URL_VARIABLE, url).env("NO_COLOR", "1").stdin(Stdio::null());
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command
    }

    pub fn start(&self, url: &str, args: &[&str]) -> Child {
        self.command(url, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub fn run_at(&self, url: &str, args: &[&str]) -> Said {
        Said::of(self.command(url, args).output().unwrap())
    }

    pub fn run(&self, args: &[&str]) -> Said {
        self.run_at(&self.url, args)
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> Said {
        let said = self.run(args);
        assert_eq!(said.code, 0, "{args:?}: {}\n{}", said.out, said.err);
        said
    }

    /// Runs a command that must end with this code and say all of this on stderr.
    #[track_caller]
    pub fn refused(&self, args: &[&str], code: i32, says: &[&str]) -> Said {
        let said = self.run(args);
        said.check(code, says);
        said
    }

    #[track_caller]
    pub fn sql(&self, sql: &str) {
        run_sql(&self.url, sql).unwrap();
    }

    pub fn text(&self, sql: &str) -> String {
        query_text(&self.url, sql).unwrap()[0][0].clone().unwrap_or_default()
    }

    /// Every row of every table of everybody, and every attachment.
    pub fn picture(&self) -> BTreeMap<String, String> {
        let Some(databases) = self.databases else { return self.picture_at(&self.url) };
        let names = format!("SELECT datname FROM pg_database WHERE datname LIKE '{databases}'");
        let (front, _) = self.url.rsplit_once('/').unwrap();
        let mut picture = BTreeMap::new();
        for name in query_text(&self.url, &names).unwrap().into_iter().filter_map(|row| row[0].clone()) {
            let url = format!("{front}/{name}?sslmode=disable");
            picture.insert(name.clone(), query_text(&url, BESIDES).unwrap()[0][0].clone().unwrap_or_default());
            picture.extend(self.picture_at(&url).into_iter().map(|(table, rows)| (format!("{name} {table}"), rows)));
        }
        picture
    }

    fn picture_at(&self, url: &str) -> BTreeMap<String, String> {
        let tables = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^pg_' AND \
                      schemaname <> 'information_schema' AND schemaname NOT LIKE 'lifeboat\\_stage\\_%'";
        let tables = query_text(url, tables).unwrap().into_iter().filter_map(|row| row[0].clone());
        let digest = |name: String| {
            let sorted = "string_agg(t::text, E'\\n' ORDER BY t::text)";
            format!("SELECT '{name}', count(*) || ' ' || coalesce(md5({sorted}), '') FROM {name} t")
        };
        let digests: Vec<String> = tables.map(digest).collect();
        let mut picture = BTreeMap::new();
        for row in query_text(url, &digests.join(" UNION ALL ")).unwrap() {
            picture.insert(row[0].clone().unwrap_or_default(), row[1].clone().unwrap_or_default());
        }
        let listed = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten();
        for file in listed(self.srv.clone()).flat_map(|site| listed(site.path().join("attachments"))) {
            if let Ok(content) = std::fs::read(file.path()) {
                let mut hasher = DefaultHasher::new();
                content.hash(&mut hasher);
                let told = format!("{} bytes, {:x}", content.len(), hasher.finish());
                picture.insert(file.path().display().to_string(), told);
            }
        }
        picture
    }

    /// Only what is in the database.
    pub fn rows(&self) -> BTreeMap<String, String> {
        self.picture().into_iter().filter(|(name, _)| !name.starts_with('/')).collect()
    }

    /// Schemas, or databases, that a restore left behind.
    pub fn staging(&self) -> String {
        let (name, list) = match self.databases {
            None => ("nspname", "pg_namespace"),
            Some(_) => ("datname", "pg_database"),
        };
        self.text(&format!("SELECT string_agg({name}, ' ') FROM {list} WHERE {name} LIKE 'lifeboat\\_stage\\_%'"))
    }

    /// The sessions of commands of this shop.
    fn sessions(&self) -> &'static str {
        match self.databases {
            None => "FROM pg_stat_activity WHERE application_name = 'lifeboat' AND datname = current_database()",
            Some(_) => "FROM pg_stat_activity WHERE application_name = 'lifeboat'",
        }
    }

    /// Ends the sessions of all commands, as an administrator would, and waits until they are gone.
    pub fn end_sessions(&self) {
        let sessions = self.sessions();
        self.sql(&format!("SELECT pg_terminate_backend(pid) {sessions}"));
        while self.text(&format!("SELECT count(*) {sessions}")) != "0" {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Waits until no session of a command is left: the server notices a dead client a little later.
    pub fn wait_until_alone(&self) {
        for _ in 0..500 {
            if self.text(&format!("SELECT count(*) {}", self.sessions())) == "0" {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("sessions are left: {}", self.text("SELECT string_agg(query, '; ') FROM pg_stat_activity"));
    }
}

/// In memory where there is such a place: a repository waits for the disk at every commit.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Said {
    pub fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let code = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0));
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    pub fn check(&self, code: i32, says: &[&str]) {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        for says in says {
            assert!(self.err.contains(says), "{says} in\n{}", self.err);
        }
        assert!(code == 0 || self.err.contains("hint: "), "no way out in\n{}", self.err);
    }

    /// A text field of the last line of `--json`.
    pub fn field(&self, name: &str) -> String {
        let line = self.out.lines().last().unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        value[name].as_str().unwrap_or_default().to_owned()
    }
}
