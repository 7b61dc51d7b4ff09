//! Characters of other people's texts that act on what shows them: names, reasons and messages come from configs, peers and run
//! directories that somebody else sent.

/// Whether a character acts on a terminal, a page or a spreadsheet instead of being shown: a control character, or one that
/// reorders the text around it. Line feeds and tabs are text.
pub fn acts(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t' || reorders(c)
}

/// Whether a character reorders the text around it, or begins a new line without being a line feed.
pub fn reorders(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_all_scripts_are_shown_and_what_acts_is_not() {
        assert!("a é 日 א ع\n\t–→\u{200d}".chars().all(|c| !acts(c)));
        for c in [
            '\u{0}', '\u{1b}', '\r', '\u{7f}', '\u{9b}', '\u{61c}', '\u{200f}', '\u{2028}', '\u{202e}',
            '\u{2067}',
        ] {
            assert!(acts(c), "{c:?}");
        }
    }
}
