//! Partial responses: the parameter `fields`, as in `items(name,network),nextPageToken`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::ApiError;

/// A selection of fields; an empty one keeps all of them.
#[derive(Default)]
pub(crate) struct Fields(BTreeMap<String, Fields>);

impl Fields {
    /// Parses a selection.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut fields = Self::default();
        let rest = fields.parse_list(text);
        let plain = |c: char| c.is_ascii_alphanumeric() || "_*-".contains(c);
        if rest == Some("") && fields.has_plain_names(&plain) {
            Ok(fields)
        } else {
            Err(ApiError::new(400, "invalidParameter", format!("Invalid field selection {text}")))
        }
    }

    /// Returns true if every name is non-empty and has only plain characters.
    fn has_plain_names(&self, plain: &impl Fn(char) -> bool) -> bool {
        self.0
            .iter()
            .all(|(name, inner)| !name.is_empty() && name.chars().all(plain) && inner.has_plain_names(plain))
    }

    /// Parses `a,b(c,d),e/f` up to a character that cannot be part of it, and returns the rest.
    fn parse_list<'a>(&mut self, mut text: &'a str) -> Option<&'a str> {
        loop {
            let end = text.find([',', '(', ')', '/']).unwrap_or(text.len());
            let inner = self.0.entry(text[..end].to_owned()).or_default();
            text = &text[end..];
            if let Some(path) = text.strip_prefix('/') {
                let end = path.find([',', ')']).unwrap_or(path.len());
                inner.parse_list(&path[..end])?;
                text = &path[end..];
            } else if let Some(list) = text.strip_prefix('(') {
                text = inner.parse_list(list)?.strip_prefix(')')?;
            }
            match text.strip_prefix(',') {
                Some(next) => text = next,
                None => return Some(text),
            }
        }
    }

    /// Removes the fields that are not selected.
    pub(crate) fn select(&self, value: &mut Value) {
        if self.0.is_empty() {
            return;
        }
        match value {
            Value::Object(map) => {
                map.retain(|name, _| self.0.contains_key(name) || self.0.contains_key("*"));
                for (name, value) in map {
                    if let Some(inner) = self.0.get(name).or_else(|| self.0.get("*")) {
                        inner.select(value);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.select(item)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn select_keeps_only_selected_fields() {
        let full =
            json!({ "items": [{ "name": "a", "id": "1", "logConfig": { "enable": true } }], "kind": "k" });
        let table = [
            ("items/name", json!({ "items": [{ "name": "a" }] })),
            (
                "items(name,logConfig/enable),kind",
                json!({ "items": [{ "name": "a", "logConfig": { "enable": true } }], "kind": "k" }),
            ),
            ("kind", json!({ "kind": "k" })),
            ("*", full.clone()),
        ];
        for (text, expected) in table {
            let mut value = full.clone();
            Fields::parse(text).expect("a selection").select(&mut value);
            assert_eq!(value, expected, "{text}");
        }
        for text in ["", "items(", "items)", "a,,b", "a b"] {
            assert!(Fields::parse(text).is_err(), "{text}");
        }
    }
}
