//! Imports run one way: down the folders in the order of ARCHITECTURE.md's headings, and never in a circle.

use std::collections::{BTreeMap, BTreeSet};

use crate::lexer::mask;
use crate::source::{imports, module, production, reexports, root, texts, untested, used_paths};

/// Names that pure code must not use: whoever names these waits, reads a clock or does I/O.
const IMPURE: [&str; 19] = [
    "tokio",
    "kube::Client",
    "kube::Api",
    "kube::api::Api",
    "kube::client",
    "kube::runtime",
    "Instant",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "std::fs",
    "std::env",
    "std::io",
    "std::process",
    "std::thread",
    "std::net::Tcp",
    "std::net::Udp",
    "reqwest",
    "hyper",
];

/// Folders and files that only compute.
const PURE: [&str; 18] = [
    "src/controller/candidate",
    "src/parse",
    "src/guardrails",
    "src/intents",
    "src/desired",
    "src/publish/addresses",
    "src/publish/dns_records",
    "src/publish/served_machines",
    "src/publish/outcomes",
    "src/publish/problem_counts",
    "src/publish/published_state",
    "src/publish/readiness",
    "src/publish/status",
    "src/publish/transitions",
    "providers/aws/src/compile",
    "providers/aws/src/planning",
    "providers/gce/src/compile",
    "providers/gce/src/planning",
];

/// Names that `providers/core` must not use: runtimes, Kubernetes clients and SDKs.
const SHELL: [&str; 8] =
    ["tokio", "kube::", "k8s_openapi", "aws_", "google_cloud", "reqwest", "hyper", "Instant::now"];

/// Returns the folders in the order of the headings of ARCHITECTURE.md, the uppermost first.
fn folders(architecture: &str) -> Vec<String> {
    let headings = architecture.lines().filter_map(|line| line.strip_prefix("### `"));
    headings.filter_map(|heading| Some(heading.split_once('`')?.0.to_owned())).collect()
}

/// Returns the position of the folder that a file belongs to.
fn floor(folders: &[String], path: &str) -> Option<usize> {
    let is_in = |folder: &String| {
        path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
    };
    folders.iter().position(is_in)
}

/// Returns the file that a path of segments leads to: the nearest to its end, or the one that it takes the
/// name from.
fn file_of(crate_root: &str, segments: &[String], files: &BTreeMap<String, String>) -> Option<String> {
    let path = |length: usize| match length {
        0 => format!("{crate_root}lib.rs"),
        _ => format!("{crate_root}{}.rs", segments[..length].join("/")),
    };
    let length = (0..=segments.len()).rev().find(|length| files.contains_key(&path(*length)))?;
    let path = path(length);
    let taken = segments.get(length).and_then(|name| reexports(&path, &files[&path]).remove(name));
    match taken {
        Some(taken) if taken != segments => file_of(crate_root, &taken, files),
        _ => Some(path),
    }
}

