//! What the applications do: transactions of one site each, in turn over all sites, each of the same 20 changes.

use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use crate::fleet::Database;
use crate::measure::Outcome;

/// Changes of rows in a transaction.
pub const CHANGES: u64 = 20;

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

pub struct Work {
    client: Client,
    /// The number of the next transaction.
    next: u64,
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
        // No foreign key is checked and no commit waits: neither is what is measured, and both take most of the time.
        client.batch_execute("SET session_replication_role = replica; SET synchronous_commit = off")?;
        Ok(Self { client, next: 0 })
    }

    pub fn backlog(&mut self, transactions: u64) -> Outcome<Backlog> {
        let (began, before) = (Instant::now(), self.position()?);
        let position = self.some(transactions)?.position;
        let seconds = began.elapsed().as_secs_f64();
        self.client.batch_execute("CHECKPOINT")?;
        Ok(Backlog { transactions, log_bytes: position - before, seconds })
    }

    /// Works at this rate, in small steps, and gives each of them.
    pub fn steady(&mut self, transactions_a_second: f64, duration: Duration) -> Outcome<Vec<Done>> {
        let (began, first, mut all) = (Instant::now(), self.next, Vec::new());
        while began.elapsed() < duration {
            let due = (began.elapsed().as_secs_f64() * transactions_a_second) as u64;
            match due.saturating_sub(self.next - first) {
                0 => std::thread::sleep(Duration::from_millis(5)),
                count => all.push(self.some(count.min(100))?),
            }
        }
        Ok(all)
    }

    /// Transactions since the beginning.
    pub fn count(&self) -> u64 {
        self.next
    }

    fn some(&mut self, transactions: u64) -> Outcome<Done> {
        let since = Instant::now();
        self.client.batch_execute(&format!("CALL bench_work({}, {transactions})", self.next))?;
        self.next += transactions;
        Ok(Done { since, position: self.position()? })
    }

    fn position(&mut self) -> Outcome<u64> {
        let position: i64 = self.client.query_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint", &[])?.get(0);
        Ok(position as u64)
    }
}
