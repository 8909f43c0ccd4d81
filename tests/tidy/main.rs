//! The house rules, checked: the map in `docs/architecture.md` is what the tree really looks like.
//!
//! Every rule is a function from the tree to a list of faults, and every fault says where it is and
//! how to mend it. A rule also has a test of its own with a planted fault, so that a rule which
//! can no longer fail is found.
//!
//! Only `std` is used here: the check takes a second, and nothing it needs can be broken by what it
//! checks.
//!
//! What is not here: formatting and lints (`cargo fmt`, `cargo clippy`), licences (`deny.toml`), and
//! whether `docs/cli.md` equals the real `--help`, which the command line's own tests compare.

mod commands;
mod docs;
mod invariants;
mod manifests;
mod rust;
mod settings;
mod sha256;
mod signals;
mod sources;
mod tree;
mod vectors;

use tree::Tree;

/// Fails with the whole list at once: mending one fault should not be needed to see the next.
#[track_caller]
fn expect_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} to mend:\n  {}\n", faults.len(), faults.join("\n  "));
}

#[test]
fn crates_use_only_what_the_map_allows() {
    expect_none(manifests::dependencies(&Tree::read()));
}

#[test]
fn nobody_but_tests_uses_the_testkit() {
    expect_none(manifests::testkit_users(&Tree::read()));
}

#[test]
fn every_crate_inherits_versions_and_lints() {
    expect_none(manifests::inheritance(&Tree::read()));
}

#[test]
fn no_file_outgrows_its_reader() {
    expect_none(sources::file_lengths(&Tree::read()));
}

#[test]
fn no_function_outgrows_a_screen() {
    expect_none(sources::function_lengths(&Tree::read()));
}

#[test]
fn every_source_file_says_what_it_is() {
    expect_none(sources::openings(&Tree::read()));
}

#[test]
fn no_stub_and_no_silenced_test_is_called_done() {
    expect_none(sources::stubs(&Tree::read()));
}

#[test]
fn only_the_command_line_prints() {
    expect_none(sources::prints(&Tree::read()));
}

#[test]
fn every_invariant_has_the_one_test_that_explains_it() {
    expect_none(invariants::explained(&Tree::read()));
}

#[test]
fn no_golden_vector_changed() {
    expect_none(vectors::unchanged(&Tree::read()));
}

#[test]
fn the_map_shows_every_crate_and_folder() {
    expect_none(docs::map(&Tree::read()));
}

#[test]
fn the_glossary_has_every_word() {
    expect_none(docs::glossary(&Tree::read()));
}

#[test]
fn every_promised_page_is_there() {
    expect_none(docs::pages(&Tree::read()));
}

#[test]
fn every_local_link_leads_somewhere() {
    expect_none(docs::links(&Tree::read()));
}

#[test]
fn every_command_named_exists() {
    expect_none(commands::exist(&Tree::read()));
}

#[test]
fn every_command_has_its_page() {
    expect_none(commands::documented(&Tree::read()));
}

#[test]
fn the_example_shows_exactly_the_documented_keys() {
    expect_none(settings::keys(&Tree::read()));
}

#[test]
fn every_metric_is_called_as_the_code_calls_it() {
    expect_none(signals::metrics(&Tree::read()));
}

#[test]
fn every_alarm_is_explained() {
    expect_none(signals::alarms(&Tree::read()));
}

#[test]
fn scripts_stop_at_the_first_failure() {
    expect_none(sources::scripts(&Tree::read()));
}

#[test]
fn nothing_unfinished_private_or_secret_is_committed() {
    expect_none(sources::words(&Tree::read()));
}