/// Returns which files each file imports.
fn graph(files: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeSet<String>> {
    let mut graph: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in files {
        let (crate_root, _) = path.split_once("src/").expect("every file lies in a src folder");
        let crate_root = format!("{crate_root}src/");
        let named =
            imports(path, text).into_iter().filter_map(|segments| file_of(&crate_root, &segments, files));
        graph.insert(path, named.filter(|named| named != path).collect());
    }
    graph
}

/// Returns every import that goes up, and every file that belongs to no folder.
fn upward(architecture: &str, files: &BTreeMap<String, String>) -> Vec<String> {
    let folders = folders(architecture);
    let mut found = Vec::new();
    for (path, imported) in graph(files) {
        if ["lib.rs", "main.rs"].iter().any(|name| path.ends_with(&format!("src/{name}"))) {
            continue;
        }
        let Some(own) = floor(&folders, path) else {
            found.push(format!("{path} belongs to no folder that ARCHITECTURE.md has a heading for"));
            continue;
        };
        let above = imported.iter().filter(|other| floor(&folders, other).is_some_and(|floor| floor < own));
        found.extend(above.map(|other| format!("{path} imports {other}, which is above it")));
    }
    found
}

/// Returns the files that import each other in circles.
fn circle(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut left = graph(files);
    loop {
        let before = left.len();
        let importing: BTreeSet<String> = left.keys().map(|path| (*path).to_owned()).collect();
        let imported: BTreeSet<String> = left.values().flatten().cloned().collect();
        // A file of a circle both imports one that is left and is imported by one.
        left.retain(|path, imports| imported.contains(*path) && !imports.is_disjoint(&importing));
        if left.len() == before {
            return left.keys().map(|path| (*path).to_owned()).collect();
        }
    }
}

/// Returns where the files of a folder name something that they must not.
fn named(files: &BTreeMap<String, String>, folder: &str, forbidden: &[&str]) -> Vec<String> {
    let inside = files.iter().filter(|(path, _)| floor(&[folder.to_owned()], path).is_some());
    let mut found = Vec::new();
    for (path, text) in inside {
        let code = mask(text) + &used_paths(text).join("\n");
        let names = forbidden.iter().filter(|name| code.contains(*name));
        found.extend(names.map(|name| format!("{path} names {name}")));
    }
    found
}

fn architecture() -> String {
    std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("it can be read")
}

#[test]
fn imports_go_down_the_folders() {
    let found = upward(&architecture(), &production());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn imports_form_no_circle() {
    let found = circle(&production());
    assert!(found.is_empty(), "these files import each other in a circle:\n{}", found.join("\n"));
}

#[test]
fn pure_folders_do_no_input_or_output() {
    let files = production();
    let found: Vec<String> = PURE.iter().flat_map(|folder| named(&files, folder, &IMPURE)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn providers_core_names_no_runtime_client_or_sdk() {
    let mut found = named(&production(), "providers/core/src", &SHELL);
    let manifest = std::fs::read_to_string(root().join("providers/core/Cargo.toml")).expect("it can be read");
    let (_, dependencies) = manifest.split_once("[dependencies]").expect("it has dependencies");
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();
    for shell in ["tokio", "kube", "k8s-openapi", "aws-", "google-cloud", "reqwest", "hyper"] {
        let named = dependencies.lines().any(|line| line.starts_with(shell));
        found.extend(named.then(|| format!("providers/core depends on {shell}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_folder_of_the_code_has_a_heading() {
    let folders = folders(&architecture());
    assert!(folders.len() > 10, "{folders:?}");
    for folder in &folders {
        assert!(root().join(folder).exists() || root().join(format!("{folder}.rs")).exists(), "no {folder}");
    }
}

const TWO_FLOORS: &str = "### `src/upper`: above\n### `src/lower`: below\n";

#[test]
fn an_upward_import_is_found() {
    let down = ("src/upper/a.rs", "use crate::lower::b::B;\n");
    for (import, found) in [
        ("use crate::upper::a::A;", 1),
        ("use super::super::upper::a;", 1),
        ("use crate::{upper::{a::A}, lower};", 1),
        ("fn f() { crate::upper::a::f() }", 1),
        ("// crate::upper::a", 0),
        ("\n#[cfg(test)]\nmod tests { use crate::upper::a::A; }", 0),
        ("use super::c::C;", 0),
    ] {
        let files = untested(texts(&[down, ("src/lower/b.rs", import), ("src/lower/c.rs", "")]));
        assert_eq!(upward(TWO_FLOORS, &files).len(), found, "{import}");
    }
    assert_eq!(upward(TWO_FLOORS, &untested(texts(&[("src/attic/a.rs", "")]))).len(), 1);
}

#[test]
fn a_circle_of_imports_is_found() {
    let a = ("src/lower/a.rs", "use super::b::B;");
    let root = ("src/lower.rs", "mod a;\npub use a::A;\n");
    let table = [
        ("use super::c::C;", 0),
        ("use crate::lower::A;", 2),
        ("use super::a::A;", 2),
        ("use crate::lower::{c, a::A};", 2),
    ];
    for (import, found) in table {
        let files = untested(texts(&[root, a, ("src/lower/b.rs", import), ("src/lower/c.rs", "")]));
        assert_eq!(circle(&files).len(), found, "{import}");
    }
}

#[test]
fn a_clock_in_a_pure_folder_is_found() {
    let found = |text: &str| named(&untested(texts(&[("src/lower/a.rs", text)])), "src/lower", &IMPURE).len();
    assert_eq!(found("use tokio::time::Instant;"), 2);
    for text in ["use kube::{Api, Resource};", "use std::{fmt, fs};", "use kube::api::{Api, ObjectMeta};"] {
        assert_eq!(found(text), 1, "{text}");
    }
    assert_eq!(found("use kube::api::ObjectMeta;\nuse std::time::Duration;"), 0);
    assert_eq!(found("/// Takes no Instant.\nfn f() { \"tokio\"; }\n#[cfg(test)]\nuse tokio::test;"), 0);
    assert_eq!(module("src/lower/a.rs"), ["lower", "a"]);
}
