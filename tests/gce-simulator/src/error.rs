//! Errors of the API, in Google's form and words.

use serde_json::{Value, json};

/// An error that a call returns
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// True if the request could not even be parsed; the body then has a `status` too
    is_malformed: bool,
}

impl ApiError {
    /// Returns an error with this HTTP status, reason and message.
    pub(crate) fn new(status: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { status, reason: reason.to_owned(), message: message.into(), is_malformed: false }
    }

    /// Returns the error for a value that the service refuses.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid", message)
    }

    /// Returns the error for a request that the front end refuses before the service handles it.
    pub(crate) fn invalid_argument(message: impl Into<String>) -> Self {
        Self { is_malformed: true, ..Self::new(400, "badRequest", message) }
    }

    /// Returns the error for a field that the service refuses.
    pub(crate) fn field(field: &str, value: &str, why: &str) -> Self {
        Self::invalid(format!("Invalid value for field 'resource.{field}': '{value}'. {why}"))
    }

    /// Returns the error for a resource that does not exist.
    pub(crate) fn not_found(path: &str) -> Self {
        Self::new(404, "notFound", format!("The resource '{path}' was not found"))
    }

    /// Returns the error for a permission that the caller lacks.
    pub(crate) fn forbidden(permission: &str, path: &str) -> Self {
        Self::new(403, "forbidden", format!("Required '{permission}' permission for '{path}'"))
    }

    /// Returns the body that Google would answer with.
    pub(crate) fn body(&self) -> Value {
        let Self { status, reason, message, .. } = self;
        let mut error = json!({
            "code": status,
            "message": message,
            "errors": [{ "message": message, "domain": "global", "reason": reason }],
        });
        if self.is_malformed {
            error["status"] = json!("INVALID_ARGUMENT");
        }
        json!({ "error": error })
    }

    /// Returns the error's code in an operation, where `conditionNotMet` is `CONDITION_NOT_MET`.
    pub(crate) fn code(&self) -> String {
        let mut code = String::new();
        for letter in self.reason.chars() {
            if letter.is_ascii_uppercase() {
                code.push('_');
            }
            code.push(letter.to_ascii_uppercase());
        }
        code
    }
}
