//! How busy the servers are that a recovery writes to.
//!
//! What is not here: what is made of it (`lifeboat-control`).

use lifeboat_source::postgres;

use crate::{AnySource, Engine, Error};

/// One server, asked over a connection of its own.
pub struct ServerLoad(postgres::ServerLoad);

/// Every database server of the fleet.
pub fn server_loads(engine: &Engine) -> Vec<ServerLoad> {
    let servers = engine.fleet.sources().iter().filter_map(|source| match source {
        AnySource::Postgres(source) => Some(source.server().clone()),
        _ => None,
    });
    servers.map(|server| ServerLoad(postgres::ServerLoad::new(server))).collect()
}

impl ServerLoad {
    /// The source that names it.
    pub fn source_name(&self) -> &str {
        self.0.source_name()
    }

    /// Others that are at a statement now; blocks.
    pub fn active(&mut self) -> Result<u64, Error> {
        Ok(self.0.active()?)
    }
}
