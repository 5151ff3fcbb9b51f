//! The words of the code that users meet: reasons, flags, metrics, annotations and conditions.

use std::collections::{BTreeMap, BTreeSet};

use clap::CommandFactory;
use hostport_firewall::cli::Cli;

use crate::lexer::{literals, mask, name};
use crate::source::{Texts, set, texts};

/// The group of the API, and the domain of every annotation, condition and tag.
pub(crate) const DOMAIN: &str = "hostport-firewall.dev/";

/// Words that look like a reason and are none: kinds and values of Kubernetes, and what macros are told.
const NOT_REASONS: [&str; 21] = [
    "CronJob",
    "DNSEndpoint",
    "DaemonSet",
    "DoesNotExist",
    "EndpointSlice",
    "ExternalIP",
    "HostPort",
    "HostPortExposure",
    "HostPortExposureStatus",
    "IPv4",
    "IPv6",
    "InternalIP",
    "LoadBalancer",
    "NodePort",
    "NotIn",
    "PartialEq",
    "PreferDualStack",
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
    "StaticPod",
];

/// Returns true for one word in `CamelCase`, as reasons are written.
pub(crate) fn is_camel_case(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_uppercase())
        && word.chars().all(|character| character.is_ascii_alphanumeric())
        && word.contains(|character: char| character.is_ascii_lowercase())
}

/// Returns the reasons that the code has: the constants of each `reasons.rs`, and those of the clouds'
/// errors.
pub(crate) fn reasons(code: &Texts) -> BTreeSet<String> {
    let kept = |path: &str| path.ends_with("/reasons.rs") || path == "providers/core/src/provider.rs";
    let texts = code.iter().filter(|(path, _)| kept(path)).map(|(_, text)| text.as_str());
    texts.flat_map(literals).filter(|word| is_camel_case(word)).map(str::to_owned).collect()
}

/// Returns where the code writes a reason, or what looks like one, instead of naming its constant.
pub(crate) fn literal_reasons(code: &Texts) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in code.iter().filter(|(path, _)| gives_reasons(path)) {
        for (number, line) in text.lines().enumerate() {
            let words = literals(line).into_iter().filter(|word| {
                let is_compound = word.chars().filter(char::is_ascii_uppercase).count() > 1;
                is_camel_case(word) && is_compound && !NOT_REASONS.contains(word)
            });
            found.extend(
                words.map(|word| format!("{path}:{}: {word} is no constant of a reasons.rs", number + 1)),
            );
        }
    }
    found
}

/// Returns true if the file's literals in `CamelCase` can be reasons: those of the wire are the cloud's own
/// words.
pub(crate) fn gives_reasons(path: &str) -> bool {
    let is_planning = ["compile", "planning"].iter().any(|name| path.contains(&format!("/src/{name}")));
    !path.ends_with("/reasons.rs") && (path.starts_with("src/") || is_planning)
}

/// Returns the reasons of Events: the names of variants that are their own text.
pub(crate) fn event_reasons(code: &Texts) -> BTreeSet<String> {
    let files = ["src/k8s/problem.rs", "src/publish/events.rs", "src/publish/transitions.rs"];
    let texts = files.iter().filter_map(|path| code.get(*path));
    let lines = texts.flat_map(|text| text.lines());
    let variants = lines.filter_map(|line| line.trim().strip_prefix("Self::"));
    let texts = variants.filter_map(|variant| variant.split_once(" => \""));
    let same = texts.filter(|(variant, text)| text.split('"').next() == Some(*variant));
    same.map(|(variant, _)| variant.to_owned()).collect()
}

/// Returns the metrics that the code registers, without their common prefix.
pub(crate) fn metrics(text: &str) -> BTreeSet<String> {
    let masked = mask(text);
    let registered = masked.match_indices(".register").filter_map(|(at, _)| {
        let behind = at + masked[at..].find('(')? + 1;
        literals(text[behind..].trim_start().starts_with('"').then(|| &text[behind..])?).first().copied()
    });
    registered.map(str::to_owned).collect()
}

/// Returns the words behind our domain in the code's literals: annotations, the readiness gate, tags.
pub(crate) fn domain_words(code: &Texts) -> BTreeSet<String> {
    let literals = code.values().flat_map(|text| literals(text));
    let words = literals.filter_map(|literal| literal.strip_prefix(DOMAIN)).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// Returns the types of the conditions that the columns of `kubectl get` show.
pub(crate) fn conditions(text: &str) -> BTreeSet<String> {
    let types = text.match_indices("conditions[?(@.type==");
    types
        .map(|(at, found)| name(text[at + found.len()..].trim_start_matches(['\\', '"'])).to_owned())
        .collect()
}

/// Returns the flags of the command line, by subcommand.
pub(crate) fn flags() -> BTreeMap<String, BTreeSet<String>> {
    let cli = Cli::command();
    let of = |command: &clap::Command| {
        let names = command.get_arguments().filter_map(|argument| argument.get_long());
        let names = names.filter(|name| !["help", "version"].contains(name));
        names.map(|name| format!("--{name}")).collect()
    };
    cli.get_subcommands().map(|command| (command.get_name().to_owned(), of(command))).collect()
}

#[test]
fn a_reason_that_is_no_constant_is_found() {
    let line = "rejected(pod, \"NoPods\", \"it is\"); kind(\"NodePort\"); phase(\"Failed\");\n";
    for (path, count) in [
        ("src/a/b.rs", 1),
        ("src/a/reasons.rs", 0),
        ("providers/aws/src/compile/a.rs", 1),
        ("providers/aws/src/wire/error.rs", 0),
    ] {
        assert_eq!(literal_reasons(&texts(&[(path, line)])).len(), count, "{path}");
    }
}

#[test]
fn reasons_of_events_are_the_variants_that_are_their_own_text() {
    let text = "Self::Opened => \"Opened\",\n    Self::Failed => \"Failed\",\nSelf::Other => \"other\",\n";
    assert_eq!(event_reasons(&texts(&[("src/k8s/problem.rs", text)])), set(&["Failed", "Opened"]));
}
