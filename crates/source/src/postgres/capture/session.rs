//! A session that speaks the replication protocol, for whoever may block.
//!
//! It has a runtime of its own with one thread, on which the stream is read later; who calls waits on a
//! thread that belongs to no runtime.

use std::ops::Deref;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::startup;
use super::wire::{TextRow, Wire, WireError};
use crate::Error;
use crate::postgres::Server;

/// A server that answers no question for so long is gone.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Which history a position belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerIdentity {
    pub system_identifier: String,
    pub timeline: u32,
}

/// Ends without waiting, so that it may be dropped anywhere.
pub(super) struct OwnRuntime(Option<Runtime>);

impl Deref for OwnRuntime {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A connection that speaks the replication protocol. Blocks; to be used outside of asynchronous code.
pub struct ReplicationSession {
    pub(super) runtime: OwnRuntime,
    pub(super) wire: Wire,
    pub(super) source_name: String,
}

impl ReplicationSession {
    pub fn connect(server: &Server) -> Result<Self, Error> {
        // One thread for the pump; who calls waits on a thread of their own.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("lifeboat-capture")
            .enable_all()
            .build()
            .map_err(|io| WireError::Io(io).failed(server.source_name(), "cannot start a thread"))?;
        let wire = runtime.block_on(startup::connect(server))?;
        Ok(Self { runtime: OwnRuntime(Some(runtime)), wire, source_name: server.source_name().to_owned() })
    }

    /// Which server this is.
    pub fn identify(&mut self) -> Result<ServerIdentity, Error> {
        let rows = self.query("IDENTIFY_SYSTEM", "cannot ask the server who it is", ANSWER_MAX)?;
        let identity = rows.first().and_then(|row| {
            let timeline = row.get(1)?.as_deref()?.parse().ok()?;
            Some(ServerIdentity { system_identifier: row.first()?.clone()?, timeline })
        });
        identity.ok_or_else(|| self.nonsense("cannot ask the server who it is"))
    }

    pub(super) fn query(&mut self, sql: &str, action: &str, wait: Duration) -> Result<Vec<TextRow>, Error> {
        self.wire_query(sql, wait).map_err(|error| error.failed(&self.source_name, action))
    }

    pub(super) fn wire_query(&mut self, sql: &str, wait: Duration) -> Result<Vec<TextRow>, WireError> {
        self.runtime.block_on(self.wire.query(sql, wait))
    }

    pub(super) fn nonsense(&self, action: &str) -> Error {
        WireError::Protocol("the server's answer is not understood".into()).failed(&self.source_name, action)
    }
}

/// An identifier as the replication commands take it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
