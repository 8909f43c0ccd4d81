//! Telling the sites apart in one `COPY` of all of them: each line begins with its site.
//!
//! ```text
//! acme ⇥ 1 ⇥ first ⏎            site `acme`: 1 ⇥ first ⏎
//! acme ⇥ 2 ⇥ second ⏎    ─▶                  2 ⇥ second ⏎
//! beta ⇥ 7 ⇥ third ⏎            site `beta`: 7 ⇥ third ⏎
//! ```
//!
//! `COPY` escapes tabs and line ends within values, so the first tab ends the site, and what is left of
//! the line is byte for byte what a `COPY` without that column writes.

use std::io::BufRead;

/// A stretch of rows is handed over when it has grown to this.
const STRETCH_LEN: usize = 64 << 10;

/// Some rows of one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Whose rows begin here; `None`: those of the stretch before.
    pub begins: Option<String>,
    pub rows: Vec<u8>,
}

/// What came is no `COPY` text in the order of sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotInOrder;

/// Splits lines as they come.
#[derive(Default)]
pub(super) struct Splitter {
    /// A line whose end has not come yet.
    unfinished: Vec<u8>,
    /// As `COPY` writes it.
    escaped: Vec<u8>,
    /// The site whose rows are being collected.
    site: Option<String>,
    begins: Option<String>,
    rows: Vec<u8>,
}

impl Splitter {
    /// Takes some bytes, and gives each stretch that is full or whose site has ended; `Ok(false)`: nobody wants
    /// more.
    pub fn take(&mut self, bytes: &[u8], give: &mut dyn FnMut(Stretch) -> bool) -> Result<bool, NotInOrder> {
        // The server sends one row after the other, each whole, but does not promise to.
        if self.unfinished.is_empty() && bytes.ends_with(b"\n") {
            return self.take_lines(bytes, give);
        }
        self.unfinished.extend_from_slice(bytes);
        if !bytes.ends_with(b"\n") {
            return Ok(true);
        }
        let lines = std::mem::take(&mut self.unfinished);
        self.take_lines(&lines, give)
    }

    /// Gives what is left.
    pub fn end(mut self, give: &mut dyn FnMut(Stretch) -> bool) -> Result<bool, NotInOrder> {
        if !self.unfinished.is_empty() {
            return Err(NotInOrder);
        }
        Ok(self.site.is_none() || self.give(give))
    }

