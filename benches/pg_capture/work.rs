//! What the applications do: transactions of one site each, in turn over all sites, each of 20 changes.
//!
//! The backlog is of statements as applications write them. Beside a capture that is watched the same kinds of changes come
//! in fewer statements of more rows: applications, server and capture share a machine, and the rate is what is wanted.

use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use crate::fleet::Database;
use lifeboat_bench::Outcome;

/// Changes of rows in a transaction.
pub const CHANGES: u64 = 20;
/// Transactions of which the first is waited for as long as the last.
const STEP_MAX: u64 = 100;

/// Ten inserts, seven updates, two deletions; of the tables with a tenant column, and of one that reaches its site over a
/// foreign key. Ids are computed, as the fleet has been filled site by site.
const WORK: &str = "
    CREATE PROCEDURE bench_work(first bigint, count bigint) LANGUAGE plpgsql AS $$
    DECLARE
        site bigint; name text; issue bigint; person bigint; log bigint; gone bigint;
    BEGIN
        FOR n IN first .. first + count - 1 LOOP
            site := n * 7919 % :sites;
            name := 'site-' || to_char(site + 1, 'FM00000');
            issue := 1 + site * :issues; person := 1 + site * :users; log := 1 + site * :worklog;
            INSERT INTO comments (issue_id, author, body, created)
                SELECT issue + (n + k) % :issues, person + k % :users, 'Comment ' || n || ': ' || md5(name || n || k), now()
                FROM generate_series(1, 6) k;
            INSERT INTO worklog (site_id, issue_id, user_id, seconds, note)
                SELECT name, issue + k, person + 1, n % 7200, 'worked on ' || md5(name || n || k)
                FROM generate_series(1, 3) k;
            INSERT INTO audit.events (site_id, at, actor, what)
                VALUES (name, now(), person, jsonb_build_object('did', 'comment', 'n', n)),
                    (name, now(), person + 1, jsonb_build_object('did', 'log', 'n', n));
            UPDATE issues SET title = 'Issue ' || n || ' of ' || name, state = 'in work'
                WHERE id BETWEEN issue + n % (:issues - 2) AND issue + n % (:issues - 2) + 2;
            UPDATE users SET settings = jsonb_build_object('theme', 'dark', 'rows', n)
                WHERE id BETWEEN person + n % (:users - 1) AND person + n % (:users - 1) + 1;
            UPDATE worklog SET seconds = seconds + 1
                WHERE id BETWEEN log + n % (:worklog - 1) AND log + n % (:worklog - 1) + 1;
            gone := CASE WHEN n < :sites THEN 1 + site * :comments ELSE :last + 1 + 6 * (n - :sites) END;
            DELETE FROM comments WHERE id BETWEEN gone AND gone + 1;
            COMMIT;
        END LOOP;
    END $$";

/// Four transactions of a site in turn, of two statements each: together 28 + 10 + 16 inserts, 22 updates, 4 deletions.
const STEADY: &str = "
    CREATE PROCEDURE bench_steady(first bigint, count bigint, last_comment bigint) LANGUAGE plpgsql AS $$
    DECLARE
        turn bigint; site bigint; name text; issue bigint; person bigint; log bigint; mine bigint; said text; did jsonb;
    BEGIN
        FOR n IN first .. first + count - 1 LOOP
            turn := n / 4;
            site := turn * 7919 % :sites;
            issue := 1 + site * :issues; person := 1 + site * :users; log := 1 + site * :worklog;
            name := 'site-' || to_char(site + 1, 'FM00000');
            said := 'Comment ' || turn || ': ' || md5(name || turn);
            CASE n % 4
            WHEN 0 THEN
                INSERT INTO comments (issue_id, author, body, created)
                    SELECT issue + k, person, said, now() FROM generate_series(0, 11) k;
                UPDATE issues SET title = said WHERE id BETWEEN issue + turn % (:issues - 7) AND issue + turn % (:issues - 7) + 7;
            WHEN 1 THEN
                INSERT INTO worklog (site_id, issue_id, user_id, seconds, note)
                    SELECT name, issue + k, person, turn % 7200, said FROM generate_series(0, 9) k;
                UPDATE worklog SET seconds = seconds + 1
                    WHERE id BETWEEN log + turn % (:worklog - 9) AND log + turn % (:worklog - 9) + 9;
            WHEN 2 THEN
                did := jsonb_build_object('theme', 'dark', 'rows', turn);
                INSERT INTO comments (issue_id, author, body, created)
                    SELECT issue + k, person, said, now() FROM generate_series(0, 15) k;
                UPDATE users SET settings = did
                    WHERE id BETWEEN person + turn % (:users - 3) AND person + turn % (:users - 3) + 3;
            ELSE
                did := jsonb_build_object('did', 'comment', 'n', turn);
                INSERT INTO audit.events (site_id, at, actor, what)
                    SELECT name, now(), person, did FROM generate_series(1, 16);
                mine := last_comment + 28 * turn;
                DELETE FROM comments WHERE id BETWEEN mine + 1 AND mine + 4;
            END CASE;
            COMMIT;
        END LOOP;
    END $$";

