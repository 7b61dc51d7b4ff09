//! Texts of others on their way to a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

use injector_core::shown::acts;

/// A text in which nothing of what a config, a peer or an API says can act on a terminal: control characters (but for
/// line feeds and tabs) and those that reorder what is shown are written as `\u001b`, which JSON reads as the same.
pub fn clean(text: &str) -> Cow<'_, str> {
    clean_but(text, None)
}

/// [`clean`] for a text whose escape characters are known to be ours.
pub fn clean_coloured(text: &str) -> Cow<'_, str> {
    clean_but(text, Some('\u{1b}'))
}

fn clean_but(text: &str, kept: Option<char>) -> Cow<'_, str> {
    let acts = |c: char| acts(c) && Some(c) != kept;
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if acts(c) {
            let _ = write!(cleaned, "\\u{:04x}", u32::from(c));
        } else {
            cleaned.push(c);
        }
    }
    Cow::Owned(cleaned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_the_terminal() {
        assert_eq!(clean("n1→n2\tok\n"), "n1→n2\tok\n");
        assert_eq!(clean("a\u{1b}[2Jb\r\u{7f}\u{9b}31m"), "a\\u001b[2Jb\\u000d\\u007f\\u009b31m");
        assert_eq!(clean("\u{202e}gnp"), "\\u202egnp");
        assert_eq!(clean_coloured("\u{1b}[2ma\u{9b}\u{202e}"), "\u{1b}[2ma\\u009b\\u202e");
        let json = serde_json::to_string("\u{9b}x\u{202e}\u{1b}").unwrap();
        assert_eq!(serde_json::from_str::<String>(&clean(&json)).unwrap(), "\u{9b}x\u{202e}\u{1b}");
    }
}
