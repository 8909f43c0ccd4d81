//! `docs/cli.md` is what `--help` prints, always.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Command, CommandFactory};

use crate::args::Cli;

const HEAD: &str = include_str!("cli_page_head.md");

#[test]
fn the_command_line_page_is_what_help_prints() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let mut page = HEAD.to_owned();
    let command = Cli::command().term_width(100);
    write_command(&mut page, &command, "lifeboat");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/cli.md is not what --help prints: run `UPDATE=1 cargo test -p lifeboat-cli`");
}

/// One section a command: the text that `--help` prints, the global options once.
fn write_command(page: &mut String, command: &Command, name: &str) {
    let mut command = command.clone().bin_name(name).term_width(100);
    let help = command.render_help().to_string();
    let paragraphs = help.split("\n\n").filter(|text| name == "lifeboat" || !text.starts_with("Global options:"));
    let help = paragraphs.collect::<Vec<_>>().join("\n\n");
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    writeln!(page, "\n## {name}\n\n```text\n{}\n```", lines.join("\n").trim_end()).unwrap();
    command.build();
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        write_command(page, inner, &format!("{name} {}", inner.get_name()));
    }
}
