//! Markup, and text that cannot become markup.
//!
//! Invariant (text-is-text): markup is a literal of this program; whatever came from outside is escaped on its way in.

/// A document that grows.
#[derive(Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup. It is a literal, so that nothing that was read can be it.
    pub fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text, in content and in quoted attributes.
    pub fn text(&mut self, text: impl AsRef<str>) -> &mut Self {
        for character in text.as_ref().chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' => self.0.push('\n'),
                character if is_unseen(character) => self.0.extend(character.escape_unicode()),
                character => self.0.push(character),
            }
        }
        self
    }

    /// Text of somebody else: whichever way it is written, what stands beside it stays where it is.
    pub fn foreign(&mut self, text: impl AsRef<str>) -> &mut Self {
        self.raw("<bdi>").text(text).raw("</bdi>")
    }

    /// A place in a drawing.
    pub fn at(&mut self, value: f64) -> &mut Self {
        self.0.push_str(&format!("{value:.1}"));
        self
    }

    pub fn finish(self) -> String {
        self.0
    }
}

/// What nobody sees, and what turns the order of letters around: it is shown by its number.
fn is_unseen(character: char) -> bool {
    let turns = matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}');
    turns || character.is_control() || matches!(character, '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup_and_never_unseen() {
        let check = |text: &str, want: &str| {
            let mut html = Html::default();
            html.text(text);
            assert_eq!(html.finish(), want);
        };
        check("<script>a & \"b\" 'c'</script>", "&lt;script&gt;a &amp; &quot;b&quot; &#39;c&#39;&lt;/script&gt;");
        check("gpj.exe \u{202e}\u{200b}\0\x1b[1m", "gpj.exe \\u{202e}\\u{200b}\\u{0}\\u{1b}[1m");
        check("two\nlines, and Grüße", "two\nlines, and Grüße");
    }
}
