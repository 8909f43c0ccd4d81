use std::path::Path;

use super::*;

fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// Writes a line into a file.
fn note(file: &Path, line: &str) -> Vec<String> {
    argv(&["sh", "-c", &format!("echo {line} \"$1\" >>'{}'", file.display()), "sh", "{site}"])
}

fn said(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn site() -> SiteId {
    SiteId::new("acme").unwrap()
}

#[test]
fn a_command_before_that_fails_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("said");
    let around = Around {
        before: vec![note(&file, "one"), argv(&["false", "{site}"]), note(&file, "three")],
        ..Around::default()
    };
    let error = around.before(&site(), &|| false).unwrap_err();
    assert!(matches!(error, Error::Hook { hook: "before", .. }) && error.to_string().contains("acme"), "{error}");
    assert_eq!(said(&file), ["one acme"]);
    let around = Around { before: vec![note(&file, "four")], ..around };
    let checks = around.before(&site(), &|| false).unwrap();
    assert_eq!((checks.len(), checks[0].passed), (1, true));
    assert!(checks[0].name.starts_with("before: sh -c echo four "), "{checks:?}");
    assert_eq!(named("after", &argv(&["maintenance", "off", "{site}"])), "after: maintenance off");
}

#[test]
fn a_command_after_that_fails_is_a_failed_check_and_the_next_ones_are_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("said");
    let after =
        vec![note(&file, "one"), argv(&["sh", "-c", "echo broken; exit 1"]), note(&file, "three"), note(&file, "four")];
    let around = Around { after, ..Around::default() };
    let checks = around.after(&site(), &|| false).unwrap();
    assert_eq!(checks.iter().map(|check| check.passed).collect::<Vec<_>>(), [true, false, false, false]);
    assert!(checks[1].detail.contains("broken"), "{checks:?}");
    assert_eq!((checks[2].detail.as_str(), checks[3].detail.as_str()), (NOT_RUN, NOT_RUN));
    assert_eq!(said(&file), ["one acme"]);
}

#[test]
fn being_stopped_is_no_failure() {
    let around =
        Around { before: vec![argv(&["sleep", "300"])], after: vec![argv(&["sleep", "300"])], ..Around::default() };
    assert!(matches!(around.before(&site(), &|| true), Err(Error::Cancelled)));
    assert!(matches!(around.after(&site(), &|| true), Err(Error::Cancelled)));
}
