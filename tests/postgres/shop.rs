//! The built binary in front of a pooled database: a configuration, attachments, a repository.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use lifeboat_testkit::postgres::{Postgres, pooled_fleet, query_text, run_sql, site_name};

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
}

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
        let url = server.fresh_database().unwrap();
        pooled_fleet(&url, sites, rows).unwrap();
        let shop = Self::of(&url, FLEET);
        let srv = shop.path("srv");
        for number in 1..=sites {
            let attachments = srv.join(site_name(number)).join("attachments");
            std::fs::create_dir_all(&attachments).unwrap();
            std::fs::write(attachments.join("logo.png"), site_name(number).repeat(100)).unwrap();
        }
        let files = format!("[sources.files]\nkind = \"files\"\npath = \"{}/{{site}}/attachments\"\n", srv.display());
        shop.configure(&files);
        shop
    }

    /// Over a database that is there, with this section of the configuration.
    pub fn of(url: &str, section: &str) -> Self {
        let shop = Self { dir: scratch(), url: url.to_owned() };
        let repository = format!("file://{}/repository", shop.dir.path().display());
        shop.ok(&["init", "--repo", &repository]);
        shop.configure(section);
        shop
    }

    fn configure(&self, section: &str) {
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
        let tables = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^pg_' AND \
                      schemaname <> 'information_schema' AND schemaname NOT LIKE 'lifeboat\\_stage\\_%'";
        let tables = query_text(&self.url, tables).unwrap().into_iter().filter_map(|row| row[0].clone());
        let digest = |name: String| {
            let sorted = "string_agg(t::text, E'\\n' ORDER BY t::text)";
            format!("SELECT '{name}', count(*) || ' ' || coalesce(md5({sorted}), '') FROM {name} t")
        };
        let digests: Vec<String> = tables.map(digest).collect();
        let mut picture = BTreeMap::new();
        for row in query_text(&self.url, &digests.join(" UNION ALL ")).unwrap() {
            picture.insert(row[0].clone().unwrap_or_default(), row[1].clone().unwrap_or_default());
        }
        let sites = std::fs::read_dir(self.path("srv")).into_iter().flatten().flatten();
        for site in sites {
            let logo = site.path().join("attachments/logo.png");
            if let Ok(content) = std::fs::read(&logo) {
                picture.insert(logo.display().to_string(), format!("{} bytes", content.len()));
            }
        }
        picture
    }

    /// Only what is in the database.
    pub fn rows(&self) -> BTreeMap<String, String> {
        self.picture().into_iter().filter(|(name, _)| !name.starts_with('/')).collect()
    }

    /// Schemas that a restore left behind.
    pub fn staging(&self) -> String {
        self.text("SELECT string_agg(nspname, ' ') FROM pg_namespace WHERE nspname LIKE 'lifeboat\\_stage\\_%'")
    }

    /// Ends the sessions of all commands, as an administrator would, and waits until they are gone.
    pub fn end_sessions(&self) {
        let sessions = "FROM pg_stat_activity WHERE application_name = 'lifeboat' AND datname = current_database()";
        self.sql(&format!("SELECT pg_terminate_backend(pid) {sessions}"));
        while self.text(&format!("SELECT count(*) {sessions}")) != "0" {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Waits until no session of a command is left: the server notices a dead client a little later.
    pub fn wait_until_alone(&self) {
        for _ in 0..500 {
            let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND \
                          application_name = 'lifeboat'";
            if self.text(others) == "0" {
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
