//! A mixed load: everything that applications do to rows, from a seed.

use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_testkit::postgres::site_name;

/// Ends a load also when whoever looks at it fails.
pub struct Over<'o>(pub &'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Small numbers that look random, and are the same every time.
pub struct Seed(pub u64);

impl Seed {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// One transaction on one of `sites` sites, as SQL.
pub fn transaction(seed: &mut Seed, sites: u64, number: u64) -> String {
    let site = site_name(1 + seed.below(sites) as u32);
    let issue =
        format!("(SELECT id FROM issues WHERE site_id = '{site}' ORDER BY md5(id::text || '{number}') LIMIT 1)");
    let one = |seed: &mut Seed| match seed.below(11) {
        0 => format!(
            "INSERT INTO comments (issue_id, body, created) SELECT id, 'new {number}\\t' || E'\\n', now() FROM issues \
             WHERE id = {issue}"
        ),
        1 => format!("UPDATE issues SET title = title || ' {number}' WHERE id = {issue}"),
        2 => format!("UPDATE issues SET body = repeat(md5('{number}'), 400) WHERE id = {issue}"),
        // What is stored apart stays unchanged, and is in no message.
        3 => format!("UPDATE issues SET state = 'done {number}' WHERE length(body) > 9000 AND site_id = '{site}'"),
        4 => format!("DELETE FROM issues WHERE id = {issue}"), // with all that refers to it
        5 => format!("DELETE FROM comments WHERE id IN (SELECT id FROM comments WHERE issue_id = {issue} LIMIT 2)"),
        6 => format!(
            "INSERT INTO worklog (site_id, issue_id, seconds, note) SELECT site_id, id, {number}, NULL FROM issues \
             WHERE id = {issue}"
        ),
        7 => format!(
            "UPDATE worklog SET seconds = seconds + 1 WHERE site_id = '{site}' AND seconds % 7 = {}",
            number % 7
        ),
        8 => format!(
            "UPDATE labels SET id = id + 1000000 WHERE id = (SELECT max(id) FROM labels l WHERE site_id = '{site}' \
             AND NOT EXISTS (SELECT FROM issue_labels i WHERE i.label_id = l.id))"
        ),
        9 => format!(
            "INSERT INTO audit.events (site_id, at, what) VALUES ('{site}', now(), '{{\"n\": {number}, \"t\": \"a\\\\b\"}}')"
        ),
        _ => format!(
            "UPDATE users SET settings = settings || '{{\"n\": {number}}}', name = NULLIF(name, '') \
             WHERE site_id = '{site}' AND number % 5 = {}",
            number % 5
        ),
    };
    let first = one(seed);
    let second = one(seed);
    match seed.below(6) {
        0 => format!("BEGIN; {first}; ROLLBACK"),
        1 => format!("BEGIN; {first}; SAVEPOINT s; {second}; ROLLBACK TO SAVEPOINT s; COMMIT"),
        2 => format!("BEGIN; {first}; {second}; COMMIT"),
        _ => first,
    }
}
