//! Lines of `COPY` text: cut into rows and values, and made of values. Values stay escaped.

use lifeboat_model::ChangedValue;

use crate::Error;

/// What `COPY` writes for NULL.
pub(super) const NULL: &[u8] = b"\\N";

/// Stretches that may end anywhere, cut into lines.
#[derive(Default)]
pub(in crate::postgres) struct Lines {
    unfinished: Vec<u8>,
}

impl Lines {
    /// Gives each whole line without its end.
    pub fn take(&mut self, mut bytes: &[u8], give: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            if self.unfinished.is_empty() {
                give(line)?;
            } else {
                self.unfinished.extend_from_slice(line);
                give(&self.unfinished)?;
                self.unfinished.clear();
            }
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.unfinished.extend_from_slice(bytes);
        Ok(())
    }

    /// That no line was left without its end.
    pub fn end(&self, table: &str) -> Result<(), Error> {
        if self.unfinished.is_empty() {
            return Ok(());
        }
        let detail = "the rows of the base end in the middle of one".into();
        let hint = "run `lifeboat check` on the site".into();
        Err(Error::Damaged { path: table.to_owned(), detail, hint })
    }
}

/// The values of a line; one without columns has none.
pub(super) fn values(line: &[u8], columns: usize) -> impl Iterator<Item = &[u8]> {
    let is_empty = columns == 0 && line.is_empty();
    line.split(|byte| *byte == b'\t').filter(move |_| !is_empty)
}

/// A line of these values, without its end.
pub(super) fn join<'v>(values: impl Iterator<Item = &'v [u8]>) -> Vec<u8> {
    let mut line = Vec::new();
    for (at, value) in values.enumerate() {
        if at > 0 {
            line.push(b'\t');
        }
        line.extend_from_slice(value);
    }
    line
}

/// A value as `COPY` writes it; `None`: it is what it was before.
pub(super) fn escaped(value: &ChangedValue) -> Option<Vec<u8>> {
    let text = match value {
        ChangedValue::Unchanged => return None,
        ChangedValue::Null => return Some(NULL.to_vec()),
        ChangedValue::Text(text) => text,
    };
    let mut out = Vec::with_capacity(text.len());
    put_escaped(text, &mut out);
    Some(out)
}

/// The same of a text, behind what is there.
pub(in crate::postgres) fn put_escaped(text: &[u8], out: &mut Vec<u8>) {
    let is_plain = |byte: &u8| !matches!(byte, 8..=13 | b'\\');
    if text.iter().all(is_plain) {
        return out.extend_from_slice(text);
    }
    for byte in text {
        let letter = match byte {
            8 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            11 => b'v',
            12 => b'f',
            b'\r' => b'r',
            b'\\' => b'\\',
            plain => {
                out.push(*plain);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_their_bytes_arrive() {
        let text = b"1\ta\\tb\n\n2\t\\N\n";
        for step in 1..=text.len() {
            let (mut lines, mut got) = (Lines::default(), Vec::new());
            for piece in text.chunks(step) {
                lines
                    .take(piece, &mut |line| {
                        got.push(line.to_vec());
                        Ok(())
                    })
                    .unwrap();
            }
            assert!(lines.end("t").is_ok());
            assert_eq!(got, [b"1\ta\\tb".to_vec(), b"".to_vec(), b"2\t\\N".to_vec()], "{step}");
        }
        let mut lines = Lines::default();
        lines.take(b"1\ta", &mut |_| Ok(())).unwrap();
        assert!(lines.end("t").is_err());
    }

    #[test]
    fn a_value_of_the_log_becomes_what_copy_writes() {
        let check = |value: &str, want: &str| {
            let value = ChangedValue::Text(value.as_bytes().to_vec());
            assert_eq!(escaped(&value).as_deref(), Some(want.as_bytes()));
        };
        check("", "");
        check("plain é", "plain é");
        check("a\tb\nc\rd\\e", "a\\tb\\nc\\rd\\\\e");
        check("\u{8}\u{b}\u{c}", "\\b\\v\\f");
        check("\\N", "\\\\N");
        assert_eq!(escaped(&ChangedValue::Null).as_deref(), Some(NULL));
        assert_eq!(escaped(&ChangedValue::Unchanged), None);
        assert_eq!(values(b"", 0).count(), 0);
        assert_eq!(values(b"", 1).count(), 1);
        assert_eq!(values(b"a\t\t\\N", 3).collect::<Vec<_>>(), [b"a".as_slice(), b"", NULL]);
    }
}
