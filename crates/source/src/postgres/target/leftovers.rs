//! Staging schemas that nobody works with any more, whosever they were.
//!
//! A restore holds an advisory lock of its schema's name for as long as it lives; the server gives
//! the lock up when the process is dead, whatever killed it. So a schema whose lock is free was left
//! behind, and the next restore in this database removes it.

use std::sync::Mutex;

use super::super::{Server, Session};
use super::fail::{Ask, Outcome};
use super::staging;

/// The session that holds a schema's lock; it has nothing else to do.
pub(super) struct Keeper(#[expect(dead_code, reason = "its life is what counts")] Mutex<Session>);

/// Says that the schema is worked with, until the keeper is dropped.
pub(super) fn keep(server: &Server, schema: &str) -> Outcome<Keeper> {
    let mut session = server.connect()?;
    let lock = format!("SELECT pg_advisory_lock(hashtextextended('{schema}', 0))");
    session.rows("this restore is at work in another process", &lock)?;
    Ok(Keeper(Mutex::new(session)))
}

/// Removes the schemas that nobody keeps. What cannot be removed is only logged: it hinders nobody.
pub(super) fn sweep(session: &mut Session) {
    let query = "SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^lifeboat_stage_[0-9a-f]{16}$' \
                 AND pg_has_role(nspowner, 'USAGE')";
    let swept = session.rows("cannot look for staging that was left behind", query).and_then(|rows| {
        rows.iter().try_for_each(|row| {
            let schema: String = row.get(0);
            let key = format!("hashtextextended('{schema}', 0)");
            let action = "cannot ask who works with a staging schema";
            let free = session.rows(action, &format!("SELECT pg_try_advisory_lock({key})"))?;
            if free.first().is_some_and(|row| row.get(0)) {
                staging::drop_schema(session, &schema)?;
                session.rows(action, &format!("SELECT pg_advisory_unlock({key})"))?;
            }
            Ok(())
        })
    });
    if let Err(fail) = swept {
        tracing::warn!(error = %fail.error, "staging of a killed restore was left behind");
    }
}
