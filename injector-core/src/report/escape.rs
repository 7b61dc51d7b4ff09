//! Text inside HTML and XML. Names, reasons and commands are user input.

use std::fmt::{self, Display, Formatter, Write};

use crate::shown::{acts, reorders};

/// Escapes on display, for element content and quoted attributes; characters that XML can't hold, or that
/// reorder what is shown, become U+FFFD.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<T>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.write_str("&amp;")?,
                '<' => self.0.write_str("&lt;")?,
                '>' => self.0.write_str("&gt;")?,
                '"' => self.0.write_str("&quot;")?,
                '\'' => self.0.write_str("&#39;")?,
                '\u{fffe}' | '\u{ffff}' => self.0.write_char('\u{fffd}')?,
                c if acts(c) => self.0.write_char('\u{fffd}')?,
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// JSON that can be put inside a `<script>` element; in it, characters that reorder what is shown are U+FFFD.
pub fn script_json(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_string(value).expect("string keys and finite numbers");
    json.replace('<', "\\u003c").replace(reorders, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out() {
        assert_eq!(
            Escaped("<b a=\"x\" c='y'>&\u{1}\u{202e}\u{9b}").to_string(),
            "&lt;b a=&quot;x&quot; c=&#39;y&#39;&gt;&amp;\u{fffd}\u{fffd}\u{fffd}"
        );
        assert_eq!(script_json(&"</script><!--"), "\"\\u003c/script>\\u003c!--\"");
        assert_eq!(script_json(&"a\u{202e}\u{2028}b"), "\"a\u{fffd}\u{fffd}b\"");
    }
}
