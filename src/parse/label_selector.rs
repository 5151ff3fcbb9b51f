//! Label selectors, parsed as strictly as the API server validates them in its own objects. It does not in
//! others: a selector that no object of Kubernetes could have would select all or nothing.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::core::{Expression, Selector};

use super::list::MAX_ENTRIES;
use crate::k8s::names::is_dns_subdomain;

/// Parses a selector as Kubernetes' `LabelSelectorAsSelector` does.
///
/// # Errors
/// If a key, an operator or a value is not valid, or there are more than a selector can need.
pub(crate) fn parse_label_selector(selector: &LabelSelector) -> Result<Selector, String> {
    let labels = selector.match_labels.iter().flatten();
    let requirements = selector.match_expressions.as_deref().unwrap_or_default();
    let values = requirements.iter().flat_map(|requirement| requirement.values.iter().flatten());
    if labels.clone().count() + requirements.len() + values.count() > MAX_ENTRIES {
        return Err(format!("it has more than {MAX_ENTRIES} labels, expressions and values"));
    }
    let mut parsed = Selector::default();
    for (key, value) in labels {
        parse_key(key)?;
        parse_value(key, value)?;
        parsed.extend(Expression::Equal(key.clone(), value.clone()));
    }
    for requirement in requirements {
        parsed.extend(parse_requirement(requirement)?);
    }
    Ok(parsed)
}

fn parse_requirement(requirement: &LabelSelectorRequirement) -> Result<Expression, String> {
    let LabelSelectorRequirement { key, operator, values } = requirement;
    parse_key(key)?;
    let values = values.as_deref().unwrap_or_default();
    let key = key.clone();
    match (operator.as_str(), values) {
        ("In" | "NotIn", []) => Err(format!("{key}: {operator} needs values")),
        ("In", _) => Ok(Expression::In(key.clone(), parse_values(&key, values)?)),
        ("NotIn", _) => Ok(Expression::NotIn(key.clone(), parse_values(&key, values)?)),
        ("Exists", []) => Ok(Expression::Exists(key)),
        ("DoesNotExist", []) => Ok(Expression::DoesNotExist(key)),
        ("Exists" | "DoesNotExist", _) => Err(format!("{key}: {operator} takes no values")),
        _ => Err(format!(
            "{key}: {:?} is not an operator; use In, NotIn, Exists or DoesNotExist",
            start_of(operator)
        )),
    }
}

fn parse_values(key: &str, values: &[String]) -> Result<BTreeSet<String>, String> {
    values.iter().map(|value| parse_value(key, value).map(|()| value.clone())).collect()
}

/// Parses a label's key: a name of at most 63 characters, behind a DNS subdomain and a slash if it has a
/// prefix.
fn parse_key(key: &str) -> Result<(), String> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if prefix.is_none_or(is_dns_subdomain) && !name.is_empty() && is_label_text(name) {
        return Ok(());
    }
    Err(format!("{:?} is not the key of a label, such as app or app.kubernetes.io/name", start_of(key)))
}

fn parse_value(key: &str, value: &str) -> Result<(), String> {
    if is_label_text(value) {
        return Ok(());
    }
    Err(format!(
        "{key}: {:?} is not the value of a label: at most 63 letters, digits, '-', '_' and '.', that begin and \
         end with a letter or digit",
        start_of(value)
    ))
}

/// Returns true if the text is empty, or can be the name or the value of a label.
fn is_label_text(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_end = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().copied().all(is_allowed)
        && is_end(bytes.first())
        && is_end(bytes.last())
}

/// Returns the beginning of a text, for messages.
fn start_of(text: &str) -> String {
    text.chars().take(80).collect()
}
