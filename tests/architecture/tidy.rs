//! Every file can be read: short functions, short files, a doc line for each module, names and prose that fit
//! on a line.

use std::fmt;

use crate::lexer::{line, mask, name, words};
use crate::prose::{comments, is_script, markdown};
use crate::reachable::unreachable;
use crate::source::{Texts, files, files_named, is_rust, production, without_tests};

/// The most lines of a function, its signature included.
const FUNCTION_LINES: usize = 70;

/// The most lines of a file.
const FILE_LINES: usize = 400;

/// The most characters of a test's name.
const TEST_NAME: usize = 60;

/// The most columns of a comment.
const COMMENT_COLUMNS: usize = 140;

/// The most columns of prose in Markdown.
const MARKDOWN_COLUMNS: usize = 100;

/// The words that say what a reader asks, not what an item is or does; and how many in a hundred may begin
/// with one.
const QUESTIONS: [&str; 4] = ["What", "Whether", "How", "Who"];
const QUESTIONS_PERCENT: usize = 5;

/// A size of something in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Measure {
    /// The file
    pub(crate) path: String,
    /// The line where it begins
    pub(crate) line: usize,
    /// The name of what is measured
    pub(crate) name: String,
    /// The size
    pub(crate) size: usize,
    /// What the size counts
    pub(crate) unit: &'static str,
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} has {} {}", self.path, self.line, self.name, self.size, self.unit)
    }
}

/// Returns those that are over a limit, one a line.
fn over(measures: &[Measure], limit: usize) -> Vec<String> {
    measures.iter().filter(|measure| measure.size > limit).map(ToString::to_string).collect()
}

fn largest(measures: &[Measure]) -> String {
    measures.iter().max_by_key(|measure| measure.size).map_or("none".to_owned(), ToString::to_string)
}

/// Returns the functions of a file by their number of lines, from `fn` to the closing brace.
fn functions(path: &str, text: &str) -> Vec<Measure> {
    let masked = mask(text);
    let measured = words(&masked, "fn").filter_map(|start| {
        let name = name(&masked[start + 2..]);
        let body = start + body(&masked[start..])?;
        let end = body + block(&masked[body..]);
        let lines = masked[start..end].matches('\n').count() + 1;
        (!name.is_empty()).then(|| Measure {
            path: path.to_owned(),
            line: line(text, start),
            name: format!("fn {name}"),
            size: lines,
            unit: "lines",
        })
    });
    measured.collect()
}

/// Returns where the body of a function begins, counted from its `fn`; none if it is only declared.
fn body(masked: &str) -> Option<usize> {
    let mut depth = 0;
    for (position, character) in masked.char_indices() {
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(position),
            ';' if depth == 0 => return None,
            _ if depth < 0 => return None,
            _ => {}
        }
    }
    None
}

/// Returns the length of the block with which the text begins.
fn block(masked: &str) -> usize {
    let mut depth = 0;
    for (position, character) in masked.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return position + 1;
        }
    }
    masked.len()
}

/// Returns a file by its number of lines.
fn file(path: &str, text: &str) -> Measure {
    Measure {
        path: path.to_owned(),
        line: 1,
        name: "it".to_owned(),
        size: text.lines().count(),
        unit: "lines",
    }
}

/// Returns the tests of a file by the length of their names.
fn test_names(path: &str, text: &str) -> Vec<Measure> {
    let masked = mask(text);
    let attributes =
        ["#[test]", "#[tokio::test"].iter().flat_map(|attribute| masked.match_indices(attribute));
    let named = attributes.filter_map(|(start, _)| {
        let start = start + words(&masked[start..], "fn").next()?;
        let name = name(&masked[start + 2..]);
        Some(Measure {
            path: path.to_owned(),
            line: line(text, start),
            name: name.to_owned(),
            size: name.chars().count(),
            unit: "characters",
        })
    });
    named.collect()
}

/// Returns true if the file says in its first line what it is about.
fn has_doc_line(text: &str) -> bool {
    text.starts_with("//! ")
}

/// The first lines of doc comments: of how many there are, which ones begin with a question word, and where.
#[derive(Debug, Default)]
struct DocComments {
    count: usize,
    questions: Vec<String>,
}

impl DocComments {
    fn add(&mut self, path: &str, text: &str) {
        let mut is_inside = false;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
            if let Some(doc) = doc.filter(|_| !is_inside) {
                self.count += 1;
                if QUESTIONS.contains(&name(doc)) {
                    self.questions.push(format!("{path}:{}: {line}", number + 1));
                }
            }
            is_inside = doc.is_some();
        }
    }

    fn is_over(&self) -> bool {
        self.questions.len() * 100 >= self.count * QUESTIONS_PERCENT
    }
}

impl fmt::Display for DocComments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = 100 * self.questions.len() / self.count.max(1);
        let (questions, count) = (self.questions.len(), self.count);
        write!(f, "{share} %: {questions} of {count} doc comments begin with {}", QUESTIONS.join("/"))
    }
}

/// Returns every Rust file of the checkout.
fn rust() -> Texts {
    files("", ".rs")
}

fn measure(measured: impl Fn(&str, &str) -> Vec<Measure>, files: &Texts) -> Vec<Measure> {
    files.iter().flat_map(|(path, text)| measured(path, text)).collect()
}

fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}; {} to mend:\n{}", found.len(), found.join("\n"));
}

