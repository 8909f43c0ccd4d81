//! From the configuration to whoever is told: notifiers with their secrets, the ping, and who we are.
//!
//! A secret that cannot be had makes its notifier one that fails, and nothing else: the other notifiers say so.
//!
//! What is not here: what is told (`lifeboat-control`).

use std::collections::BTreeSet;

use lifeboat_control::alarms::Sender;
use lifeboat_control::notify::{Notifier, Ping, Way, Webhook};
use lifeboat_control::watch::{PING, Ways};
use lifeboat_engine::this_process;

use crate::config::{Config, KeyRef, NotifyConfig, NotifyWay, PingConfig, UrlRef};
use crate::{CliError, Context, key_file};

/// Everybody who is told, by name; the ping among them.
pub fn names(config: &Config) -> BTreeSet<String> {
    let ping = config.ping.as_ref().map(|_| PING.to_owned());
    config.notify.iter().map(|notify| notify.name.clone()).chain(ping).collect()
}

/// Whom to tell.
pub fn ways(config: &Config, context: &Context) -> Ways {
    let notifiers = config.notify.iter().map(|notify| notifier(notify, context)).collect();
    let ping = config.ping.as_ref().map(|config| ping(config, context));
    Ways { notifiers, ping, repeat: config.alarms.repeat }
}

/// This process, to whoever is told. `repository`: its id, where it is known.
pub fn sender(repository: Option<String>) -> Sender {
    Sender { host: this_process().host, repository, version: env!("CARGO_PKG_VERSION") }
}

fn notifier(config: &NotifyConfig, context: &Context) -> Notifier {
    let way = match &config.way {
        NotifyWay::Command(argv) => Way::Command(argv.clone()),
        NotifyWay::Webhook { url, token, signing_key } => {
            let optional = |key: &Option<KeyRef>| key.as_ref().map(|key| secret(key, context)).transpose();
            let webhook = || {
                Ok::<_, CliError>(Webhook {
                    url: address(url, context)?,
                    token: optional(token)?,
                    signing_key: optional(signing_key)?.map(String::into_bytes),
                })
            };
            webhook().map_or_else(|error| Way::Unusable(error.message), Way::Webhook)
        }
    };
    Notifier { name: config.name.clone(), min_severity: config.min_severity, way, timeout: config.timeout }
}

fn ping(config: &PingConfig, context: &Context) -> Ping {
    Ping {
        url: address(&config.url, context).map_err(|error| error.message),
        is_post: config.is_post,
        on_breach: config.on_breach,
        timeout: config.timeout,
    }
}

fn address(url: &UrlRef, context: &Context) -> Result<String, CliError> {
    match url {
        UrlRef::Here(url) => Ok(url.clone()),
        UrlRef::Secret(key) => secret(key, context),
    }
}

/// A secret from where the configuration says it is: an address or a token.
pub fn secret(key: &KeyRef, context: &Context) -> Result<String, CliError> {
    let text = match key {
        KeyRef::File(path) => key_file::read_secret(path)
            .map_err(|error| CliError { message: error.message.replace("key file", "file of a secret"), ..error })?,
        KeyRef::Env(name) => {
            let value = context.env(name).and_then(|value| value.into_string().ok());
            value.unwrap_or_default().into()
        }
    };
    match text.trim() {
        "" => Err(CliError::operator(format!("a secret is not there: place=`{key}`"))
            .with_hint("put it there: an address or a token for [notify.…], [ping] or [metrics]")),
        text => Ok(text.to_owned()),
    }
}
