//! SIGHUP: another configuration, if it is one that can be worked with.
//!
//! It is read, checked and tried on the repository before it is in force; one with a mistake is refused, and the old one goes
//! on. What is under way ends as it was begun.

use std::sync::Arc;

use lifeboat_model::Fault;

use super::facts::Rules;
use crate::config::Config;
use crate::open::Open;
use crate::{CliError, Context};

/// A configuration that can be in force; `None`: the store does not answer, which is no fault of it.
pub(super) type Reloaded = (Arc<Rules>, Option<Arc<Open>>);

pub(super) async fn reload(old: Arc<Rules>, context: Context) -> Result<Reloaded, CliError> {
    let config = context.config()?;
    refuse_another(&old.config, &config)?;
    context.tell_notes(&config);
    try_out(config, &context).await
}

/// Opens the repository: a wrong key is a mistake, a store that is away is not.
pub(super) async fn try_out(config: Config, context: &Context) -> Result<Reloaded, CliError> {
    if config.sources.is_empty() {
        return Err(CliError::usage("no sources are configured")
            .with_hint("write a section [sources.NAME] with kind and path; config/example.toml shows how"));
    }
    if !config.has_schedule() {
        let hint = "write schedule = \"0 2 * * *\" in [policy] for a backup every night at two";
        context.output.warn("no policy has a schedule: no site is backed up by the daemon", Some(hint));
    }
    let key = context.master_key(&config)?;
    let open = match context.open_with(config.clone(), &key).await {
        Ok(open) => Some(Arc::new(open)),
        Err(error) if error.fault == Fault::Retry => {
            context.output.warn(&error.message, error.hint.as_deref());
            None
        }
        Err(error) => return Err(error),
    };
    Ok((Arc::new(Rules::new(config)), open))
}

/// The lock and all that is remembered are of one repository and one catalog.
fn refuse_another(old: &Config, new: &Config) -> Result<(), CliError> {
    let differs = [
        ("repository.url", old.repository.url != new.repository.url),
        ("repository.catalog", old.repository.catalog != new.repository.catalog),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        None => Ok(()),
        Some((key, _)) => Err(CliError::usage(format!("a daemon that runs keeps its repository: key=`{key}`"))
            .with_hint("start it anew for another one: `systemctl restart lifeboat`")),
    }
}