#[test]
fn functions_fit_on_a_screen() {
    let functions = measure(functions, &rust());
    println!("longest function: {}", largest(&functions));
    assert_none(&over(&functions, FUNCTION_LINES), "a function has at most 70 lines");
}

#[test]
fn files_are_short() {
    let files: Vec<Measure> = rust().iter().map(|(path, text)| file(path, text)).collect();
    println!("longest file: {}", largest(&files));
    assert_none(&over(&files, FILE_LINES), "a file has at most 400 lines");
}

#[test]
fn test_names_are_short() {
    let names = measure(test_names, &rust());
    println!("longest name of {} tests: {}", names.len(), largest(&names));
    assert_none(&over(&names, TEST_NAME), "a test's name has at most 60 characters");
}

#[test]
fn modules_begin_with_a_doc_line() {
    let files = rust();
    let without = files.iter().filter(|(_, text)| !has_doc_line(text));
    let found: Vec<String> = without.map(|(path, _)| format!("{path}:1")).collect();
    assert_none(&found, "a file begins with a line `//! …`");
}

#[test]
fn every_file_is_part_of_a_crate() {
    let mut all = rust();
    all.extend(files("", "Cargo.toml"));
    assert_none(&unreachable(&all), "a file is declared by a `mod` or is a target of Cargo's");
}

#[test]
fn doc_comments_say_what_an_item_is() {
    let mut comments = DocComments::default();
    for (path, text) in production().iter().chain(&files("tests/gce-simulator/src", ".rs")) {
        comments.add(path, &without_tests(text));
    }
    println!("doc comments: {comments}");
    assert!(comments.count > 1000, "{comments}");
    assert!(!comments.is_over(), "{comments}, fewer than 5 % may:\n{}", comments.questions.join("\n"));
}

#[test]
fn comments_fit_on_a_line() {
    let files = files_named("", &|name| is_rust(name) || is_script(name));
    let lines = measure(comments, &files);
    println!("longest line with a comment: {}", largest(&lines));
    assert_none(&over(&lines, COMMENT_COLUMNS), "a line with a comment has at most 140 columns");
}

#[test]
fn markdown_is_wrapped() {
    let lines = measure(markdown, &files("", ".md"));
    println!("longest line of prose in Markdown: {}", largest(&lines));
    assert_none(&over(&lines, MARKDOWN_COLUMNS), "prose in Markdown has at most 100 columns");
}

#[test]
fn a_long_function_is_found() {
    let lines = |count: usize| "    work();\n".repeat(count);
    let text = |count: usize| format!("/// }}\nfn f(\n    a: [u8; 2],\n) {{\n{}}}\n", lines(count));
    assert_eq!(over(&functions("a.rs", &text(66)), FUNCTION_LINES), Vec::<String>::new());
    assert_eq!(over(&functions("a.rs", &text(67)), FUNCTION_LINES), ["a.rs:2: fn f has 71 lines"]);
    let sizes = |text: &str| functions("a.rs", text).iter().map(|found| found.size).collect::<Vec<_>>();
    assert_eq!(sizes("trait T { fn f();\n fn g() {\n}\n}"), [2]);
    assert_eq!(sizes("fn f(g: fn(u8) -> u8) {\n'}'; \"}\";\n}\nfn g() {}"), [3, 1]);
    assert_eq!(sizes("fn f() {\n    fn g() {\n    }\n}"), [4, 2]);
}

#[test]
fn a_long_file_is_found() {
    let found = |lines: usize| over(&[file("a.rs", &"\n".repeat(lines))], FILE_LINES);
    assert_eq!((found(400).len(), found(401).len()), (0, 1));
}

#[test]
fn a_long_test_name_is_found() {
    let found = |name: &str| over(&test_names("a.rs", &format!("#[test]\nfn {name}() {{}}")), TEST_NAME);
    assert_eq!(found(&"a".repeat(60)), Vec::<String>::new());
    assert_eq!(found(&"a".repeat(61)), [format!("a.rs:2: {} has 61 characters", "a".repeat(61))]);
    let text = "#[tokio::test(start_paused = true)]\n#[ignore = \"fn\"]\nasync fn waits() {}\nfn helper() {}";
    let names = test_names("a.rs", text);
    assert_eq!(names.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), ["waits"]);
}

#[test]
fn a_module_without_a_doc_line_is_found() {
    assert!(has_doc_line("//! About it.\nuse a::b;"));
    assert!(!has_doc_line("use a::b;\n//! About it."));
    assert!(!has_doc_line("// About it.\n"));
}

#[test]
fn a_doc_comment_that_begins_with_a_question_word_is_found() {
    let comments = |text: &str| {
        let mut comments = DocComments::default();
        comments.add("a.rs", text);
        comments
    };
    let found = comments(
        "//! How it works.\n\n    /// What it is.\n    /// Who asks.\nfn f() {}\n// What\n/// Whatever.\n",
    );
    assert_eq!(found.count, 3);
    assert_eq!(found.questions, ["a.rs:1: //! How it works.", "a.rs:3: /// What it is."]);
    let is_over = |questions: usize| {
        let (bad, good) =
            ("/// Who asks.\na\n".repeat(questions), "/// A thing.\na\n".repeat(100 - questions));
        comments(&(bad + &good)).is_over()
    };
    assert!(!is_over(4) && is_over(5));
}
