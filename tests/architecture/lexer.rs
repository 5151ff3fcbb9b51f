//! Rust source as text: where code ends and comments and literals begin.

/// Returns the text with a space for each byte of comments and literals; newlines, and so positions, stay.
pub(crate) fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut masked = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while position < bytes.len() {
        let length = skipped(text, position);
        if length == 0 {
            masked.push(bytes[position]);
            position += 1;
        } else {
            let skipped = &bytes[position..position + length];
            masked.extend(skipped.iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
            position += length;
        }
    }
    String::from_utf8(masked).expect("only whole characters are replaced")
}

/// Returns the number of bytes that a comment or literal has which begins at `position`; 0 if none does.
fn skipped(text: &str, position: usize) -> usize {
    let bytes = &text.as_bytes()[position..];
    match bytes {
        [b'/', b'/', ..] => bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len()),
        [b'/', b'*', ..] => block_comment(bytes),
        [b'"', ..] => string(bytes),
        [b'r', b'"' | b'#', ..] if begins_raw_string(&text[..position]) => raw_string(bytes),
        [b'\'', b'\\', ..] => {
            // The character behind the backslash may itself be a quotation mark.
            bytes.iter().skip(3).position(|byte| *byte == b'\'').map_or(bytes.len(), |end| end + 4)
        }
        [b'\'', ..] => character(&text[position..]),
        _ => 0,
    }
}

fn block_comment(bytes: &[u8]) -> usize {
    let (mut depth, mut position) = (1, 2);
    while position < bytes.len() && depth > 0 {
        match &bytes[position..] {
            [b'/', b'*', ..] => (depth, position) = (depth + 1, position + 2),
            [b'*', b'/', ..] => (depth, position) = (depth - 1, position + 2),
            _ => position += 1,
        }
    }
    position
}

fn string(bytes: &[u8]) -> usize {
    let mut position = 1;
    while position < bytes.len() && bytes[position] != b'"' {
        position += if bytes[position] == b'\\' { 2 } else { 1 };
    }
    (position + 1).min(bytes.len())
}

/// Returns the length of a raw string; 0 if it is a raw identifier, such as `r#type`.
fn raw_string(bytes: &[u8]) -> usize {
    let hashes = bytes[1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let end: Vec<u8> = [vec![b'"'], vec![b'#'; hashes]].concat();
    let start = hashes + 2;
    let closing = bytes[start..].windows(end.len()).position(|window| window == end);
    closing.map_or(bytes.len(), |closing| start + closing + end.len())
}

/// Returns the length of a character literal; 0 if it is a lifetime.
fn character(text: &str) -> usize {
    let mut characters = text.chars().skip(1);
    let length = characters.next().map_or(0, char::len_utf8);
    if characters.next() == Some('\'') { length + 2 } else { 0 }
}

/// Returns true if an `r` behind this text can begin a raw string, as it can behind the `b` of a byte string.
fn begins_raw_string(before: &str) -> bool {
    let word = before.trim_end_matches(is_word).len();
    ["", "b", "c"].contains(&&before[word..])
}

fn is_inside_word(text: &str, position: usize) -> bool {
    text[..position].ends_with(is_word)
}

/// Returns true if a name can have the character.
pub(crate) fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Returns where `word` stands in the masked text, as a whole word.
pub(crate) fn words<'a>(masked: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_whole =
        move |at: usize| !is_inside_word(masked, at) && !masked[at + word.len()..].starts_with(is_word);
    masked.match_indices(word).map(|(at, _)| at).filter(move |at| is_whole(*at))
}

/// Returns the name with which the text begins, behind white space.
pub(crate) fn name(text: &str) -> &str {
    let text = text.trim_start();
    &text[..text.find(|character| !is_word(character)).unwrap_or(text.len())]
}

/// Returns the number of the line, from 1, that a position lies in.
pub(crate) fn line(text: &str, position: usize) -> usize {
    text[..position].matches('\n').count() + 1
}

/// Returns the string literals of a text, without their quotation marks; raw strings and comments are left
/// out.
pub(crate) fn literals(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut position = 0;
    while position < text.len() {
        let length = skipped(text, position);
        if text[position..].starts_with('"') && length > 1 {
            found.push(&text[position + 1..position + length - 1]);
        }
        position +=
            if length == 0 { text[position..].chars().next().map_or(1, char::len_utf8) } else { length };
    }
    found
}

#[test]
fn comments_and_literals_are_masked() {
    for (text, masked) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ \n */ d", "a              \n    d"),
        ("f(\"}\\\"{\", b)", "f(      , b)"),
        ("r#\"a\"{\"# b", "         b"),
        ("br\"{\" b", "b     b"),
        ("r#type b", "r#type b"),
        ("for\"{\"", "for   "),
        ("'{' '\\'' '\\u{1F}' 'é'", "                    "),
        ("&'a str, 'b: loop", "&'a str, 'b: loop"),
        ("\"é\"", "    "),
        ("\"open", "     "),
    ] {
        let text_masked = mask(text);
        assert_eq!(text_masked.len(), text.len(), "{text}");
        assert_eq!(text_masked.trim_end(), masked.trim_end(), "{text}");
    }
}

#[test]
fn literals_are_found_outside_comments() {
    assert_eq!(literals("f(\"a\", 'b', \"c\\\"d\"); // \"e\"\n\"f\""), ["a", "c\\\"d", "f"]);
}
