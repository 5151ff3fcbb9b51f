//! Firewall rules: validation, and the defaults that the service fills in.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use regex::Regex;
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::settings::Settings;

/// Fields that only the service writes; their values in a request are ignored
const OUTPUT_ONLY: [&str; 4] = ["creationTimestamp", "id", "kind", "selfLink"];

/// The lists of a rule
const LISTS: [&str; 8] = [
    "allowed",
    "denied",
    "destinationRanges",
    "sourceRanges",
    "sourceServiceAccounts",
    "sourceTags",
    "targetServiceAccounts",
    "targetTags",
];

/// Protocols that have a name
const PROTOCOLS: [&str; 8] = ["tcp", "udp", "icmp", "esp", "ah", "ipip", "sctp", "all"];
/// Protocols that have ports, by name and number
const WITH_PORTS: [&str; 6] = ["tcp", "udp", "sctp", "6", "17", "132"];

/// The prefix of every resource's URL
pub(crate) const API: &str = "https://www.googleapis.com/compute/v1";

/// Parses a network's full or partial URL into its project and name.
pub(crate) fn parse_network(text: &str, project: &str) -> Option<(String, String)> {
    let full = [API, "https://compute.googleapis.com/compute/v1"];
    let path = full.iter().find_map(|api| text.strip_prefix(api)?.strip_prefix('/')).unwrap_or(text);
    match path.split('/').collect::<Vec<_>>()[..] {
        ["projects", project, "global", "networks", name] => Some((project.to_owned(), name.to_owned())),
        ["global", "networks", name] => Some((project.to_owned(), name.to_owned())),
        _ => None,
    }
}

/// Applies a JSON merge patch (RFC 7396): null removes, objects merge, everything else replaces.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().map(|target| target.remove(name));
        } else {
            merge(&mut target[name], value);
        }
    }
}

/// Returns the rule with defaults filled in, or the error if Google would refuse it. `networks` are the
/// project's.
pub(crate) fn normalize(
    firewall: &Value,
    project: &str,
    networks: &BTreeSet<String>,
    settings: &Settings,
) -> Result<Value, ApiError> {
    let mut firewall = firewall.clone();
    let Some(fields) = firewall.as_object_mut() else {
        return Err(ApiError::new(400, "required", "Required field 'resource' not specified"));
    };
    fields
        .retain(|name, value| !OUTPUT_ONLY.contains(&name.as_str()) && !value.is_null() && name != "params");
    fields.retain(|name, value| {
        !LISTS.contains(&name.as_str()) || value.as_array().is_some_and(|list| !list.is_empty())
    });
    for (name, default) in [
        ("direction", json!("INGRESS")),
        ("priority", json!(1000)),
        ("disabled", json!(false)),
        ("logConfig", json!({ "enable": false })),
        ("network", json!("global/networks/default")),
    ] {
        fields.entry(name).or_insert(default);
    }
    validate_name(&firewall)?;
    let text = firewall["network"].as_str().unwrap_or_default().to_owned();
    let named = parse_network(&text, project);
    let (owner, name) = named.ok_or_else(|| ApiError::field("network", &text, "The URL is malformed."))?;
    if owner != project {
        let why = "Cross project referencing is not allowed for this resource.";
        return Err(ApiError::field("network", &text, why));
    }
    let path = format!("projects/{project}/global/networks/{name}");
    if !networks.contains(&name) {
        return Err(ApiError::not_found(&path));
    }
    firewall["network"] = json!(format!("{API}/{path}"));
    validate_scalars(&firewall)?;
    validate_traffic(&firewall, settings)?;
    validate_tags_and_accounts(&firewall, settings)?;
    normalize_ranges(&mut firewall, settings)?;
    Ok(firewall)
}

fn validate_name(firewall: &Value) -> Result<(), ApiError> {
    match firewall["name"].as_str() {
        None | Some("") => {
            Err(ApiError::new(400, "required", "Required field 'resource.name' not specified"))
        }
        Some(name) if is_name(name) => Ok(()),
        Some(name) => Err(ApiError::field(
            "name",
            name,
            "Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'",
        )),
    }
}

/// Returns true if the text may name a rule or a tag.
pub(crate) fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.len() <= 63
        && text.bytes().all(inner)
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
}

fn validate_scalars(firewall: &Value) -> Result<(), ApiError> {
    let priority = firewall["priority"].as_i64().unwrap_or(-1);
    if !(0..=65535).contains(&priority) {
        return Err(ApiError::field(
            "priority",
            &priority.to_string(),
            "Must be between 0 and 65535, inclusive.",
        ));
    }
    let description = firewall["description"].as_str().unwrap_or_default();
    if description.chars().count() > 2048 {
        return Err(ApiError::field("description", description, "Must be at most 2048 characters."));
    }
    Ok(())
}

fn list<'a>(firewall: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    firewall[name].as_array().into_iter().flatten()
}

fn texts<'a>(firewall: &'a Value, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    list(firewall, name).filter_map(Value::as_str)
}

