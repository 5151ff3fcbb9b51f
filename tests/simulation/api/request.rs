//! Requests: the path and the parameters of a call, and the selectors in them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Kind;

/// The target of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The resources of one version of a group
    Resources(String),
    /// Objects of a kind
    Objects { kind: Kind, namespace: Option<String>, name: Option<String>, subresource: Option<String> },
    /// Something that the model does not serve
    Unknown,
}

impl Target {
    pub(super) fn of_path(path: &str) -> Self {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (api_version, rest) = match &segments[..] {
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return Self::Unknown,
        };
        if rest.is_empty() {
            return Self::Resources(api_version);
        }
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            _ => (None, rest),
        };
        let [plural, rest @ ..] = rest else { return Self::Unknown };
        let is_kind = |kind: &Kind| kind.api_version() == api_version && kind.names().2 == *plural;
        let Some(kind) = Kind::ALL.into_iter().find(is_kind) else { return Self::Unknown };
        let text = |position: usize| rest.get(position).map(|text| (*text).to_owned());
        let namespace = namespace.map(ToOwned::to_owned);
        Self::Objects { kind, namespace, name: text(0), subresource: text(1) }
    }
}

/// The parameters after the question mark.
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(key, value)| (decode(key), decode(value))).collect())
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub(super) fn is_true(&self, key: &str) -> bool {
        self.get(key) == Some("true")
    }

    pub(super) fn selector(&self) -> Selector {
        Selector {
            fields: self.get("fieldSelector").unwrap_or_default().to_owned(),
            labels: self.get("labelSelector").unwrap_or_default().to_owned(),
        }
    }
}

fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next(), bytes.next()].map(|digit| char::from(digit.unwrap_or(b'0')));
                u8::from_str_radix(&String::from_iter(digits), 16).expect("an escaped byte")
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).expect("UTF-8")
}

/// The fields and labels by which objects are selected.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    fields: String,
    labels: String,
}

impl Selector {
    pub(super) fn selects(&self, object: &Value) -> bool {
        let fields = self.fields.split(',').filter(|term| !term.is_empty());
        let labels = self.labels.split(',').filter(|term| !term.is_empty());
        fields.into_iter().all(|term| {
            let (path, value, is_equal) = split(term);
            let field = path.split('.').try_fold(object, |at, name| at.get(name));
            (field.and_then(Value::as_str).unwrap_or_default() == value) == is_equal
        }) && labels.into_iter().all(|term| {
            let label = |key: &str| object["metadata"]["labels"].get(key).and_then(Value::as_str);
            if let Some(key) = term.strip_prefix('!') {
                return label(key).is_none();
            }
            if !term.contains('=') {
                return label(term).is_some();
            }
            let (key, value, is_equal) = split(term);
            (label(key) == Some(value)) == is_equal
        })
    }
}

/// Splits `key=value`, `key==value` or `key!=value`; true if it asks for equality.
fn split(term: &str) -> (&str, &str, bool) {
    if let Some((key, value)) = term.split_once("!=") {
        return (key, value, false);
    }
    let (key, value) = term.split_once('=').expect("a selector with a value");
    (key, value.trim_start_matches('='), true)
}
