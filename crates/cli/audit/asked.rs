//! What was asked for, without any value: the verb, and the names of options.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory};

use crate::args::Cli;

/// A command line that holds no secret, whatever was typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Such as `recover run`.
    pub command: String,
    /// Such as `--take-over`, in the order of the alphabet.
    pub options: Vec<String>,
}

impl Asked {
    /// Of arguments that could be read.
    pub fn of(args: &[OsString]) -> Self {
        let mut command = Cli::command();
        let Ok(matches) = command.try_get_matches_from_mut(args) else { return Self::default() };
        let (mut words, mut options) = (Vec::new(), BTreeSet::new());
        let (mut command, mut matches) = (&command, &matches);
        options_of(command, matches, &mut options);
        while let Some((name, inner)) = matches.subcommand() {
            let Some(found) = command.find_subcommand(name) else { break };
            words.push(name.to_owned());
            (command, matches) = (found, inner);
            options_of(command, matches, &mut options);
        }
        Self { command: words.join(" "), options: options.into_iter().collect() }
    }
}

/// Names that the program itself has, of what was typed.
fn options_of(command: &Command, matches: &ArgMatches, options: &mut BTreeSet<String>) {
    let is_typed = |id: &str| {
        let is_known = matches.ids().any(|known| known == id);
        is_known && matches.value_source(id) == Some(ValueSource::CommandLine)
    };
    let typed = command.get_arguments().filter(|arg| is_typed(arg.get_id().as_str()));
    options.extend(typed.filter_map(|arg| arg.get_long()).map(|long| format!("--{long}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    // Explains invariant: no-values
    #[test]
    fn names_of_options_are_kept_and_nothing_that_was_typed_behind_them() {
        let check = |line: &str, command: &str, options: &[&str]| {
            let args: Vec<OsString> = format!("lifeboat {line}").split(' ').map(OsString::from).collect();
            let asked = Asked::of(&args);
            assert_eq!(
                (asked.command.as_str(), asked.options),
                (command, options.iter().map(|o| o.to_string()).collect())
            );
        };
        check("restore hunter2 --at latest --yes", "restore", &["--at", "--yes"]);
        check("--json -v restore acme --plan=hunter2hunter2", "restore", &["--json", "--plan", "--verbose"]);
        check("recover skip 0011223344556677 acme --reason=--hunter2", "recover skip", &["--reason"]);
        check("cat acme:files/--hunter2 --json", "cat", &["--json"]);
        check("key rotate hunter2", "key rotate", &[]);
        check("sites", "sites", &[]);
        check("--hunter2", "", &[]);
    }
}
