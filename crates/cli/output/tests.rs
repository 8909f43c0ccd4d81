//! The last line, the broken pipe and the full disk.

use super::*;
use crate::testing::{Captured, captured};

fn output(json: bool) -> (Output, Captured) {
    let (streams, captured) = captured("");
    (Output::new(streams, Manner { json, ..Manner::default() }), captured)
}

#[test]
fn a_verb_ends_with_one_line_for_programs() {
    let (output, captured) = output(true);
    output.line("for people");
    output.say("for people");
    output.event("site", serde_json::json!({"site": "acme"}));
    let error = CliError::operator("no space").with_hint("free some");
    let outcome =
        Outcome { exit_code: 3, failed: vec![Failed::of_site("acme", &error)], ..Outcome::ok() }.with("bytes", 5);
    assert_eq!(output.done(&outcome), 3);
    let lines = captured.stdout();
    assert_eq!(
        lines.lines().collect::<Vec<_>>(),
        [
            r#"{"event":"site","site":"acme"}"#,
            r#"{"event":"done","exit_code":3,"failed":[{"site":"acme","message":"no space","hint":"free some","exit_code":10}],"bytes":5}"#
        ]
    );
    assert_eq!(captured.stderr(), "");
}

#[test]
fn what_people_were_told_already_is_not_said_again_and_programs_have_it() {
    let error = CliError::operator("no space");
    for (json, stdout) in [(false, ""), (true, "\"failed\":[{\"site\":\"acme\"")] {
        let (output, captured) = output(json);
        let failed = vec![Failed::of_site("acme", &error)];
        output.done(&Outcome { exit_code: 3, failed, is_told: true, ..Outcome::ok() });
        assert_eq!(captured.stderr(), "");
        assert!(captured.stdout().contains(stdout), "{}", captured.stdout());
    }
}

#[test]
fn a_verb_ends_with_words_for_people() {
    let (output, captured) = output(false);
    output.event("site", serde_json::json!({"site": "acme"}));
    output.line("acme");
    assert_eq!(output.error(&CliError::operator("no space").with_hint("free some")), 10);
    assert_eq!(captured.stdout(), "acme\n");
    assert_eq!(captured.stderr(), "error: no space\nhint: free some\n");
}

struct Failing(io::ErrorKind);

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_went_away_is_no_error_and_a_full_disk_is() {
    let check = |kind: io::ErrorKind, want: u8, told: &str| {
        let (streams, captured) = captured("");
        let output = Output::new(Streams { stdout: Box::new(Failing(kind)), ..streams }, Manner::default());
        output.line("data");
        assert!(!output.raw(b"more"));
        assert_eq!(output.done(&Outcome::ok()), want, "{kind}");
        assert!(captured.stderr().contains(told), "{kind}: {}", captured.stderr());
    };
    check(io::ErrorKind::BrokenPipe, 0, "");
    check(io::ErrorKind::StorageFull, 10, "cannot write to stdout");
}
