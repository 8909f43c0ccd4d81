//! Just enough of Rust's grammar to tell code from comments and literals, and to measure functions.

/// The source with comments and the insides of literals blanked; lines and columns stay in place.
pub fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skipped(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` itself when none begins there.
fn skipped(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => find(chars, at, |rest| rest[0] == '\n'),
        '/' if next == Some('*') => block_comment_end(chars, at),
        '"' => string_end(chars, at + 1),
        'r' if !follows_word(chars, at) => raw_string_end(chars, at + 1).unwrap_or(at),
        'b' | 'c' if !follows_word(chars, at) => match next {
            Some('"') => string_end(chars, at + 2),
            Some('r') => raw_string_end(chars, at + 2).unwrap_or(at),
            _ => at,
        },
        '\'' if next == Some('\\') => find(chars, at + 3, |rest| rest[0] == '\'').saturating_add(1).min(chars.len()),
        '\'' if chars.get(at + 2) == Some(&'\'') => at + 3,
        _ => at,
    }
}

fn find(chars: &[char], from: usize, mut is_there: impl FnMut(&[char]) -> bool) -> usize {
    (from..chars.len()).find(|&at| is_there(&chars[at..])).unwrap_or(chars.len())
}

fn follows_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn block_comment_end(chars: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0usize, from);
    while at < chars.len() {
        if chars[at..].starts_with(&['/', '*']) {
            depth += 1;
            at += 2;
        } else if chars[at..].starts_with(&['*', '/']) {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of `#*"…"#*`, from its first `#` or `"`; `None` when this is no raw string.
fn raw_string_end(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars.get(from..)?.iter().take_while(|&&c| c == '#').count();
    if chars.get(from + hashes) != Some(&'"') {
        return None;
    }
    let mut closing = vec!['"'];
    closing.resize(hashes + 1, '#');
    Some((find(chars, from + hashes + 1, |rest| rest.starts_with(&closing)) + hashes + 1).min(chars.len()))
}

/// A function and where it stands.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// The first line, from 1.
    pub line: usize,
    /// From the line of `fn` to the closing brace.
    pub lines: usize,
}

/// Every function with a body, in blanked source.
pub fn functions(code: &str) -> Vec<Function> {
    let chars: Vec<char> = code.chars().collect();
    let mut found = Vec::new();
    let mut line = 1;
    for at in 0..chars.len() {
        if chars[at] == '\n' {
            line += 1;
        }
        let is_keyword = chars[at..].starts_with(&['f', 'n', ' ']) && !follows_word(&chars, at);
        let name: String = chars[(at + 3).min(chars.len())..].iter().take_while(|c| is_word(**c)).collect();
        if !is_keyword || name.is_empty() {
            continue;
        }
        if let Some(end) = body_end(&chars, at) {
            let lines = 1 + chars[at..end].iter().filter(|&&c| c == '\n').count();
            found.push(Function { name, line, lines });
        }
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The closing brace of the block that opens first after `from`; `None` when `;` comes before it.
pub fn body_end(chars: &[char], from: usize) -> Option<usize> {
    let (mut brackets, mut braces) = (0i32, 0i32);
    for (at, c) in chars.iter().enumerate().skip(from) {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            '{' => braces += 1,
            ';' if brackets == 0 && braces == 0 => return None,
            '}' => {
                braces -= 1;
                if braces == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Blanked source without its `#[cfg(test)]` items.
pub fn without_tests(code: &str) -> String {
    let mut rest: Vec<char> = code.chars().collect();
    let marker: Vec<char> = "#[cfg(test)]".chars().collect();
    while let Some(at) = (0..rest.len()).find(|&at| rest[at..].starts_with(&marker)) {
        let item = at + marker.len();
        let declared = find(&rest, item, |rest| rest[0] == ';');
        let end = body_end(&rest, item).unwrap_or(declared).min(rest.len().saturating_sub(1));
        rest[at..=end].iter_mut().filter(|c| **c != '\n').for_each(|c| *c = ' ');
    }
    rest.into_iter().collect()
}

#[test]
fn comments_and_literals_are_not_code() {
    let check = |source: &str, want: &str| {
        let got = code_only(source);
        assert_eq!(got.split_whitespace().collect::<Vec<_>>().join(" "), want, "{source}");
        assert_eq!(got.chars().count(), source.chars().count(), "{source}");
    };
    check("a // b \"c\"\nd", "a d");
    check("a /* b /* c */ d */ e", "a e");
    check(r#"f("x \" y") + 'z' + '\'' + '"'"#, "f( ) + + +");
    check(r##"r#"a " b"# + br"c" + b"d" + r"e""##, "+ + +");
    check("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
    check("r#type + for", "r#type + for");
    check("\"unclosed", "");
    check("'", "'");
}

#[test]
fn functions_are_measured_from_their_line_to_their_brace() {
    let source =
        "trait T {\n  fn a(&self) -> [u8; 2];\n}\nfn b(x: [u8; 3])\n{\n  let c = || { 1 };\n}\ntype F = fn(u8);\n";
    assert_eq!(functions(source), [Function { name: "b".into(), line: 4, lines: 4 }]);
}

#[test]
fn test_modules_are_taken_out() {
    let source = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod d;\nfn e() {}\n";
    let names: Vec<String> = functions(&without_tests(source)).into_iter().map(|f| f.name).collect();
    assert_eq!(names, ["a", "c", "e"]);
}