    fn take_lines(&mut self, mut lines: &[u8], give: &mut dyn FnMut(Stretch) -> bool) -> Result<bool, NotInOrder> {
        while !lines.is_empty() {
            if !self.is_of_same_site(lines) {
                let site = site_of(lines).ok_or(NotInOrder)?;
                // A site that came twice, or too early, might have been taken for one without rows.
                if self.site.as_ref().is_some_and(|before| *before >= site) {
                    return Err(NotInOrder);
                }
                if self.site.is_some() && !self.give(give) {
                    return Ok(false);
                }
                self.escaped = field_of(lines).to_vec();
                (self.begins, self.site) = (Some(site.clone()), Some(site));
            }
            lines = &lines[self.escaped.len()..];
            lines = lines.strip_prefix(b"\t").unwrap_or(lines); // a table of no other column has none
            lines.read_until(b'\n', &mut self.rows).map_err(|_| NotInOrder)?; // finds the end faster than a loop
            if self.rows.len() >= STRETCH_LEN && !self.give(give) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_of_same_site(&self, line: &[u8]) -> bool {
        self.site.is_some()
            && line.starts_with(&self.escaped)
            && matches!(line.get(self.escaped.len()), Some(b'\t' | b'\n'))
    }

    fn give(&mut self, give: &mut dyn FnMut(Stretch) -> bool) -> bool {
        if self.rows.is_empty() && self.begins.is_none() {
            return true;
        }
        give(Stretch { begins: self.begins.take(), rows: std::mem::take(&mut self.rows) })
    }
}

/// The first field of a line, as it stands there.
fn field_of(line: &[u8]) -> &[u8] {
    let end = line.iter().position(|byte| matches!(byte, b'\t' | b'\n')).unwrap_or(line.len());
    &line[..end]
}

/// The first field's value; `None`: NULL, or nothing that `COPY` writes.
fn site_of(line: &[u8]) -> Option<String> {
    let mut value = Vec::new();
    let mut bytes = field_of(line).iter();
    while let Some(byte) = bytes.next() {
        value.push(match byte {
            b'\\' => match bytes.next()? {
                b'b' => 8,
                b't' => b'\t',
                b'n' => b'\n',
                b'v' => 11,
                b'f' => 12,
                b'r' => b'\r',
                b'\\' => b'\\',
                _ => return None,
            },
            byte => *byte,
        });
    }
    String::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of these bytes when they arrive in pieces of `step`.
    fn split(bytes: &[u8], step: usize) -> Result<Vec<(String, Vec<u8>)>, NotInOrder> {
        let mut sites: Vec<(String, Vec<u8>)> = Vec::new();
        let mut collect = |stretch: Stretch| {
            match stretch.begins {
                Some(site) => sites.push((site, stretch.rows)),
                None => sites.last_mut().unwrap().1.extend(stretch.rows),
            }
            true
        };
        let mut splitter = Splitter::default();
        for piece in bytes.chunks(step) {
            splitter.take(piece, &mut collect)?;
        }
        splitter.end(&mut collect)?;
        Ok(sites)
    }

    #[test]
    fn each_site_gets_its_lines_without_the_site_however_they_arrive() {
        let check = |bytes: &str, want: Result<&[(&str, &str)], NotInOrder>| {
            let want = want.map(|sites| sites.iter().map(|(site, rows)| (site.to_string(), rows.as_bytes().to_vec())));
            let want: Result<Vec<_>, _> = want.map(Iterator::collect);
            for step in [1, 3, bytes.len().max(1)] {
                assert_eq!(split(bytes.as_bytes(), step), want, "{bytes:?} {step}");
            }
        };
        check("", Ok(&[]));
        check("a\t1\tx\na\t2\ty\nb\t3\tz\n", Ok(&[("a", "1\tx\n2\ty\n"), ("b", "3\tz\n")]));
        check("a\t1\nab\t2\nb\t\n", Ok(&[("a", "1\n"), ("ab", "2\n"), ("b", "\n")]));
        check("a\na\nb\n", Ok(&[("a", "\n\n"), ("b", "\n")]));
        check("\t1\na\t2\n", Ok(&[("", "1\n"), ("a", "2\n")]));
        check("a\\tb\\\\n\t1\\n\n", Ok(&[("a\tb\\n", "1\\n\n")]));
        check("a\\\\\t1\na\\\\b\t2\n", Ok(&[("a\\", "1\n"), ("a\\b", "2\n")]));
        check("é\t1\n", Ok(&[("é", "1\n")]));
        check("b\t1\na\t2\n", Err(NotInOrder));
        check("a\t1\nb\t2\na\t3\n", Err(NotInOrder));
        check("\\N\t1\n", Err(NotInOrder));
        check("a\t1", Err(NotInOrder));
    }

    #[test]
    fn a_site_of_many_rows_comes_in_stretches_that_name_it_once() {
        let lines: String = (0..50_000).map(|row| format!("acme\t{row}\tsomething\n")).collect();
        let (mut stretches, mut whole) = (Vec::new(), Vec::new());
        let mut splitter = Splitter::default();
        for line in lines.split_inclusive('\n') {
            assert!(splitter.take(line.as_bytes(), &mut |stretch| (stretches.push(stretch), true).1).unwrap());
        }
        assert!(splitter.end(&mut |stretch| (stretches.push(stretch), true).1).unwrap());
        assert!(stretches.len() > 10);
        for (number, stretch) in stretches.into_iter().enumerate() {
            assert_eq!(stretch.begins.is_some(), number == 0);
            assert!(stretch.rows.len() < 2 * STRETCH_LEN);
            whole.extend(stretch.rows);
        }
        assert_eq!(whole, lines.replace("acme\t", "").into_bytes());
        let mut splitter = Splitter::default();
        assert_eq!(splitter.take(b"a\t1\nb\t2\n", &mut |_| false), Ok(false), "nobody wants more");
    }
}
