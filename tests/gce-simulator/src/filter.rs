//! List filters: `name eq REGEX` and the newer `name = "value"`, as far as firewalls and instances need them.

use regex::Regex;
use serde_json::Value;

use crate::error::ApiError;

/// Expressions that all have to hold
pub(crate) struct Filter(Vec<Expression>);

struct Expression {
    field: Vec<String>,
    test: Test,
}

enum Test {
    Matches(Regex),
    MatchesNot(Regex),
    Is(String),
    IsNot(String),
    Has(String),
}

impl Filter {
    /// Parses `a eq b`, `a ne b`, `a = b`, `a != b`, `a:b*`, in parentheses or not, joined by AND or nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let malformed = || {
            ApiError::invalid(format!(
                "Invalid value for field 'filter': '{text}'. Invalid list filter expression."
            ))
        };
        let parts = split(text).ok_or_else(malformed)?;
        let expressions: Option<Vec<Expression>> = parts.iter().map(|part| Expression::parse(part)).collect();
        let filter = Self(expressions.ok_or_else(malformed)?);
        let is_regex = |test: &Test| matches!(test, Test::Matches(_) | Test::MatchesNot(_));
        let regexes = filter.0.iter().filter(|expression| is_regex(&expression.test)).count();
        if regexes != 0 && regexes != filter.0.len() {
            return Err(malformed());
        }
        Ok(filter)
    }

    /// Returns true if every expression holds for the item.
    pub(crate) fn matches(&self, item: &Value) -> bool {
        self.0.iter().all(|expression| expression.holds(item))
    }
}

/// Splits a filter at parentheses and ANDs; `None` if parentheses or quotes do not match.
fn split(text: &str) -> Option<Vec<String>> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut depth, mut quote) = (0_usize, None);
    for letter in text.chars() {
        match (letter, quote) {
            (_, Some(open)) => {
                part.push(letter);
                if letter == open {
                    quote = None;
                }
            }
            ('"' | '\'', None) => {
                quote = Some(letter);
                part.push(letter);
            }
            ('(', None) if part.trim().is_empty() && depth == 0 => depth = 1,
            (')', None) if depth == 1 => {
                depth = 0;
                parts.push(std::mem::take(&mut part));
            }
            _ => part.push(letter),
        }
        if depth == 0 && quote.is_none() && (part.ends_with(" AND ") || part.trim() == "AND") {
            let before = part.trim_end().trim_end_matches("AND").to_owned();
            parts.push(before);
            part.clear();
        }
    }
    parts.push(part);
    let parts =
        parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    (depth == 0 && quote.is_none()).then_some(parts)
}

impl Expression {
    fn parse(text: &str) -> Option<Self> {
        let shape = Regex::new(r"^([A-Za-z][A-Za-z0-9_.]*)\s*(?:\s(eq|ne)\s|(!=|=|:))\s*(.+)$").ok()?;
        let found = shape.captures(text)?;
        let value = unquote(found.get(4)?.as_str().trim())?;
        let whole = |value: &str| Regex::new(&format!("^(?:{value})$")).ok();
        let kind = match found.get(2).or(found.get(3))?.as_str() {
            "eq" => Test::Matches(whole(&value)?),
            "ne" => Test::MatchesNot(whole(&value)?),
            "=" => Test::Is(value),
            "!=" => Test::IsNot(value),
            _ => Test::Has(value),
        };
        Some(Self { field: found.get(1)?.as_str().split('.').map(ToOwned::to_owned).collect(), test: kind })
    }

    fn holds(&self, item: &Value) -> bool {
        let value = self.field.iter().try_fold(item, |value, key| value.get(key));
        let text = value.map(|value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned));
        let text = text.as_deref();
        match &self.test {
            Test::Matches(regex) => text.is_some_and(|text| regex.is_match(text)),
            Test::MatchesNot(regex) => !text.is_some_and(|text| regex.is_match(text)),
            Test::Is(wanted) => text == Some(wanted),
            Test::IsNot(wanted) => text != Some(wanted),
            Test::Has(wanted) => match wanted.strip_suffix('*') {
                Some(prefix) => text.is_some_and(|text| text.starts_with(prefix)),
                None => text.is_some_and(|text| text.contains(wanted.as_str())),
            },
        }
    }
}

/// Returns a value without its quotes; `None` if it has quotes inside or, without quotes, spaces.
fn unquote(text: &str) -> Option<String> {
    match text.chars().next()? {
        quote @ ('"' | '\'') => {
            let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
            (!inner.contains(quote)).then(|| inner.to_owned())
        }
        _ => (!text.contains(char::is_whitespace)).then(|| text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filter_matches_what_it_expresses() {
        let item = json!({ "name": "web-1", "status": "RUNNING", "tags": { "fingerprint": "x" } });
        let table = [
            ("name eq \"web-.*\"", true),
            ("name eq web", false),
            ("name eq '(web-1|web-2)'", true),
            ("name ne web-1", false),
            ("(name eq web-1) (status eq RUNNING)", true),
            ("name = \"web-1\"", true),
            ("name=web-2", false),
            ("name != web-2 AND status = RUNNING", true),
            ("(name = web-1) AND (status = STOPPED)", false),
            ("name:web*", true),
            ("name:db*", false),
            ("tags.fingerprint = x", true),
            ("absent = x", false),
        ];
        for (text, expected) in table {
            assert_eq!(Filter::parse(text).map(|filter| filter.matches(&item)), Ok(expected), "{text}");
        }
    }

    #[test]
    fn malformed_filter_is_rejected() {
        for text in [
            "name",
            "name ~ x",
            "(name eq x",
            "name eq \"x",
            "name eq (",
            "name = a b",
            "name eq x AND name = x",
        ] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }
}
