//! Checking values against the schemas of the discovery document.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use regex::Regex;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// All schemas by name
pub(crate) struct Schemas(pub(crate) Map<String, Value>);

impl Schemas {
    /// Checks a parameter of path or query.
    pub(crate) fn check_parameter(&self, name: &str, text: &str, schema: &Value) -> Result<(), ApiError> {
        let value = match schema["type"].as_str() {
            Some("integer" | "number") => text.parse::<i64>().map(Value::from).ok(),
            Some("boolean") => text.parse::<bool>().map(Value::from).ok(),
            _ => Some(Value::from(text)),
        };
        let fits =
            value.is_some_and(|value| self.check(&value, schema, name).is_ok()) && is_in_range(text, schema);
        if fits {
            Ok(())
        } else {
            Err(ApiError::invalid(format!("Invalid value for field '{name}': '{text}'.")))
        }
    }

    /// Checks a body; messages call it `resource`, as Google's do.
    pub(crate) fn check_body(&self, name: &str, body: &Value) -> Result<(), ApiError> {
        self.check(body, &self.0[name], "resource")
    }

    fn check(&self, value: &Value, schema: &Value, at: &str) -> Result<(), ApiError> {
        if let Some(name) = schema["$ref"].as_str() {
            return self.check(value, &self.0[name], at);
        }
        // In a JSON merge patch, null removes a field; elsewhere it has no meaning.
        if value.is_null() {
            return Ok(());
        }
        match (schema["type"].as_str().unwrap_or("any"), value) {
            ("object", Value::Object(fields)) => self.check_fields(fields, schema, at),
            ("array", Value::Array(items)) => {
                let mut each = items.iter().enumerate();
                each.try_for_each(|(index, item)| self.check_item(item, schema, &format!("{at}[{index}]")))
            }
            ("string", Value::String(text)) => check_string(text, schema, at),
            // 64-bit numbers are written as strings, and understood as numbers too.
            ("string", Value::Number(number)) if is_64_bit(schema) => {
                check_string(&number.to_string(), schema, at)
            }
            ("integer", Value::Number(number)) => check_integer(&number.to_string(), schema, at),
            ("integer", Value::String(text)) => check_integer(text, schema, at),
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) | ("any", _) => Ok(()),
            (expected, found) => Err(type_mismatch(found, expected, at)),
        }
    }

    /// Checks an item of an array. A pattern beside the array applies to its items.
    fn check_item(&self, item: &Value, schema: &Value, at: &str) -> Result<(), ApiError> {
        self.check(item, &schema["items"], at)?;
        item.as_str().map_or(Ok(()), |text| check_pattern(text, schema, at))
    }

    fn check_fields(&self, fields: &Map<String, Value>, schema: &Value, at: &str) -> Result<(), ApiError> {
        for (name, value) in fields {
            let declared = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
            let Some(declared) = declared else {
                let message = format!(
                    "Invalid JSON payload received. Unknown name \"{name}\" at '{at}': Cannot find field."
                );
                return Err(ApiError::invalid_argument(message));
            };
            self.check(value, declared, &format!("{at}.{name}"))?;
        }
        Ok(())
    }
}

fn is_64_bit(schema: &Value) -> bool {
    matches!(schema["format"].as_str(), Some("int64" | "uint64"))
}

fn check_string(text: &str, schema: &Value, at: &str) -> Result<(), ApiError> {
    let well_formed = match schema["format"].as_str() {
        Some("int64") => text.parse::<i64>().is_ok(),
        Some("uint64") => text.parse::<u64>().is_ok(),
        Some("byte") => STANDARD.decode(text).is_ok() || URL_SAFE.decode(text).is_ok(),
        _ => true,
    };
    let named = schema["enum"].as_array().is_none_or(|values| values.iter().any(|value| value == text));
    if !well_formed || !named {
        return Err(invalid_value(text, at));
    }
    check_pattern(text, schema, at)
}

fn check_pattern(text: &str, schema: &Value, at: &str) -> Result<(), ApiError> {
    let Some(pattern) = schema["pattern"].as_str() else { return Ok(()) };
    let whole = Regex::new(&format!("^(?:{pattern})$")).ok();
    if whole.is_some_and(|whole| !whole.is_match(text)) {
        let message =
            format!("Invalid value for field '{at}': '{text}'. Must be a match of regex '{pattern}'");
        return Err(ApiError::invalid(message));
    }
    Ok(())
}

fn check_integer(text: &str, schema: &Value, at: &str) -> Result<(), ApiError> {
    let fits = match schema["format"].as_str() {
        Some("uint32") => text.parse::<u32>().is_ok(),
        _ => text.parse::<i32>().is_ok(),
    };
    if fits { Ok(()) } else { Err(invalid_value(text, at)) }
}

fn is_in_range(text: &str, schema: &Value) -> bool {
    let bound = |key: &str| schema[key].as_str().and_then(|bound| bound.parse::<i64>().ok());
    let Ok(number) = text.parse::<i64>() else { return true };
    bound("minimum").is_none_or(|least| number >= least) && bound("maximum").is_none_or(|most| number <= most)
}

fn invalid_value(text: &str, at: &str) -> ApiError {
    ApiError::invalid_argument(format!("Invalid value at '{at}', \"{text}\""))
}

fn type_mismatch(found: &Value, expected: &str, at: &str) -> ApiError {
    ApiError::invalid_argument(format!("Invalid value at '{at}' (expected {expected}), {found}"))
}
