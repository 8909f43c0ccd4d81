//! The command line as it was typed, so that it can be told and typed again.

use std::borrow::Cow;
use std::ffi::OsString;

/// The arguments behind the program's name, each quoted where a shell would read it otherwise. Bytes that are no text
/// are shown as the replacement character: nobody can type them anyway.
pub fn typed(args: &[OsString]) -> String {
    let words = args.iter().skip(1).map(|arg| quoted(&arg.to_string_lossy()).into_owned());
    words.collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |character: char| character.is_alphanumeric() || "-_./:=,@%+".contains(character);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(format!("'{}'", word.replace('\'', r"'\''"))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn what_was_typed_can_be_typed_again() {
        let check = |args: &[&str], want: &str| {
            let args: Vec<OsString> = ["lifeboat"].iter().chain(args).map(OsString::from).collect();
            assert_eq!(typed(&args), want);
            // As a shell reads it.
            let echoed =
                std::process::Command::new("sh").args(["-c", &format!("printf '%s\\n' {want}")]).output().unwrap();
            let words = String::from_utf8(echoed.stdout).unwrap();
            assert!(words.lines().eq(args[1..].iter().map(|arg| arg.to_str().unwrap())), "{words}");
        };
        check(&["recover", "plan", "--at", "2026-03-14T02:30:00Z"], "recover plan --at 2026-03-14T02:30:00Z");
        check(&["--at", "before:the deploy"], "--at 'before:the deploy'");
        check(&["it's", "a&b", "", "~", "$HOME", "*"], r"'it'\''s' 'a&b' '' '~' '$HOME' '*'");
    }

    #[test]
    fn bytes_that_are_no_text_are_told_and_stop_nothing() {
        let args = [OsString::from("lifeboat"), OsString::from_vec(b"list-\xff".to_vec())];
        assert_eq!(typed(&args), "'list-\u{fffd}'");
    }
}
