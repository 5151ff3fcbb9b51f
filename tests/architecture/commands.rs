//! The commands in Markdown: which tool each runs, and the flags that it is given.

use crate::lexer::line;

/// A command, or a piece of code that names flags without one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Command {
    /// The line where it begins
    pub(crate) line: usize,
    /// The program's name; empty where flags stand alone
    pub(crate) tool: String,
    /// The word behind the program's name; empty if that is a flag
    pub(crate) subcommand: String,
    /// The flags, with their dashes
    pub(crate) flags: Vec<String>,
}

/// Returns the commands of a Markdown text that have flags: of its code spans, and of the lines of its code
/// blocks.
pub(crate) fn commands(text: &str) -> Vec<Command> {
    let mut found = Vec::new();
    let mut prose = String::with_capacity(text.len());
    let mut fence: Option<&str> = None;
    let mut continued: Option<(usize, String)> = None;
    for (number, content) in text.lines().enumerate() {
        let marker = ["```", "~~~"].into_iter().find(|marker| content.trim_start().starts_with(marker));
        let is_code = fence.is_some() || content.starts_with("    ");
        fence = if fence.is_some() { fence.filter(|open| marker != Some(*open)) } else { marker };
        if is_code || marker.is_some() {
            let (start, before) = continued.take().unwrap_or((number + 1, String::new()));
            let whole = format!("{before} {}", content.trim());
            match whole.strip_suffix('\\') {
                Some(whole) => continued = Some((start, whole.to_owned())),
                None => found.extend(code(&whole, start)),
            }
        } else {
            prose.push_str(content);
        }
        // Prose keeps the numbers of its lines.
        prose.push('\n');
    }
    let mut position = 0;
    for (index, piece) in prose.split('`').enumerate() {
        if index % 2 == 1 {
            found.extend(code(piece, line(&prose, position)));
        }
        position += piece.len() + 1;
    }
    found
}

/// Returns the commands of a line of code, and what the comment behind it names.
fn code(text: &str, line: usize) -> Vec<Command> {
    let (text, comment) = text.split_once(" # ").unwrap_or((text, ""));
    let simple = text.split(['|', ';']).flat_map(|part| part.split("&&")).chain([comment]);
    simple.map(|text| command(text, line)).filter(|command| !command.flags.is_empty()).collect()
}

fn command(text: &str, line: usize) -> Command {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_setting = |word: &&&str| word.contains('=') && !word.starts_with('-');
    let mut names = words.iter().skip_while(is_setting).take_while(|word| !word.starts_with('-'));
    // What ends with a colon or begins with a bracket is a key of YAML, not a program.
    let is_program = |word: &&&str| !word.ends_with(':') && !word.starts_with(['[', '{', '(', '#']);
    let tool = names.next().filter(is_program).map(|tool| tool.rsplit('/').next().unwrap_or(tool));
    let flags = text.match_indices("--").filter_map(|(at, _)| flag(text, at));
    let subcommand = names.next().filter(|_| tool.is_some()).copied().unwrap_or_default();
    Command {
        line,
        tool: tool.unwrap_or_default().to_owned(),
        subcommand: subcommand.to_owned(),
        flags: flags.collect(),
    }
}

/// Returns the flag that begins at a position; none if it is a part of a word, or of flags like `--gce-…`.
fn flag(text: &str, at: usize) -> Option<String> {
    let rest = &text[at..];
    let flag = &rest[..rest.find(|character| !is_part_of_flag(character)).unwrap_or(rest.len())];
    let is_whole = !text[..at].ends_with(is_part_of_flag) && !flag.ends_with('-') && flag.len() > 2;
    is_whole.then(|| flag.to_owned())
}

/// Returns true if a flag can have the character, behind its dashes.
pub(crate) fn is_part_of_flag(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-'
}

fn brief(text: &str) -> Vec<String> {
    let all = commands(text).into_iter();
    all.map(|found| format!("{} {} {} {}", found.line, found.tool, found.subcommand, found.flags.join(" ")))
        .collect()
}

#[test]
fn commands_are_found_with_their_flags() {
    for (text, found) in [
        ("Run `hostport-firewall plan --a-b x` now.", "1 hostport-firewall plan --a-b"),
        ("\nWith `--a=1`, not `-o`.", "2   --a"),
        ("`kubectl get\npods --watch`", "1 kubectl get --watch"),
        ("`--gce-…` and a -- b", ""),
        ("    A=1 target/x run \\\n      --b \\\n      --c", "1 x run --b --c"),
        ("```yaml\nargs: [run, --a]\n```\n", "2   --a"),
        ("```\nx --a | y --b\n```", "2 x  --a; 2 y  --b"),
        ("    x y --a   # less --b", "1 x y --a; 1 less  --b"),
        ("| `--a` | `--b` |", "1   --a; 1   --b"),
    ] {
        let expected: Vec<&str> = found.split("; ").filter(|found| !found.is_empty()).collect();
        let trimmed = |found: String| found.replace("  ", " ");
        let found: Vec<String> = brief(text).into_iter().map(trimmed).collect();
        let expected: Vec<String> = expected.into_iter().map(|found| trimmed(found.to_owned())).collect();
        assert_eq!(found, expected, "{text}");
    }
}
