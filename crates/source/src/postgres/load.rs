//! How busy a database server is with others: clients that are at a statement now, of all databases.
//!
//! What is not here: how busy is too busy, and who waits then (`lifeboat-control`).

use lifeboat_model::Fault;

use super::{Server, Session};
use crate::Error;

/// Our own sessions are those of our role and program; walsenders and the server's own workers are no clients.
const ACTIVE: &str = "
    SELECT count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND state IN ('active', 'fastpath function call') AND pid <> pg_backend_pid()
        AND NOT (usename = current_user AND application_name = current_setting('application_name'))";
/// Without it a server shows others as if they did nothing.
const SEES_OTHERS: &str = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'), quote_ident(current_user)";
/// A server that takes longer to say how busy it is, is busy.
const TIMEOUT: &str = "SET statement_timeout = '5s'";

/// One server that is asked again and again, over a connection of its own.
pub struct ServerLoad {
    server: Server,
    session: Option<Session>,
}

impl ServerLoad {
    pub fn new(server: Server) -> Self {
        Self { server, session: None }
    }

    pub fn source_name(&self) -> &str {
        self.server.source_name()
    }

    /// Others that are at a statement.
    ///
    /// # Errors
    /// Also when the role may not see what others do. After an error the next call connects anew.
    pub fn active(&mut self) -> Result<u64, Error> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => connect(&self.server)?,
        };
        let row = session.query_one(ACTIVE, &[]).map_err(|error| session.failed(ACTION, &error))?;
        self.session = Some(session);
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
    }
}

const ACTION: &str = "cannot see how busy the server is";

fn connect(server: &Server) -> Result<Session, Error> {
    let mut session = server.connect()?;
    session.batch_execute(TIMEOUT).map_err(|error| session.failed(ACTION, &error))?;
    let row = session.query_one(SEES_OTHERS, &[]).map_err(|error| session.failed(ACTION, &error))?;
    let (sees_others, role): (bool, String) = (row.get(0), row.get(1));
    if sees_others {
        return Ok(session);
    }
    Err(Error::Database {
        source_name: server.source_name().to_owned(),
        action: ACTION.into(),
        detail: "the role may not see what others do".into(),
        hint: format!("GRANT pg_read_all_stats TO {role}, or leave `recovery.database_load` out"),
        fault: Fault::Operator,
    })
}
