//! Refusals, in the form and words of Google's.

use serde_json::{Value, json};

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Whether the request could not even be read: then the body has a `status` too.
    unreadable: bool,
}

impl ApiError {
    pub(crate) fn new(status: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { status, reason: reason.to_owned(), message: message.into(), unreadable: false }
    }

    /// A value that the service refuses.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid", message)
    }

    /// A request that the front end refuses before the service sees it.
    pub(crate) fn invalid_argument(message: impl Into<String>) -> Self {
        Self { unreadable: true, ..Self::new(400, "badRequest", message) }
    }

    /// A field that the service refuses.
    pub(crate) fn field(field: &str, value: &str, why: &str) -> Self {
        Self::invalid(format!("Invalid value for field 'resource.{field}': '{value}'. {why}"))
    }

    pub(crate) fn not_found(path: &str) -> Self {
        Self::new(404, "notFound", format!("The resource '{path}' was not found"))
    }

    pub(crate) fn forbidden(permission: &str, path: &str) -> Self {
        Self::new(403, "forbidden", format!("Required '{permission}' permission for '{path}'"))
    }

    /// The body that Google would answer with.
    pub(crate) fn body(&self) -> Value {
        let Self { status, reason, message, .. } = self;
        let mut error = json!({
            "code": status,
            "message": message,
            "errors": [{ "message": message, "domain": "global", "reason": reason }],
        });
        if self.unreadable {
            error["status"] = json!("INVALID_ARGUMENT");
        }
        json!({ "error": error })
    }

    /// The code of an operation that ends so: `conditionNotMet` is `CONDITION_NOT_MET` there.
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
