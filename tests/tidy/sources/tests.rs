use super::*;

fn one(path: &str, text: &str) -> Tree {
    Tree::of(&[(path, text)])
}

#[test]
fn a_file_or_function_that_is_too_long_is_named() {
    let lines = |count: usize| "//! x\n".repeat(count);
    assert_eq!(file_lengths(&one("crates/repo/src/a.rs", &lines(600))).len(), 0);
    assert_eq!(file_lengths(&one("crates/repo/src/a.rs", &lines(601))).len(), 1);
    assert_eq!(file_lengths(&one("crates/repo/src/a/tests.rs", &lines(900))).len(), 0);
    assert_eq!(file_lengths(&one("tests/sim/main.rs", &lines(901))).len(), 1);
    let function = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
    assert_eq!(function_lengths(&one("a.rs", &function(70))).len(), 0);
    assert_eq!(function_lengths(&one("a.rs", &function(71))).len(), 1);
    assert_eq!(function_lengths(&one("a/tests.rs", &function(120))).len(), 0);
    assert_eq!(function_lengths(&one("a/tests.rs", &function(121))).len(), 1);
}

#[test]
fn a_file_that_does_not_say_what_it_is_is_named() {
    let check = |path: &str, text: &str, want: usize| assert_eq!(openings(&one(path, text)).len(), want, "{path}");
    check("crates/repo/src/a.rs", "//! What it is.\n", 0);
    check("crates/repo/src/a.rs", "use a;\n", 1);
    check("crates/repo/src/a.rs", "//! Placeholder.\n", 1);
    check("crates/repo/src/a/tests.rs", "use super::*;\n", 0);
}

#[test]
fn a_stub_is_named_and_a_mention_of_it_is_not() {
    let check = |text: &str, want: usize| assert_eq!(stubs(&one("crates/repo/src/a.rs", text)).len(), want, "{text}");
    check("fn f() { todo!() }", 1);
    check("fn f() { unimplemented!(\"x\") }", 1);
    check("fn f() { dbg!(1); }", 1);
    check("#[test]\n#[ignore = \"slow\"]\nfn f() {}", 1);
    check("// todo!() is never left\nconst A: &str = \"dbg!\";", 0);
}

#[test]
fn a_print_outside_the_command_line_is_named() {
    let check =
        |path: &str, text: &str, want: usize| assert_eq!(prints(&one(path, text)).len(), want, "{path}: {text}");
    check("crates/repo/src/a.rs", "fn f() { println!(); }", 1);
    check("crates/repo/src/a.rs", "fn f() { eprintln!(); }", 1);
    check("crates/repo/src/a.rs", "#[cfg(test)]\nmod tests { fn f() { println!(); } }", 0);
    check("crates/cli/src/a.rs", "fn f() { println!(); }", 0);
    check("crates/repo/tests/a.rs", "fn f() { println!(); }", 0);
}

#[test]
fn a_script_that_would_carry_on_after_a_failure_is_named() {
    let check = |text: &str, want: usize| assert_eq!(scripts(&one("scripts/a", text)).len(), want, "{text}");
    // One fault of each is that a file made for this test is not executable.
    check("#!/usr/bin/env bash\nset -euo pipefail\n", 1);
    check("#!/usr/bin/env bash\nls\n", 2);
}

#[test]
fn what_must_not_be_committed_is_named() {
    let check = |path: &str, text: &str, want: usize| assert_eq!(words(&one(path, text)).len(), want, "{path}: {text}");
    check("a.md", concat!("a TO", "DO b"), 1);
    check("a.rs", concat!("// FIX", "ME"), 1);
    check("a.rs", concat!("\"/wo", "rk/main\""), 1);
    check("docs/a.md", "a site at work/or/home", 0);
    check("a.toml", concat!("id = \"AK", "IAABCDEFGHIJKLMNOP\""), 1);
    check("a.toml", &format!("key = \"{}a=\"", "Ab".repeat(21)), 1);
    check("Cargo.lock", &"0123456789abcdef".repeat(4), 0);
    check("lifeboat.pem", "", 1);
}
