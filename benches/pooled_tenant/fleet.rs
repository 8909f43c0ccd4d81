//! The databases: many sites in the same ten tables, one of which is measured. Other benches of a pooled database have
//! their cluster, its tables and the source's configuration from here.

use std::process::Command;

use lifeboat_testkit::postgres::{ClusterOptions, Postgres, grow_site, pooled_fleet, query_text, run_sql, site_name};

use lifeboat_bench::Outcome;

/// The number of the site that is deleted and restored.
pub const MEASURED: u32 = 1;

/// Each table with the condition over the site's id `$`, parents first.
pub const TABLES: [(&str, &str); 10] = [
    ("public.sites", "id = $"),
    ("public.users", "site_id = $"),
    ("public.projects", "site_id = $"),
    ("public.labels", "site_id = $"),
    ("public.issues", "site_id = $"),
    ("public.comments", "issue_id IN (SELECT id FROM public.issues WHERE site_id = $)"),
    ("public.issue_labels", "issue_id IN (SELECT id FROM public.issues WHERE site_id = $)"),
    ("public.attachments", "issue_id IN (SELECT id FROM public.issues WHERE site_id = $)"),
    ("public.worklog", "site_id = $"),
    ("audit.events", "site_id = $"),
];

/// Without them each deleted user costs a scan of everybody's comments.
pub const MORE_INDEXES: &str = "
    CREATE INDEX ON comments (author); CREATE INDEX ON worklog (user_id); CREATE INDEX ON issues (reporter);
    CREATE INDEX ON projects (lead)";

/// How its source is to be read, where `BENCH_URL` says where it is.
pub const SOURCE: &str = "[sources.app]\nkind = \"postgres\"\nurl = \"env:BENCH_URL\"\ntenancy = \"column\"\n\
     tenant_column = \"site_id\"\nroot = \"sites\"\nshared = [\"countries\", \"plans\"]\n\n";

/// What each cluster is set to, whatever is measured on it.
const SETTINGS: [&str; 4] =
    ["shared_buffers = '512MB'", "max_wal_size = '8GB'", "checkpoint_timeout = '30min'", "log_checkpoints = off"];

/// A cluster of the bench's own, with more settings. `None`: there is no PostgreSQL, which was said.
pub fn cluster(more: &[&str]) -> Option<Postgres> {
    let settings = SETTINGS.iter().chain(more).map(|setting| (*setting).to_owned()).collect();
    let started = Postgres::start(&ClusterOptions { fsync: true, settings, ..ClusterOptions::default() });
    started.inspect_err(|why| println!("no PostgreSQL, nothing is measured: {why}")).ok()
}

/// What a bad script does to sites.
pub fn deletion(sites: &[u32]) -> String {
    let names: Vec<String> = sites.iter().map(|site| format!("'{}'", site_name(*site))).collect();
    let names = names.join(",");
    format!("DELETE FROM audit.events WHERE site_id IN ({names}); DELETE FROM sites WHERE id IN ({names})")
}

/// So that no measured command pays for what was done before it.
pub fn settle(url: &str) -> Outcome<()> {
    run_sql(url, "VACUUM (ANALYZE)")?;
    Ok(run_sql(url, "CHECKPOINT")?)
}

/// Count and checksum of the rows of a table for which the condition holds.
pub fn sum_of(url: &str, table: &str, condition: &str) -> Outcome<String> {
    let sum = "coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)";
    let row = query_text(url, &format!("SELECT count(*) || ' ' || {sum} FROM {table} t WHERE {condition}"))?;
    Ok(row.into_iter().flatten().flatten().collect())
}

/// How large a database is.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub sites: u32,
    /// Rows of each site, in all tables.
    pub rows: u32,
    /// Rows of the measured one.
    pub measured: u32,
}

pub struct Database<'c> {
    pub cluster: &'c Postgres,
    pub name: &'static str,
    pub shape: Shape,
}

impl<'c> Database<'c> {
    pub fn make(cluster: &'c Postgres, name: &'static str, shape: &Shape) -> Outcome<Self> {
        println!("making database {name}: {shape:?}");
        run_sql(&cluster.url("postgres"), &format!("CREATE DATABASE {name}"))?;
        let database = Self { cluster, name, shape: *shape };
        pooled_fleet(&database.url(), shape.sites, shape.rows)?;
        database.sql(MORE_INDEXES)?;
        grow_site(&database.url(), MEASURED, shape.measured.saturating_sub(shape.rows))?;
        settle(&database.url())?;
        Ok(database)
    }

    pub fn url(&self) -> String {
        self.cluster.url(self.name)
    }

    pub fn sql(&self, sql: &str) -> Outcome<()> {
        Ok(run_sql(&self.url(), sql)?)
    }

    /// `psql` on this database, over the socket, by the server's own user.
    pub fn psql(&self) -> Command {
        let mut psql = self.cluster.command("psql");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &self.cluster.socket_url(self.name)]);
        psql
    }

    pub fn settle(&self) -> Outcome<()> {
        settle(&self.url())
    }

    /// Deletes a site as a bad script would, and tidies up after it.
    pub fn delete(&self, site: u32) -> Outcome<()> {
        self.sql(&deletion(&[site]))?;
        self.settle()
    }

    /// Count and checksum of the site's rows in each table.
    pub fn picture(&self, site: u32) -> Outcome<Vec<String>> {
        let site = format!("'{}'", site_name(site));
        let of = |(table, condition): &(&str, &str)| {
            Ok(format!("{table} {}", sum_of(&self.url(), table, &condition.replace('$', &site))?))
        };
        TABLES.iter().map(of).collect()
    }

    pub fn expect_same(&self, site: u32, then: &[String]) -> Outcome<()> {
        let now = self.picture(site)?;
        match then.iter().zip(&now).find(|(then, now)| then != now) {
            Some((then, now)) => Err(format!("the site came back otherwise: {now} instead of {then}").into()),
            None => Ok(()),
        }
    }

    /// Bytes of the whole database, and bytes of the measured site's rows as text.
    pub fn sizes(&self) -> Outcome<(u64, u64)> {
        let site = format!("'{}'", site_name(MEASURED));
        let mut queries = vec!["SELECT pg_database_size(current_database())".to_owned()];
        queries.extend(TABLES.iter().map(|(table, condition)| {
            let condition = condition.replace('$', &site);
            format!("SELECT coalesce(sum(octet_length(t::text)), 0) FROM {table} t WHERE {condition}")
        }));
        let mut sizes = Vec::new();
        for query in queries {
            let rows = query_text(&self.url(), &query)?;
            sizes.push(rows.into_iter().flatten().flatten().next().ok_or("no size")?.parse::<u64>()?);
        }
        Ok((sizes[0], sizes[1..].iter().sum()))
    }

    pub fn drop_it(self) -> Outcome<()> {
        Ok(run_sql(&self.cluster.url("postgres"), &format!("DROP DATABASE {} WITH (FORCE)", self.name))?)
    }
}