pub struct Work {
    client: Client,
    /// Of the backlog.
    transactions: u64,
    /// Beside a capture that is watched, and the last comment before them.
    steady: u64,
    last_comment: i64,
}

/// What was done before anybody follows it.
pub struct Backlog {
    pub transactions: u64,
    pub log_bytes: u64,
    pub seconds: f64,
}

/// Transactions that are committed.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Before the first of them.
    pub since: Instant,
    /// After the last of them, in the server's log.
    pub position: u64,
}

impl Work {
    pub fn new(database: &Database<'_>) -> Outcome<Self> {
        let mut client = Client::connect(&database.url(), NoTls)?;
        let last: i64 = client.query_one("SELECT max(id) FROM comments", &[])?.get(0);
        let (sites, rows) = (database.shape.sites, database.shape.rows);
        let share = |of_thousand: u32| (rows * of_thousand / 1_000).max(1);
        let numbers = [
            (":sites", sites.into()),
            (":issues", share(200).into()),
            (":users", share(60).into()),
            (":worklog", share(150).into()),
            (":comments", share(250).into()),
            (":last", last),
        ];
        let sql = numbers.iter().fold(WORK.to_owned(), |sql, (name, number)| sql.replace(name, &number.to_string()));
        client.batch_execute(&sql)?;
        let sql = numbers.iter().fold(STEADY.to_owned(), |sql, (name, number)| sql.replace(name, &number.to_string()));
        client.batch_execute(&sql)?;
        // No foreign key is checked and no commit waits: neither is what is measured, and both take most of the time.
        client.batch_execute("SET session_replication_role = replica; SET synchronous_commit = off")?;
        Ok(Self { client, transactions: 0, steady: 0, last_comment: last })
    }

    pub fn backlog(&mut self, transactions: u64) -> Outcome<Backlog> {
        let (began, before) = (Instant::now(), self.position()?);
        self.client.batch_execute(&format!("CALL bench_work({}, {transactions})", self.transactions))?;
        self.transactions += transactions;
        let (position, seconds) = (self.position()?, began.elapsed().as_secs_f64());
        self.client.batch_execute("CHECKPOINT")?;
        self.last_comment = self.client.query_one("SELECT max(id) FROM comments", &[])?.get(0);
        Ok(Backlog { transactions, log_bytes: position - before, seconds })
    }

    /// Works at this rate, in small steps, and gives each of them.
    pub fn steady(&mut self, transactions_a_second: f64, duration: Duration) -> Outcome<Vec<Done>> {
        let (began, first, mut all) = (Instant::now(), self.steady, Vec::new());
        while began.elapsed() < duration {
            let due = (began.elapsed().as_secs_f64() * transactions_a_second) as u64;
            match due.saturating_sub(self.steady - first) {
                0 => std::thread::sleep(Duration::from_millis(5)),
                count => all.push(self.step(count.min(STEP_MAX))?),
            }
        }
        Ok(all)
    }

    /// Transactions of [`Work::steady`] so far.
    pub fn count(&self) -> u64 {
        self.steady
    }

    fn step(&mut self, transactions: u64) -> Outcome<Done> {
        let since = Instant::now();
        self.client
            .batch_execute(&format!("CALL bench_steady({}, {transactions}, {})", self.steady, self.last_comment))?;
        self.steady += transactions;
        Ok(Done { since, position: self.position()? })
    }

    fn position(&mut self) -> Outcome<u64> {
        let position: i64 = self.client.query_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint", &[])?.get(0);
        Ok(position as u64)
    }
}
