//! The project's own Rust files, as text: what is production code in them, and what they import.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::lexer::mask;

/// Texts of files, by path from the checkout.
pub(crate) type Texts = BTreeMap<String, String>;

/// The checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns true if a path leads to Rust.
pub(crate) fn is_rust(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, ending)| ending == "rs")
}

/// Returns every file below `folder` whose name ends with `ending`, by path from the checkout; build output
/// is left out.
pub(crate) fn files(folder: &str, ending: &str) -> Texts {
    files_named(folder, &|name| name.ends_with(ending))
}

/// Returns every file below `folder` whose name is one of those, by path from the checkout; build output is
/// left out.
pub(crate) fn files_named(folder: &str, is_named: &dyn Fn(&str) -> bool) -> Texts {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path: PathBuf = entry.expect("an entry of the folder").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !is_output(&path, &name) {
                    folders.push(path);
                }
            } else if is_named(&name) {
                let text = std::fs::read_to_string(&path)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let inside = path.strip_prefix(root()).expect("it is in the checkout");
                found.insert(inside.to_string_lossy().into_owned(), text);
            }
        }
    }
    found
}

/// Returns true if a folder holds what is no source: what Cargo has built, what has been installed, or a
/// tool's own files.
fn is_output(path: &Path, name: &str) -> bool {
    let is_hidden = name.starts_with('.') && ![".github", ".ci"].contains(&name);
    is_hidden || ["node_modules", "vendor"].contains(&name) || path.join("CACHEDIR.TAG").exists()
}

/// Returns texts by path, as the tests of the checks write them.
pub(crate) fn texts(texts: &[(&str, &str)]) -> Texts {
    texts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

/// Returns words as a set.
pub(crate) fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Returns the Rust files of the program and the providers, without their tests.
pub(crate) fn production() -> Texts {
    let mut all = BTreeMap::new();
    for folder in
        ["src", "providers/core/src", "providers/aws/src", "providers/gce/src", "providers/pacing/src"]
    {
        all.extend(files(folder, ".rs"));
    }
    all.retain(|path, _| !path.ends_with("/tests.rs") && !path.contains("/tests/"));
    untested(all)
}

/// Returns the texts without what only their tests have.
pub(crate) fn untested(texts: Texts) -> Texts {
    texts.into_iter().map(|(path, text)| (path, without_tests(&text))).collect()
}

/// Returns the text without the items that only tests have: each that `#[cfg(test)]` stands before, wherever
/// it is. Newlines stay, so that numbers of lines do.
pub(crate) fn without_tests(text: &str) -> String {
    let masked = mask(text);
    let mut kept = text.as_bytes().to_vec();
    for (start, _) in masked.match_indices("#[cfg(test)]") {
        let end = start + item_length(&masked[start..]);
        kept[start..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    }
    String::from_utf8(kept).expect("only whole items are replaced")
}

/// Returns the length of the item at the beginning of a masked text: up to its `;`, or to the end of its
/// braces.
fn item_length(masked: &str) -> usize {
    let mut depth = 0;
    for (position, character) in masked.char_indices() {
        match character {
            ';' if depth == 0 => return position + 1,
            '{' => depth += 1,
            '}' if depth == 1 => return position + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    masked.len()
}

/// Returns every path that the code names from its crate's root, or from its own module, as segments.
pub(crate) fn imports(path: &str, text: &str) -> Vec<Vec<String>> {
    let code = mask(text);
    let mut found = Vec::new();
    for (position, _) in code.match_indices("crate::") {
        found.extend(tree(&code[position + "crate::".len()..], &[]));
    }
    for (position, _) in code.match_indices("super::") {
        let is_first = !code[..position].ends_with("super::") && !code[..position].ends_with(['(', '_']);
        if is_first {
            let mut module = module(path);
            let mut rest = &code[position..];
            while let Some(above) = rest.strip_prefix("super::") {
                module.pop();
                rest = above;
            }
            found.extend(tree(rest, &module));
        }
    }
    let declared = |name: &str| code.contains(&format!("mod {name};"));
    let uses = code.lines().filter_map(|line| line.strip_prefix("use "));
    for child in uses.filter(|used| used.split("::").next().is_some_and(declared)) {
        found.extend(tree(child, &module(path)));
    }
    found
}

/// Returns what a file offers under its own name and takes from another: the name, and where it is, as
/// segments.
pub(crate) fn reexports(path: &str, text: &str) -> BTreeMap<String, Vec<String>> {
    let code = mask(text);
    let mut found = BTreeMap::new();
    for start in ["pub use ", "pub(crate) use ", "pub(super) use "] {
        for (position, _) in code.match_indices(start) {
            let paths = tree(&code[position + start.len()..], &module(path));
            found.extend(paths.into_iter().filter_map(|path| Some((path.last()?.clone(), path))));
        }
    }
    found
}

/// The module that a file is, as segments from its crate's root.
pub(crate) fn module(path: &str) -> Vec<String> {
    let inside = path.split_once("src/").map_or(path, |(_, inside)| inside);
    let inside = inside.trim_end_matches(".rs");
    if ["lib", "main"].contains(&inside) { vec![] } else { inside.split('/').map(str::to_owned).collect() }
}

/// The paths of a use tree such as `a::{b, c::d}`, each behind `before`.
fn tree(text: &str, before: &[String]) -> Vec<Vec<String>> {
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    let end = text.find(|character| !is_name(character)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let mut path = before.to_vec();
    if !name.is_empty() && name != "self" {
        path.push(name.to_owned());
    }
    let Some(rest) = rest.strip_prefix("::") else {
        return if name.is_empty() && rest.starts_with('{') { branches(rest, &path) } else { vec![path] };
    };
    if rest.starts_with('{') { branches(rest, &path) } else { tree(rest, &path) }
}

/// The paths of what stands between the braces with which `text` begins.
fn branches(text: &str, before: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (position, character) in text.char_indices() {
        match character {
            '{' => {
                depth += 1;
                if depth == 1 {
                    start = position + 1;
                }
            }
            ',' | '}' if depth == 1 => {
                let branch = text[start..position].trim();
                if !branch.is_empty() {
                    found.extend(tree(branch, before));
                }
                start = position + 1;
                if character == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

/// Returns every path of other crates that the code's `use` lines name, written out.
pub(crate) fn used_paths(text: &str) -> Vec<String> {
    let code = mask(text);
    let uses = code.match_indices("use ").filter(|(at, _)| code[..*at].ends_with(['\n', ' ']) || *at == 0);
    uses.flat_map(|(at, _)| tree(&code[at + "use ".len()..], &[])).map(|path| path.join("::")).collect()
}

#[test]
fn items_of_tests_are_left_out_wherever_they_are() {
    let text = "mod a;\n#[cfg(test)]\nmod builders;\nfn f() { \"}\" }\n#[cfg(test)]\nmod tests { fn g() { 1; } }\nfn h() {}\n";
    let kept = without_tests(text);
    for (word, stays) in
        [("mod a;", true), ("builders", false), ("fn f", true), ("fn g", false), ("fn h", true)]
    {
        assert_eq!(kept.contains(word), stays, "{word}: {kept}");
    }
    assert_eq!(kept.lines().count(), text.lines().count());
}

#[test]
fn used_paths_are_written_out() {
    assert_eq!(
        used_paths("use std::{fs, env::var};\nuse kube::Api;\n"),
        ["std::fs", "std::env::var", "kube::Api"]
    );
}
