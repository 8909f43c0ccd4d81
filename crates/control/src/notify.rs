//! Telling somebody: a webhook or a command each, and the dead man's ping.
//!
//! ```text
//! [`Message`] ─▶ webhook: POST, signed where there is a key ─ 5xx, 408, 429, no answer ─▶ again, later each time ─▶ failed
//!            └▶ command: the same object on its stdin, no shell ─ not 0, too slow ─▶ failed
//! healthy cycle ─▶ ping          unhealthy ─▶ nothing, or …/fail
//! ```
//!
//! A failure is the notifier's own: it stops nothing, and what was not told is told in the next cycle (`alarms::transitions`).
//! Addresses and tokens are secrets: they are in no message and in no log.
//!
//! What is not here: what to tell (`alarms`), remembering how it went (`watch`).

mod webhook;

#[cfg(test)]
mod tests;

use std::time::Duration;

use lifeboat_engine::tell_command;
use lifeboat_model::Timestamp;

use crate::alarms::{Message, Severity};

pub use webhook::{Ping, PingOnBreach, Webhook};

/// Somebody who is told of alarms.
#[derive(Clone)]
pub struct Notifier {
    pub name: String,
    /// Of what is less bad it is told nothing.
    pub min_severity: Severity,
    pub way: Way,
    /// For each attempt.
    pub timeout: Duration,
}

/// How.
#[derive(Clone)]
pub enum Way {
    Webhook(Webhook),
    /// A program and its arguments; it reads the message.
    Command(Vec<String>),
    /// What the configuration names cannot be had, and why: a secret that is not there.
    Unusable(String),
}

impl Notifier {
    /// Blocks nobody for longer than all attempts together take.
    ///
    /// # Errors
    /// Why nobody was told, in one line.
    pub async fn tell(&self, message: &Message, now: Timestamp) -> Result<(), String> {
        match &self.way {
            Way::Webhook(webhook) => webhook.post(message, now, self.timeout).await,
            Way::Command(argv) => {
                let (argv, input, timeout) = (argv.clone(), message.json.clone().into_bytes(), self.timeout);
                let ran = tokio::task::spawn_blocking(move || tell_command(&argv, input, timeout)).await;
                ran.map_err(|error| format!("it ended badly: {error}"))?.map(|_| ())
            }
            Way::Unusable(reason) => Err(reason.clone()),
        }
    }
}
