//! Plain text: what others wrote, made fit for a line of a log, of a terminal or of an Event.

use std::borrow::Cow;
use std::fmt::Write;

/// Escapes what could forge a line or turn one around: control characters, line separators, invisible and
/// bidirectional marks. Quotes and all that is printed stay as they are.
#[must_use]
pub fn escape_unprintable(text: &str) -> Cow<'_, str> {
    let is_kept = |c: char| match c {
        ' '..='~' => true,
        _ if c.is_ascii() => false,
        // Debug escapes what is not printed.
        _ => c.escape_debug().len() == 1,
    };
    if text.chars().all(is_kept) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().fold(String::with_capacity(text.len() + 8), |mut escaped, c| {
        if is_kept(c) {
            escaped.push(c);
        } else {
            // Writing to a String cannot fail.
            _ = write!(escaped, "{}", c.escape_debug());
        }
        escaped
    });
    Cow::Owned(escaped)
}

/// Shortens a text to so many bytes, between two characters, and says so with an ellipsis.
pub(crate) fn shorten(text: &mut String, most_bytes: usize) {
    const ELLIPSIS: &str = "…";
    if text.len() > most_bytes {
        text.truncate(text.floor_char_boundary(most_bytes.saturating_sub(ELLIPSIS.len())));
        text.push_str(ELLIPSIS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_printed_stays_as_it_is() {
        for text in ["", "port 80: \"http\" isn't\\", "é ü 端口 🚪 · …", "a b"] {
            assert!(matches!(escape_unprintable(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn character_that_forges_a_line_is_escaped() {
        let cases = [
            ("a\nb", "a\\nb"),
            ("a\r\tb\0", "a\\r\\tb\\0"),
            ("\u{1b}[2J\u{7f}\u{9b}", "\\u{1b}[2J\\u{7f}\\u{9b}"),
            ("\u{2028}\u{2029}\u{85}", "\\u{2028}\\u{2029}\\u{85}"),
            ("\u{202e}\u{2066}\u{200f}\u{61c}", "\\u{202e}\\u{2066}\\u{200f}\\u{61c}"),
            ("\u{200b}\u{feff}\u{e0041}", "\\u{200b}\\u{feff}\\u{e0041}"),
        ];
        for (text, expected) in cases {
            assert_eq!(escape_unprintable(text), expected);
        }
    }

    #[test]
    fn text_is_shortened_between_characters() {
        let mut text = "éééé".to_owned();
        shorten(&mut text, 8);
        assert_eq!(text, "éééé");
        shorten(&mut text, 7);
        assert_eq!(text, "éé…");
    }
}
