//! Which Rust files belong to a crate: those that a target of Cargo's is, and those that a `mod` declares.

use std::collections::BTreeSet;

use crate::lexer::{mask, name, words};
use crate::source::{Texts, is_rust, texts};

/// Returns the Rust files that no crate compiles. `files` holds the manifests too: a folder with one is a
/// crate.
pub(crate) fn unreachable(files: &Texts) -> Vec<String> {
    let crates: Vec<&str> = files.keys().filter_map(|path| path.strip_suffix("Cargo.toml")).collect();
    let mut waiting: Vec<&String> = files.keys().filter(|path| is_target(&crates, path)).collect();
    let mut reached: BTreeSet<&String> = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        if reached.insert(path) {
            let declared = declared(path, &files[path], !is_target(&crates, path));
            waiting.extend(declared.iter().filter_map(|path| Some(files.get_key_value(path)?.0)));
        }
    }
    let is_left = |path: &&String| is_rust(path) && !reached.contains(path);
    files.keys().filter(is_left).map(|path| format!("{path}:1")).collect()
}

/// Returns true if Cargo finds a target in the file without being told.
fn is_target(crates: &[&str], path: &str) -> bool {
    let inside = crates.iter().filter_map(|folder| path.strip_prefix(folder));
    inside.min_by_key(|inside| inside.len()).is_some_and(|inside| {
        let parts: Vec<&str> = inside.split('/').collect();
        match parts[..] {
            ["build.rs"] | ["src", "lib.rs" | "main.rs"] | ["src", "bin", _, "main.rs"] => true,
            ["tests" | "examples" | "benches", file] | ["src", "bin", file] => is_rust(file),
            ["tests" | "examples" | "benches", _, file] => file == "main.rs",
            _ => false,
        }
    })
}

/// Returns the paths where the files of the modules can be that a file declares.
fn declared(path: &str, text: &str, is_module: bool) -> Vec<String> {
    let masked = mask(text);
    let (folder, file) = path.rsplit_once('/').map_or(("", path), |(folder, file)| (folder, file));
    let own = if is_module && file != "mod.rs" {
        format!("{}/", path.trim_end_matches(".rs"))
    } else {
        format!("{folder}/")
    };
    let mut found = Vec::new();
    for at in words(&masked, "mod") {
        let name = name(&masked[at + 3..]);
        if !masked[at + 3..].trim_start()[name.len()..].trim_start().starts_with(';') {
            continue;
        }
        let inline = enclosing(&masked, at);
        if let Some(named) = path_attribute(text, &masked, at) {
            let base = if inline.is_empty() { format!("{folder}/") } else { format!("{own}{inline}") };
            found.push(normalized(&format!("{base}{named}")));
        } else {
            found.extend([format!("{own}{inline}{name}.rs"), format!("{own}{inline}{name}/mod.rs")]);
        }
    }
    found.iter().map(|path| path.trim_start_matches('/').to_owned()).collect()
}

/// Returns the modules with a body that a position lies in, as folders.
fn enclosing(masked: &str, at: usize) -> String {
    let mut open: Vec<&str> = Vec::new();
    let mut start = 0;
    for (position, character) in masked[..at].char_indices() {
        match character {
            '{' => {
                let head = masked[start..position].trim_end();
                let module = words(head, "mod").last().map(|at| head[at + 3..].trim());
                open.push(module.filter(|module| name(module) == *module).unwrap_or_default());
                start = position + 1;
            }
            '}' => {
                open.pop();
                start = position + 1;
            }
            ';' => start = position + 1,
            _ => {}
        }
    }
    open.iter().filter(|module| !module.is_empty()).flat_map(|module| [*module, "/"]).collect()
}

/// Returns the path that an attribute before a `mod` names.
fn path_attribute<'a>(text: &'a str, masked: &str, at: usize) -> Option<&'a str> {
    let start = masked[..at].rfind([';', '}', '{']).map_or(0, |start| start + 1);
    let attributes = &text[start..at];
    let (_, rest) = attributes.split_once("#[path")?;
    rest.split('"').nth(1)
}

/// Returns a path without the `..` in it.
fn normalized(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

fn found(files: &[(&str, &str)]) -> Vec<String> {
    let manifests = [("Cargo.toml", ""), ("member/Cargo.toml", "")];
    unreachable(&texts(&[&manifests[..], files].concat()))
}

#[test]
fn a_file_that_no_module_declares_is_found() {
    let lib = ("src/lib.rs", "mod a;\n// mod b;\nmod c { }\n");
    assert_eq!(found(&[lib, ("src/a.rs", ""), ("src/b.rs", "")]), ["src/b.rs:1"]);
    assert_eq!(found(&[lib, ("src/a/b.rs", "")]), ["src/a/b.rs:1"]);
    assert_eq!(found(&[("tests/a/b.rs", ""), ("tests/a/main.rs", "mod c;")]), ["tests/a/b.rs:1"]);
    assert_eq!(found(&[("member/tests/a/b.rs", ""), ("member/src/c.rs", "")]).len(), 2);
    // What an unreachable file declares is not compiled either.
    assert_eq!(found(&[("src/a.rs", "mod b;"), ("src/a/b.rs", "")]).len(), 2);
}

#[test]
fn declared_files_and_targets_are_reached() {
    for files in [
        vec![("src/main.rs", "pub(crate) mod a;"), ("src/a.rs", "mod b;"), ("src/a/b.rs", "")],
        vec![("tests/a.rs", "mod b;"), ("tests/b/mod.rs", "mod c;"), ("tests/b/c.rs", "")],
        vec![("tests/a.rs", "#[path = \"d/c.rs\"]\nmod b;"), ("tests/d/c.rs", "")],
        vec![("member/tests/a.rs", "#[path = \"../b.rs\"]\nmod b;"), ("member/b.rs", "")],
        vec![("src/lib.rs", "mod a { pub mod b; }"), ("src/a/b.rs", "")],
        vec![("member/src/lib.rs", "#[cfg(test)]\nmod tests;"), ("member/src/tests.rs", "")],
        vec![("build.rs", ""), ("src/bin/a.rs", ""), ("examples/a.rs", ""), ("tests/a/main.rs", "")],
    ] {
        assert_eq!(found(&files), Vec::<String>::new());
    }
}
