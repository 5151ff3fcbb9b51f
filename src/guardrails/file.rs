//! The file that holds the guardrails: read strictly, and again when it changes.

use std::collections::BTreeMap;
use std::path::Path;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::core::Selector;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use super::{Guardrails, Namespaces, Ports, Who};
use crate::parse::source_ranges::source_range;

/// Why guardrails cannot be read. The controller does not start without those it is told to keep.
#[derive(Debug, Error)]
pub enum GuardrailsError {
    /// The file cannot be read.
    #[error("cannot read the guardrails in {path}: {source}")]
    Io {
        /// Which
        path: String,
        /// Why
        source: std::io::Error,
    },
    /// The file does not say what a guardrail can.
    #[error("{path} does not hold guardrails: {message}")]
    Content {
        /// Which file
        path: String,
        /// Where and why
        message: String,
    },
}

/// What the file says. Unknown keys are errors: a misspelt guardrail would guard nothing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(default)]
    denied_ports: Vec<Ports>,
    #[serde(default)]
    allowed_ports: Vec<Ports>,
    allowed_source_ranges: Option<Vec<Range>>,
    #[serde(default)]
    widest_source_ranges: Widest,
    most_rules: Option<usize>,
    allowed_hostnames: Option<Vec<Domain>>,
    namespaces: Option<Vec<Entry>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Widest {
    ipv4: Option<Length<32>>,
    ipv6: Option<Length<128>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    names: Option<Vec<String>>,
    selector: Option<StrictSelector>,
    ports: Option<Vec<Ports>>,
}

/// As Kubernetes' own, whose types would ignore unknown keys.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StrictSelector {
    match_labels: Option<BTreeMap<String, String>>,
    match_expressions: Option<Vec<Requirement>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    key: String,
    operator: String,
    values: Option<Vec<String>>,
}

/// A source range, written as intents have to write it.
struct Range(IpNet);

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        source_range(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// The length of a prefix, up to `MOST`.
struct Length<const MOST: u8>(u8);

impl<'de, const MOST: u8> Deserialize<'de> for Length<MOST> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let length = u8::deserialize(source)?;
        if length > MOST {
            return Err(serde::de::Error::custom(format!("a prefix has at most {MOST} bits, not {length}")));
        }
        Ok(Self(length))
    }
}

/// A domain such as `games.example.com`.
struct Domain(String);

impl<'de> Deserialize<'de> for Domain {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        crate::parse::hostname::hostname(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Reads guardrails.
///
/// # Errors
/// If the file cannot be read or understood; the text has the line.
pub fn read(path: &Path) -> Result<Guardrails, GuardrailsError> {
    let shown = || path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|source| GuardrailsError::Io { path: shown(), source })?;
    parse(&text).map_err(|message| GuardrailsError::Content { path: shown(), message })
}

/// Reads guardrails from YAML.
pub(super) fn parse(text: &str) -> Result<Guardrails, String> {
    // An empty file, or one of comments, sets nothing.
    let file: Option<File> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let Some(file) = file else { return Ok(Guardrails::default()) };
    let namespaces = file.namespaces.map(|entries| entries.into_iter().map(namespaces).collect());
    let ranges = |ranges: Vec<Range>| ranges.into_iter().map(|Range(range)| range).collect();
    Ok(Guardrails {
        denied_ports: file.denied_ports,
        allowed_ports: file.allowed_ports,
        allowed_source_ranges: file.allowed_source_ranges.map(ranges),
        widest_ipv4: file.widest_source_ranges.ipv4.map_or(0, |length| length.0),
        widest_ipv6: file.widest_source_ranges.ipv6.map_or(0, |length| length.0),
        most_rules: file.most_rules,
        allowed_hostnames: file
            .allowed_hostnames
            .map(|domains| domains.into_iter().map(|domain| domain.0).collect()),
        namespaces: namespaces.transpose()?,
    })
}

fn namespaces(entry: Entry) -> Result<Namespaces, String> {
    let who = match (entry.names, entry.selector) {
        (Some(names), None) => Who::Names(names.into_iter().collect()),
        (None, Some(StrictSelector { match_labels, match_expressions })) => {
            let requirement =
                |Requirement { key, operator, values }| LabelSelectorRequirement { key, operator, values };
            let match_expressions = match_expressions.map(|all| all.into_iter().map(requirement).collect());
            let selector = Selector::try_from(LabelSelector { match_labels, match_expressions })
                .map_err(|error| format!("namespaces: the selector cannot be read: {error}"))?;
            Who::Labelled(selector)
        }
        _ => return Err("namespaces: each entry has either names or a selector".to_owned()),
    };
    Ok(Namespaces { who, ports: entry.ports })
}
