//! Measured backups: of a whole fleet into a new repository, and of the same once more, unchanged.

use std::collections::BTreeMap;

use serde_json::json;

use crate::program::Answer;
use crate::session::{Aim, Measured, Session};
use crate::setting::Setting;
use crate::stock::{Source, Stock, of_each_size};
use crate::{Error, Run, Turn};

/// What `bench backup` measures.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    pub source: Source,
    pub settings: Vec<Setting>,
}

/// Backs fleets up, each time into a repository of its own.
///
/// # Errors
/// The first that comes; what was measured until then is no result.
pub fn back_up(session: &Session<'_>, request: &BackupRequest) -> Result<Measured, Error> {
    let fleets = of_each_size(&request.settings, |setting| Stock::make(session, &request.source, setting))?;
    session.tell.begin((session.rounds * request.settings.len() * 2) as u64);
    let (mut measured, mut fleets_seen) = (Measured::default(), BTreeMap::new());
    for round in 0..session.rounds {
        for (number, setting) in session.in_turn(round, &request.settings) {
            let fleet = &fleets[&setting.sites()];
            let repository = format!("{}-r{round}-s{number}", fleet.name);
            let program = session.program(Aim { repository: &repository, ..fleet.aim() }, setting, number)?;
            program.run(&["init"])?;
            session.tell.doing("first backup");
            let first = program.run(&["backup", "--all"])?;
            session.tell.step();
            let bytes = first.events("site").map(|site| site["bytes"].as_u64().unwrap_or(0)).sum();
            let mut turn = Turn::of("first backup", (setting, round), vec![run(&first, Some(bytes))]);
            turn.numbers.insert("stored_bytes", first.number("added_bytes").unwrap_or(0) as f64);
            measured.add(turn, session.tell);
            session.tell.doing("unchanged backup");
            let again = program.run(&["backup", "--all"])?;
            session.tell.step();
            // It moves nothing: megabytes a second would say nothing.
            let mut turn = Turn::of("unchanged backup", (setting, round), vec![run(&again, None)]);
            turn.numbers.insert("stored_bytes", again.number("added_bytes").unwrap_or(0) as f64);
            measured.add(turn, session.tell);
            let facts = || json!({ "sites": first.events("site").count(), "bytes": bytes });
            fleets_seen.entry(setting.sites()).or_insert_with(facts);
        }
    }
    measured.fleets = fleets_seen.into_values().collect();
    Ok(measured)
}

fn run(answer: &Answer, logical_bytes: Option<u64>) -> Run {
    Run { cost: answer.cost, logical_bytes, requests: answer.number("requests"), ..Run::default() }
}
