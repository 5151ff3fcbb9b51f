//! Prose: the lines of Markdown that can be wrapped, and the lines of code that have a comment.

use crate::lexer::mask;
use crate::source::is_rust;
use crate::tidy::Measure;

/// Returns true if a file of that name is a script, or holds settings, with comments behind `#`.
pub(crate) fn is_script(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    ending.is_none_or(|ending| ["sh", "yaml", "yml", "toml", "py"].contains(&ending))
}

/// Returns the lines of a file that have a comment, by their columns.
pub(crate) fn comments(path: &str, text: &str) -> Vec<Measure> {
    let has_comment: Vec<bool> = if is_rust(path) {
        let masked = mask(text);
        let lines = text.lines().zip(masked.lines());
        // What ends a line and is masked, but is no literal.
        lines.map(|(line, masked)| line[masked.trim_end().len()..].trim_start().starts_with("//")).collect()
    } else {
        text.lines().map(|line| line.trim_start().starts_with('#') || line.contains(" # ")).collect()
    };
    let lines = text.lines().zip(has_comment).enumerate().filter(|(_, (_, has_comment))| *has_comment);
    lines.map(|(number, (line, _))| measure(path, number, line)).collect()
}

/// Returns the lines of prose of a Markdown file, by their columns: no tables, code, headings or what cannot
/// be broken.
pub(crate) fn markdown(path: &str, text: &str) -> Vec<Measure> {
    let mut found = Vec::new();
    let mut fence: Option<&str> = None;
    let (mut is_after_blank, mut is_list, mut is_code) = (true, false, false);
    for (number, line) in text.lines().enumerate() {
        let content = line.trim();
        if let Some(open) = fence {
            fence = (!content.starts_with(open)).then_some(open);
            continue;
        }
        fence = ["```", "~~~"].into_iter().find(|fence| content.starts_with(fence));
        let is_indented = line.starts_with("    ");
        is_code = is_indented && (is_code || is_after_blank && !is_list);
        if !content.is_empty() {
            is_list = item(content).is_some() || is_list && (line.starts_with(' ') || !is_after_blank);
        }
        is_after_blank = content.is_empty();
        if fence.is_none() && !is_code && !content.is_empty() && can_be_wrapped(content) {
            found.push(measure(path, number, line));
        }
    }
    found
}

fn measure(path: &str, number: usize, line: &str) -> Measure {
    Measure {
        path: path.to_owned(),
        line: number + 1,
        name: "it".to_owned(),
        size: line.chars().count(),
        unit: "columns",
    }
}

/// Returns the text of a list item; none if the line begins none.
fn item(content: &str) -> Option<&str> {
    let numbered = content.trim_start_matches(|character: char| character.is_ascii_digit());
    let bullet = ["- ", "* ", "+ "].iter().find_map(|bullet| content.strip_prefix(bullet));
    bullet.or_else(|| numbered.strip_prefix(". ").filter(|_| numbered.len() < content.len()))
}

fn can_be_wrapped(content: &str) -> bool {
    let is_definition = content.starts_with('[') && content.contains("]: ");
    let is_structure = content.starts_with(['|', '<']) || is_definition;
    !is_structure && pieces(item(content).unwrap_or(content)) > 1
}

/// Returns the number of pieces that a line can be broken into: code and links are one each.
fn pieces(text: &str) -> usize {
    let (mut in_code, mut in_link, mut pieces) = (false, 0, 1);
    for (position, character) in text.char_indices() {
        match character {
            '`' => in_code = !in_code,
            '[' if !in_code && text[position..].contains("](") => in_link += 1,
            '(' if !in_code && text[..position].ends_with(']') && in_link > 0 => {}
            ')' if !in_code && in_link > 0 => in_link -= 1,
            ' ' if !in_code && in_link == 0 => pieces += 1,
            _ => {}
        }
    }
    pieces
}

fn long(measures: &[Measure], limit: usize) -> Vec<usize> {
    measures.iter().filter(|measure| measure.size > limit).map(|measure| measure.line).collect()
}

#[test]
fn long_prose_in_markdown_is_found() {
    let words = "word ".repeat(21);
    let found = |text: &str| long(&markdown("a.md", text), 100);
    assert_eq!(found(&format!("Short.\n\n{words}\n")), [3]);
    assert_eq!(found(&format!("- {words}\n  {words}\n\n  {words}\n")), [1, 2, 4]);
    assert_eq!(found(&format!("1. {words}\n\n    {words}\n")), [1, 3]);
    assert_eq!(found(&format!("# {words}\n> {words}\n")), [1, 2]);
    assert_eq!(found(&format!("Short.\n    {words}\n")), [2]);
    assert_eq!(found(&format!("```\n{words}\n```\n{words}")), [4]);
}

#[test]
fn tables_code_and_links_in_markdown_may_be_long() {
    let words = "word ".repeat(21);
    let link = format!("https://example.com/{}", "a".repeat(100));
    for text in [
        format!("| {words} | a |\n"),
        format!("```yaml\n{words}\n```\n"),
        format!("~~~\n{words}\n~~~\n"),
        format!("Run:\n\n    {words}\n\n    {words}\n"),
        format!("- {link}\n"),
        format!("- [{words}]({link}).\n"),
        format!("[name]: {link} \"{words}\"\n"),
        format!("<img alt=\"{words}\">\n"),
        format!("`{words}`\n"),
    ] {
        assert_eq!(long(&markdown("a.md", &text), 100), Vec::<usize>::new(), "{text}");
    }
}

#[test]
fn long_comments_are_found() {
    let words = "word ".repeat(30);
    let rust = format!("// {words}\nf(\"{words}\");\nf(); // {words}\n/// {words}\nf(\"// {words}\");\n");
    assert_eq!(long(&comments("a.rs", &rust), 140), [1, 3, 4]);
    let script = format!("#!/bin/sh\n  # {words}\necho {words}\nf # {words}\n");
    assert_eq!(long(&comments("start", &script), 140), [2, 4]);
    assert!(is_script("start") && is_script("a.yaml") && !is_script("a.json") && !is_script("a.md"));
}
