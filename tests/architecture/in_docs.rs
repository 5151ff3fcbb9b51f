//! The words of the docs that the code must have: where they stand, and which the code lacks.

use std::collections::{BTreeMap, BTreeSet};

use crate::commands::{Command, commands};
use crate::in_code::DOMAIN;
use crate::source::Texts;

/// The prefix of every metric.
pub(crate) const METRIC: &str = "hostport_firewall_";

/// Flags that the docs name outside of a command, and the tool that each belongs to.
pub(crate) const FLAGS_OF_OTHERS: [(&str, &str); 14] = [
    ("cloud-controller-manager", "--controllers"),
    ("external-dns", "--interval"),
    ("external-dns", "--policy"),
    ("external-dns", "--source"),
    ("gcloud", "--condition"),
    ("gcloud", "--jwk-json-path"),
    ("gcloud", "--workload-metadata"),
    ("gcloud", "--workload-pool"),
    ("k3s", "--disable"),
    ("k3s", "--disable-cloud-controller"),
    ("k3s", "--kubelet-arg"),
    ("k3s", "--node-external-ip"),
    ("k3s", "--servicelb-namespace"),
    ("voyager", "--cloud-provider"),
];

/// A word in a document, and the line that has it.
pub(crate) type Mention = (String, String);

/// Returns where each document has `start`, with the characters of a name behind it.
pub(crate) fn mentions(docs: &Texts, start: &str, is_part: fn(char) -> bool) -> Vec<Mention> {
    let mut found = Vec::new();
    for (path, text) in docs {
        for (number, line) in text.lines().enumerate() {
            for (at, _) in line.match_indices(start) {
                let rest = &line[at + start.len()..];
                let end = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
                found.push((rest[..end].to_owned(), format!("{path}:{}", number + 1)));
            }
        }
    }
    found
}

/// Returns the code spans of a line.
pub(crate) fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Returns what the first column of each table lists whose heading there is `reason`.
pub(crate) fn tables_of_reasons(docs: &Texts) -> Vec<Mention> {
    let mut found = Vec::new();
    for (path, text) in docs {
        let mut is_inside = false;
        for (number, line) in text.lines().enumerate() {
            let first = line.strip_prefix('|').and_then(|cells| cells.split('|').next());
            is_inside = first.is_some_and(|cell| is_inside || cell.trim() == "reason");
            let reasons = spans(first.filter(|_| is_inside).unwrap_or_default());
            found.extend(reasons.map(|reason| (reason.to_owned(), format!("{path}:{}", number + 1))));
        }
    }
    found
}

/// Returns the flags in the docs that nothing has: of our own commands, and of no named command.
pub(crate) fn unknown_flags(docs: &Texts, flags: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let others = FLAGS_OF_OTHERS.map(|(_, flag)| flag.to_owned());
    let all: BTreeSet<String> = flags.values().flatten().cloned().chain(others).collect();
    // None for another tool's command, which may have any flag.
    let known = |command: &Command| match command.tool.as_str() {
        "" => Some(&all),
        "hostport-firewall" => Some(flags.get(&command.subcommand).unwrap_or(&all)),
        tool => flags.get(tool),
    };
    let mut found = Vec::new();
    for (path, text) in docs {
        for command in commands(text) {
            let Some(known) = known(&command) else { continue };
            let unknown = command.flags.iter().filter(|flag| !known.contains(*flag));
            found.extend(unknown.map(|flag| format!("{path}:{}: there is no flag {flag}", command.line)));
        }
    }
    found
}

/// Returns the metrics in the docs, without their common prefix, and without what Prometheus appends to a
/// counter's name.
pub(crate) fn metric_mentions(docs: &Texts) -> Vec<Mention> {
    let named = mentions(docs, METRIC, |character| character.is_ascii_lowercase() || character == '_');
    named.into_iter().map(|(name, place)| (name.trim_end_matches("_total").to_owned(), place)).collect()
}

/// Returns the words behind our domain in the docs.
pub(crate) fn domain_mentions(docs: &Texts) -> Vec<Mention> {
    let mut found = mentions(docs, DOMAIN, |character| character.is_ascii_alphanumeric() || character == '-');
    found.retain(|(word, _)| !word.is_empty());
    found
}

/// Returns the conditions in the docs that nothing has.
pub(crate) fn unknown_conditions(docs: &Texts, types: &BTreeSet<String>) -> Vec<String> {
    let of_kubernetes = ["Available", "Ready"].map(str::to_owned);
    let known: BTreeSet<String> = types.iter().cloned().chain(of_kubernetes).collect();
    let is_part = |character: char| character.is_ascii_alphanumeric() || "-./".contains(character);
    let mut named = mentions(docs, "condition=", is_part);
    named.extend(mentions(docs, "condition `", is_part));
    named.retain(|(word, _)| word.starts_with(|first: char| first.is_ascii_uppercase()) && word != "None");
    unknown("condition", &known, &named)
}

/// Returns what the docs have and the code lacks.
pub(crate) fn unknown(kind: &str, code: &BTreeSet<String>, docs: &[Mention]) -> Vec<String> {
    let unknown = docs.iter().filter(|(word, _)| !code.contains(word));
    unknown.map(|(word, place)| format!("{place}: the code has no {kind} {word}")).collect()
}

/// Returns what the code has and the docs lack, and what the docs have and the code lacks.
pub(crate) fn differences(kind: &str, code: &BTreeSet<String>, docs: &[Mention]) -> Vec<String> {
    let documented: BTreeSet<&String> = docs.iter().map(|(word, _)| word).collect();
    let lacking = code.iter().filter(|word| !documented.contains(word));
    let lacking = lacking.map(|word| format!("the docs lack the {kind} {word}"));
    lacking.chain(unknown(kind, code, docs)).collect()
}
