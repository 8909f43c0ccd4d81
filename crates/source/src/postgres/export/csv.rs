//! COPY text to CSV, stretch by stretch: pure, and in memory that does not grow with a row.
//!
//! Every value is quoted, NULL is nothing at all: so an empty string and NULL stay apart, and a value
//! never has to be known whole before its first byte is written.

use crate::Error;

/// Between two stretches of one table's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToCsv {
    columns: usize,
    /// The column within the row, from 0.
    column: usize,
    state: State,
    rows: u64,
    /// The value's last byte was a line feed: a backslash now would begin a line.
    begins_line: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a value's first byte.
    Start,
    /// After its first byte, which was a backslash.
    StartEscape,
    /// After `\N`.
    Null,
    Value,
    Escape,
}

impl ToCsv {
    pub fn new(columns: usize) -> Self {
        Self { columns, column: 0, state: State::Start, rows: 0, begins_line: false }
    }

    /// A first line with the columns' names.
    pub fn header<'a>(names: impl Iterator<Item = &'a str>) -> Vec<u8> {
        let names: Vec<String> = names.map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
        format!("{}\n", names.join(",")).into_bytes()
    }

    /// Takes the next stretch and adds what it is as CSV to `out`.
    pub fn push(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        for byte in text {
            match (self.state, *byte) {
                (State::Start, b'\\') => self.state = State::StartEscape,
                (State::StartEscape, b'N') => self.state = State::Null,
                (State::StartEscape, escaped) => {
                    self.open(out);
                    self.put(unescaped(escaped), out);
                    self.state = State::Value;
                }
                (State::Escape, escaped) => {
                    self.put(unescaped(escaped), out);
                    self.state = State::Value;
                }
                (State::Start | State::Null | State::Value, end @ (b'\t' | b'\n')) => self.end(end, out)?,
                (State::Value, b'\\') => self.state = State::Escape,
                (State::Value, plain) => self.put(plain, out),
                (State::Start, plain) => {
                    self.open(out);
                    self.put(plain, out);
                    self.state = State::Value;
                }
                (State::Null, _) => return Err(self.malformed("more follows a NULL")),
            }
        }
        Ok(())
    }

    /// How many rows there were; an error when the last one has no end.
    pub fn finish(self) -> Result<u64, Error> {
        if self.state == State::Start && self.column == 0 {
            Ok(self.rows)
        } else {
            Err(self.malformed("it ends early"))
        }
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        out.push(b'"');
        self.begins_line = false;
    }

    fn put(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            b'"' => out.extend_from_slice(b"\"\""),
            // `\.` at the beginning of a line ends the data for psql before 18, quoted or not: a
            // quotation that ends and begins again says the same, and no line begins with a backslash.
            b'\\' if self.begins_line => out.extend_from_slice(b"\"\\\""),
            byte => out.push(byte),
        }
        self.begins_line = byte == b'\n' || byte == b'\r';
    }

    fn end(&mut self, end: u8, out: &mut Vec<u8>) -> Result<(), Error> {
        match self.state {
            State::Start => out.extend_from_slice(b"\"\""),
            State::Null => {}
            _ => out.push(b'"'),
        }
        self.state = State::Start;
        self.column += 1;
        let is_last = self.column == self.columns;
        match (end, is_last) {
            (b'\t', false) => out.push(b','),
            (b'\n', true) => {
                out.push(b'\n');
                self.column = 0;
                self.rows += 1;
            }
            _ => return Err(self.malformed("a row has not as many values as the table has columns")),
        }
        Ok(())
    }

    fn malformed(&self, detail: &str) -> Error {
        Error::Damaged {
            path: format!("row {}", self.rows + 1),
            detail: format!("the stored rows are no COPY text: {detail}"),
            hint: "run `lifeboat check` on the site; the snapshot may be of a newer version".into(),
        }
    }
}

/// What COPY writes after a backslash.
fn unescaped(byte: u8) -> u8 {
    match byte {
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(columns: usize, text: &str, stretch: usize) -> Result<(String, u64), Error> {
        let (mut to_csv, mut out) = (ToCsv::new(columns), Vec::new());
        for stretch in text.as_bytes().chunks(stretch) {
            to_csv.push(stretch, &mut out)?;
        }
        Ok((String::from_utf8(out).unwrap(), to_csv.finish()?))
    }

    #[test]
    fn copy_text_becomes_csv_wherever_it_is_cut() {
        for (columns, text, want, rows) in [
            (2, "1\tab\n2\tcd\n", "\"1\",\"ab\"\n\"2\",\"cd\"\n", 2),
            (2, "\\N\t\n", ",\"\"\n", 1),
            (1, "\\N\n\n", "\n\"\"\n", 2),
            (1, "say \"hi\", all\n", "\"say \"\"hi\"\", all\"\n", 1),
            (1, "a\\nb\\tc\\\\d\\r\n", "\"a\nb\tc\\d\r\"\n", 1),
            (1, "\\\\N\n", "\"\\N\"\n", 1),
            (1, "\\\\.\n", "\"\\.\"\n", 1),
            (1, "a\\n\\\\.\\nb\n", "\"a\n\"\\\".\nb\"\n", 1),
            (1, "\\\\x00ff\n", "\"\\x00ff\"\n", 1),
            (3, "", "", 0),
        ] {
            for stretch in [1, 2, 3, 1000] {
                assert_eq!(csv(columns, text, stretch).unwrap(), (want.to_owned(), rows), "{text:?} {stretch}");
            }
        }
    }

    #[test]
    fn what_is_no_copy_text_of_the_table_is_refused() {
        for (columns, text) in [(2, "1\n"), (1, "1\t2\n"), (1, "1"), (1, "\\Nx\n"), (2, "1\t"), (0, "\n")] {
            assert!(csv(columns, text, 7).is_err(), "{columns} {text:?}");
        }
        assert_eq!(ToCsv::header(["id", "a\"b"].into_iter()), b"\"id\",\"a\"\"b\"\n");
    }
}
