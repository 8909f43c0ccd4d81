//! The databases: many sites in the same ten tables, one of which is measured.

use std::process::Command;

use lifeboat_testkit::postgres::{Postgres, grow_site, pooled_fleet, query_text, run_sql, site_name};

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
const MORE_INDEXES: &str = "
    CREATE INDEX ON comments (author); CREATE INDEX ON worklog (user_id); CREATE INDEX ON issues (reporter);
    CREATE INDEX ON projects (lead)";

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
        database.settle()?;
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

    /// So that no measured command pays for what was done before it.
    pub fn settle(&self) -> Outcome<()> {
        self.sql("VACUUM (ANALYZE)")?;
        self.sql("CHECKPOINT")
    }

    /// Deletes a site as a bad script would, and tidies up after it.
    pub fn delete(&self, site: u32) -> Outcome<()> {
        let site = site_name(site);
        self.sql(&format!("DELETE FROM audit.events WHERE site_id = '{site}'; DELETE FROM sites WHERE id = '{site}'"))?;
        self.settle()
    }

    /// Count and checksum of the site's rows in each table.
    pub fn picture(&self, site: u32) -> Outcome<Vec<String>> {
        let site = format!("'{}'", site_name(site));
        let of = |(table, condition): &(&str, &str)| {
            let condition = condition.replace('$', &site);
            let sum = "coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)";
            let row = query_text(
                &self.url(),
                &format!("SELECT '{table} ' || count(*) || ' ' || {sum} FROM {table} t WHERE {condition}"),
            )?;
            Ok(row.into_iter().flatten().flatten().collect())
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
