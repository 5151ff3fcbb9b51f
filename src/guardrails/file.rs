//! The guardrails file: YAML, parsed strictly.

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde::{Deserialize, Deserializer};

use super::ports::Ports;
use super::{Guardrails, NamespaceMatcher, NamespaceRule};
use crate::parse::hostname::parse_hostname;
use crate::parse::label_selector::parse_label_selector;
use crate::parse::source_ranges::parse_cidr;

/// The file. Unknown keys are errors: a misspelt guardrail would limit nothing.
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

/// A label selector as Kubernetes has it. Its own types would ignore unknown keys.
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

/// A source range in the notation of intents.
struct Range(IpNet);

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        parse_cidr(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// The length of a prefix, up to `MAX` bits.
struct Length<const MAX: u8>(u8);

impl<'de, const MAX: u8> Deserialize<'de> for Length<MAX> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let length = u8::deserialize(source)?;
        if length > MAX {
            return Err(serde::de::Error::custom(format!("a prefix has at most {MAX} bits, not {length}")));
        }
        Ok(Self(length))
    }
}

/// A domain such as `games.example.com`.
struct Domain(String);

impl<'de> Deserialize<'de> for Domain {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        parse_hostname(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Parses guardrails from YAML.
///
/// # Errors
/// If a key or a value is not understood; the text has the line.
pub fn parse(text: &str) -> Result<Guardrails, String> {
    // An empty file, or one of comments, sets nothing.
    let file: Option<File> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let Some(file) = file else { return Ok(Guardrails::default()) };
    let namespaces = file.namespaces.map(|entries| entries.into_iter().map(to_namespace_rule).collect());
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

fn to_namespace_rule(entry: Entry) -> Result<NamespaceRule, String> {
    let matcher = match (entry.names, entry.selector) {
        (Some(names), None) => NamespaceMatcher::Names(names.into_iter().collect()),
        (None, Some(StrictSelector { match_labels, match_expressions })) => {
            let requirement =
                |Requirement { key, operator, values }| LabelSelectorRequirement { key, operator, values };
            let match_expressions = match_expressions.map(|all| all.into_iter().map(requirement).collect());
            let selector = parse_label_selector(&LabelSelector { match_labels, match_expressions })
                .map_err(|error| format!("namespaces: the selector cannot be read: {error}"))?;
            NamespaceMatcher::Labels(selector)
        }
        _ => return Err("namespaces: each entry has either names or a selector".to_owned()),
    };
    Ok(NamespaceRule { matcher, ports: entry.ports })
}
