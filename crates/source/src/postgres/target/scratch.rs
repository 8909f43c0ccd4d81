//! Dropping the copies that drills have made, and no others.

use super::super::Server;
use super::beside::{CopiedSchema, copied_databases, copied_schemas};
use super::fail::Ask;
use crate::{Error, SCRATCH_PREFIX};

/// Drops what drills have made on the server: the copy of this name, or all of them.
///
/// Both must say so: the name, which is a drill's, and the comment, which is a copy's.
pub fn drop_scratch_copies(server: &Server, name: Option<&str>) -> Result<(), Error> {
    let mut session = server.connect()?;
    let is_ours =
        |copy: &CopiedSchema| copy.name.starts_with(SCRATCH_PREFIX) && name.is_none_or(|name| name == copy.name);
    let mut copies = copied_schemas(&mut session)?;
    copies.extend(copied_databases(&mut session)?);
    for copy in copies.iter().filter(|copy| is_ours(copy)) {
        let statement = match copy.is_database {
            true => format!("DROP DATABASE {} WITH (FORCE)", copy.name),
            false => format!("DROP SCHEMA {} CASCADE", copy.name),
        };
        session.run("cannot drop what a drill made", &statement)?;
    }
    Ok(())
}