/// Checks for exactly one of allowed and denied, for ports only where a protocol has them, and for their
/// limit.
fn validate_traffic(firewall: &Value, settings: &Settings) -> Result<(), ApiError> {
    let kind = match (firewall.get("allowed"), firewall.get("denied")) {
        (Some(_), None) => "allowed",
        (None, Some(_)) => "denied",
        _ => return Err(ApiError::invalid("Firewall must have exactly one of 'allowed' or 'denied'.")),
    };
    let mut count = 0;
    for (index, entry) in list(firewall, kind).enumerate() {
        let at = format!("{kind}[{index}]");
        let protocol = entry["IPProtocol"].as_str().unwrap_or_default().to_ascii_lowercase();
        if !PROTOCOLS.contains(&protocol.as_str()) && protocol.parse::<u8>().is_err() {
            return Err(ApiError::field(&format!("{at}.IPProtocol"), &protocol, "Unknown protocol."));
        }
        for (position, ports) in texts(entry, "ports").enumerate() {
            count += 1;
            let at = format!("{at}.ports[{position}]");
            if !WITH_PORTS.contains(&protocol.as_str()) {
                return Err(ApiError::field(&at, ports, &format!("Protocol {protocol} has no ports.")));
            }
            if !is_ports(ports) {
                return Err(ApiError::field(&at, ports, "Must be a port or a range of ports."));
            }
        }
    }
    check_limit(kind, count, settings.ports_per_rule, "ports")
}

fn is_ports(text: &str) -> bool {
    let shape = Regex::new("^[0-9]{1,5}(-[0-9]{1,5})?$").is_ok_and(|shape| shape.is_match(text));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.parse::<u16>().ok();
    shape && matches!((port(first), port(last)), (Some(first), Some(last)) if first <= last)
}

fn check_limit(field: &str, count: usize, limit: usize, what: &str) -> Result<(), ApiError> {
    if count <= limit {
        return Ok(());
    }
    Err(ApiError::field(field, &count.to_string(), &format!("Too many {what}: at most {limit}.")))
}

/// Checks tags and service accounts.
fn validate_tags_and_accounts(firewall: &Value, settings: &Settings) -> Result<(), ApiError> {
    let limits = [
        ("targetTags", settings.target_tags_per_rule),
        ("sourceTags", settings.source_tags_per_rule),
        ("targetServiceAccounts", settings.service_accounts_per_rule),
        ("sourceServiceAccounts", settings.service_accounts_per_rule),
    ];
    for (field, limit) in limits {
        check_limit(field, list(firewall, field).count(), limit, "values")?;
    }
    for field in ["targetTags", "sourceTags"] {
        if let Some(tag) = texts(firewall, field).find(|tag| !is_name(tag)) {
            return Err(ApiError::field(
                field,
                tag,
                "Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'",
            ));
        }
    }
    let has = |field: &str| firewall.get(field).is_some();
    let tags = has("targetTags") || has("sourceTags");
    if tags && (has("targetServiceAccounts") || has("sourceServiceAccounts")) {
        return Err(ApiError::invalid(
            "Tags and service accounts cannot be used together in a firewall rule.",
        ));
    }
    if firewall["direction"] == "EGRESS" && (has("sourceTags") || has("sourceServiceAccounts")) {
        return Err(ApiError::invalid(
            "Source tags and source service accounts cannot be used with EGRESS rules.",
        ));
    }
    Ok(())
}

/// Fills in the default range, and checks all ranges.
fn normalize_ranges(firewall: &mut Value, settings: &Settings) -> Result<(), ApiError> {
    let has = |firewall: &Value, field: &str| firewall.get(field).is_some();
    if firewall["direction"] == "EGRESS" {
        if !has(firewall, "destinationRanges") {
            firewall["destinationRanges"] = json!(["0.0.0.0/0"]);
        }
    } else if !["sourceRanges", "sourceTags", "sourceServiceAccounts"]
        .iter()
        .any(|field| has(firewall, field))
    {
        firewall["sourceRanges"] = json!(["0.0.0.0/0"]);
    }
    let mut families = BTreeSet::new();
    for field in ["sourceRanges", "destinationRanges"] {
        check_limit(field, list(firewall, field).count(), settings.ranges_per_rule, "ranges")?;
        for (index, text) in texts(firewall, field).enumerate() {
            let at = format!("{field}[{index}]");
            let range = parse_range(text)
                .ok_or_else(|| ApiError::field(&at, text, "Must be a valid CIDR address range."))?;
            if range.trunc() != range {
                return Err(ApiError::field(&at, text, "The address has bits set beyond the prefix length."));
            }
            families.insert(range.addr().is_ipv6());
        }
    }
    if families.len() > 1 {
        return Err(ApiError::invalid("IPv4 and IPv6 ranges cannot be mixed in one firewall rule."));
    }
    Ok(())
}

/// Parses a CIDR, or a single address, which Google accepts too.
pub(crate) fn parse_range(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().map(IpNet::from).ok())
}
