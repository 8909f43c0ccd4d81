//! Command lines as people and programs type them: texts, last lines, exit codes.

use std::ffi::OsString;
use std::path::Path;

use clap::CommandFactory;

use crate::args::Cli;
use crate::output::Streams;
use crate::testing::captured;
use crate::{Process, run};

pub(crate) struct Ran {
    pub exit_code: u8,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The last line as JSON.
    pub fn last(&self) -> serde_json::Value {
        serde_json::from_str(self.stdout.lines().last().unwrap()).unwrap()
    }
}

pub(crate) fn lifeboat_in(directory: &Path, args: &[&str]) -> Ran {
    lifeboat_with(directory, args, "")
}

fn lifeboat_with(directory: &Path, args: &[&str], stdin: &str) -> Ran {
    let (streams, captured) = captured(stdin);
    let exit_code = run(&words(args), process(streams, directory));
    Ran { exit_code, stdout: captured.stdout(), stderr: captured.stderr() }
}

fn words(args: &[&str]) -> Vec<OsString> {
    std::iter::once("lifeboat").chain(args.iter().copied()).map(OsString::from).collect()
}

fn process(streams: Streams, directory: &Path) -> Process {
    Process { streams, env: Box::new(|_| None), directory: directory.to_owned(), listens: false }
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn a_wrong_command_line_is_exit_2_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let check = |args: &[&str], message: &str, hint: &str| {
        let ran = lifeboat_in(dir.path(), args);
        assert_eq!(ran.exit_code, 2, "{args:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{args:?}");
        let want = format!("error: {message}");
        assert!(ran.stderr.starts_with(&want), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.lines().count() == 2, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(&format!("\nhint: {hint}")), "{args:?}: {}", ran.stderr);

        let json: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let ran = lifeboat_in(dir.path(), &json);
        let last = ran.last();
        assert_eq!(ran.exit_code, 2);
        assert_eq!(ran.stdout.lines().count(), 1, "{args:?}: {}", ran.stdout);
        assert_eq!((last["event"].as_str(), last["exit_code"].as_u64()), (Some("error"), Some(2)));
        assert!(last["message"].as_str().unwrap().starts_with(message), "{args:?}: {last}");
        assert!(last["hint"].as_str().unwrap().starts_with(hint), "{args:?}: {last}");
        assert_eq!(ran.stderr, "", "{args:?}");
    };
    check(&[], "no command given", "see `lifeboat --help`");
    check(
        &["restor", "acme"],
        "unrecognized subcommand 'restor'",
        "some similar subcommands exist: 'recover', 'restore'",
    );
    check(&["points"], "the following required arguments were not provided: <SITE>", "usage: lifeboat points");
    check(&["points", "acme", "--jsno"], "unexpected argument '--jsno' found", "a similar argument exists: '--json'");
    check(&["backup"], "the following required arguments were not provided: <SITE|--all>", "usage: lifeboat backup");
    check(&["backup", "acme", "--all"], "the argument '[SITE]...' cannot be used with '--all'", "usage:");
    check(&["points", ""], "invalid value '' for '<SITE>': an id must not be empty", "see `lifeboat points --help`");
    check(&["cat", "acme:files/../x"], "invalid value 'acme:files/../x'", "see `lifeboat cat --help`");
    check(&["sources", "inspect", "A"], "invalid value 'A'", "see `lifeboat sources inspect --help`");
    check(&["undo", "xyz"], "invalid value 'xyz' for '<RESTORE>': not 16 hex digits", "`lifeboat points SITE` lists");
    let not_hex = "invalid value 'xyz' for '<RECOVERY>': not 16 hex digits";
    check(&["recover", "accept", "xyz", "acme"], not_hex, "`lifeboat recover status` lists the recoveries");
    check(&["help"], "unrecognized subcommand 'help'", "see `lifeboat --help`");
    check(&["help", "restore"], "unrecognized subcommand 'help'", "see `lifeboat restore --help`");
    check(&["key", "help"], "unrecognized subcommand 'help'", "see `lifeboat key --help`");
    check(&["restore", "acme", "--yes", "--dry-run"], "the argument '--yes' cannot be used with '--dry-run'", "usage");
    check(&["restore", "acme", "--beside", "b", "--export", "d"], "the argument '--beside <NAME>' cannot", "usage");
    check(
        &["check", "--read-data", "0"],
        "invalid value '0' for '--read-data [<PERCENT>]'",
        "see `lifeboat check --help`",
    );
    check(&["key"], "no command given", "see `lifeboat key --help`");
    check(&["-v", "-q", "sites"], "the argument '--verbose...' cannot be used with '--quiet'", "usage");
}

#[test]
fn what_keeps_later_work_goes_with_nothing_that_is_not_in_place_or_keeps_it_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    for other in [&["--beside", "look"][..], &["--export", "d"], &["--without-xid", "7"], &["--exact"]] {
        let args = [&["restore", "acme", "--keep-later"][..], other].concat();
        let ran = lifeboat_in(dir.path(), &args);
        assert_eq!(ran.exit_code, 2, "{args:?}");
        assert!(ran.stderr.contains(&format!("does not go together with {}", other[0])), "{}", ran.stderr);
        assert!(ran.stderr.contains("hint: ") && ran.stderr.contains("leave --"), "{}", ran.stderr);
    }
}

#[test]
fn a_missing_configuration_names_the_way_to_one() {
    let dir = tempfile::tempdir().unwrap();
    let ran = lifeboat_in(dir.path(), &["sites"]);
    assert_eq!(ran.exit_code, 2);
    assert_eq!(
        ran.stderr,
        format!(
            "error: no configuration: file=`{}`\nhint: make one with `lifeboat init`, or name it with --config FILE \
             or LIFEBOAT_CONFIG\n",
            dir.path().join("lifeboat.toml").display()
        )
    );
    let ran = lifeboat_in(dir.path(), &["sites", "--config", "other.toml", "--json"]);
    assert_eq!((ran.exit_code, ran.last()["event"].as_str()), (2, Some("error")));
}

#[test]
fn help_version_and_completions_are_data() {
    let dir = tempfile::tempdir().unwrap();
    let ran = lifeboat_in(dir.path(), &["--version"]);
    assert_eq!((ran.exit_code, ran.stdout.as_str()), (0, concat!("lifeboat ", env!("CARGO_PKG_VERSION"), "\n")));
    let ran = lifeboat_in(dir.path(), &["restore", "--help"]);
    assert_eq!(ran.exit_code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("--take-over"));
    assert!(ran.stdout.contains("--keep-later"), "{}", ran.stdout);
    let ran = lifeboat_in(dir.path(), &["--help", "--json"]);
    assert_eq!((ran.exit_code, ran.last()["event"].as_str()), (0, Some("done")));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = lifeboat_in(dir.path(), &["completions", shell]);
        assert_eq!(ran.exit_code, 0);
        assert!(ran.stdout.contains("restore") && ran.stdout.len() > 1000, "{shell}");
    }
    let ran = lifeboat_in(dir.path(), &["completions", "bash", "--json"]);
    assert!(ran.stdout.starts_with("{\"event\":\"completions\",\"") && ran.stdout.lines().count() == 2);
}

mod cli_page;
mod left_out;
mod story;
