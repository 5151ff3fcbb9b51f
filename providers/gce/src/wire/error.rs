//! Compute Engine's error reasons, and what each means for what to do next.
//!
//! Source: "Troubleshooting API errors" in the Compute Engine documentation, and the reasons of its error bodies.

use std::error::Error as _;
use std::fmt;

use firewall_core::{ErrorKind, ProviderError};
use google_cloud_compute_v1::errors::OperationError;
use google_cloud_gax::error::Error;
use google_cloud_gax::error::rpc::StatusDetails;

use crate::api_calls::ApiCall;

/// A call that failed, with Google's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallError {
    pub(crate) method: ApiCall,
    pub(crate) object: String,
    pub(crate) cause: Cause,
    pub(crate) message: String,
}

/// How far a call came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Google answered with this status and reason.
    Answer { status: u16, reason: String },
    /// The network or the service failed; whether the call took effect is unknown.
    Lost,
    /// The request was never sent: no credentials, most likely.
    NotSent,
    /// The answer came, and makes no sense.
    Unreadable,
}

impl Cause {
    /// How far a call of the client library came, and what was said.
    fn of(error: &Error) -> (Self, String) {
        let Some(status) = error.http_status_code() else {
            let cause = if error.is_authentication() || error.is_binding() || error.is_serialization() {
                Self::NotSent
            } else if error.is_deserialization() {
                Self::Unreadable
            } else {
                Self::Lost
            };
            return (cause, chain(error));
        };
        let told = error.status();
        let reasons = told.into_iter().flat_map(|told| &told.details).filter_map(|detail| match detail {
            // The client library puts the reasons of older error bodies here too.
            StatusDetails::ErrorInfo(info) => Some(info.reason.clone()),
            _ => None,
        });
        let reason = reasons.into_iter().next().unwrap_or_default();
        let message = told.map_or_else(|| chain(error), |told| told.message.clone());
        (Self::Answer { status, reason }, message)
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Lost => Kind::Transient,
            Self::NotSent => Kind::Credentials,
            Self::Unreadable => Kind::Refused,
            Self::Answer { status, reason } => kind(*status, reason),
        }
    }
}

/// An error with what it was caused by: the client library's own text stops at the first.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// Whether the same call may well work a moment later.
pub(crate) fn is_passing(error: &Error) -> bool {
    matches!(Cause::of(error).0.kind(), Kind::Throttled | Kind::Transient)
}

/// Whether the project's call rate is used up.
pub(crate) fn is_throttled(error: &Error) -> bool {
    Cause::of(error).0.kind() == Kind::Throttled
}

impl CallError {
    pub(crate) fn new(method: ApiCall, object: &str, error: &Error) -> Self {
        let (cause, message) = Cause::of(error);
        Self { method, object: object.to_owned(), cause, message }
    }

    /// An operation that ended in an error after the call itself had been accepted.
    pub(crate) fn of_operation(method: ApiCall, object: &str, error: &OperationError) -> Self {
        let failed = |status: Option<i32>, reason: String, message: String| Self {
            method,
            object: object.to_owned(),
            cause: Cause::Answer {
                status: status.and_then(|status| status.try_into().ok()).unwrap_or(0),
                reason,
            },
            message,
        };
        let OperationError::Generic(error) = error else {
            return failed(None, String::new(), error.to_string());
        };
        let first = error.details.as_ref().and_then(|details| details.errors.first());
        let reason = first.and_then(|first| first.code.clone()).unwrap_or_default();
        let message = first.and_then(|first| first.message.clone()).or_else(|| error.message.clone());
        failed(error.status_code, reason, message.unwrap_or_default())
    }

    /// Whether the object is not there. A zone that does not exist is an invalid value to Google, nothing missing.
    pub(crate) fn is_not_found(&self) -> bool {
        let unknown_zone =
            matches!(self.cause, Cause::Answer { status: 400, .. }) && self.message.contains("Unknown zone");
        unknown_zone || self.cause.kind() == Kind::NotFound
    }

    /// Whether a permission is missing.
    pub(crate) fn is_denied(&self) -> bool {
        self.cause.kind() == Kind::Denied
    }

    /// Whether the name is taken.
    pub(crate) fn is_taken(&self) -> bool {
        self.cause.kind() == Kind::Taken
    }

    /// Whether the object has changed since it was read.
    pub(crate) fn is_outdated(&self) -> bool {
        self.cause.kind() == Kind::Outdated
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}: ", self.method, self.object)?;
        match &self.cause {
            Cause::Answer { reason, .. } if !reason.is_empty() => write!(f, "{reason}: {}", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

/// What an error means for what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Throttled,
    Transient,
    Denied,
    Credentials,
    Quota,
    NotFound,
    NotReady,
    Taken,
    Outdated,
    Refused,
}

/// Reasons of answers are written `quotaExceeded`, codes of operations `QUOTA_EXCEEDED`.
fn kind(status: u16, reason: &str) -> Kind {
    let reason: String = reason.chars().filter(|c| *c != '_').collect::<String>().to_ascii_lowercase();
    match (status, reason.as_str()) {
        (_, "ratelimitexceeded" | "userratelimitexceeded" | "operationratelimitexceeded") | (429, _) => {
            Kind::Throttled
        }
        (_, "quotaexceeded" | "limitexceeded" | "resourcequotaexceeded") => Kind::Quota,
        (_, "resourcenotready") => Kind::NotReady,
        (_, "conditionnotmet") | (412, _) => Kind::Outdated,
        (_, "alreadyexists" | "resourcealreadyexists") | (409, "") => Kind::Taken,
        (_, "notfound" | "resourcenotfound") | (404, _) => Kind::NotFound,
        (401, _) => Kind::Credentials,
        (403, _) => Kind::Denied,
        (408 | 500..=599, _)
        | (
            _,
            "backenderror"
            | "internalerror"
            | "resourceoperationrateexceeded"
            | "resourceinusebyanotherresource",
        ) => Kind::Transient,
        _ => Kind::Refused,
    }
}

impl From<CallError> for ProviderError {
    fn from(error: CallError) -> Self {
        let message = explained(&error);
        let (call, object) = (error.method.to_string(), error.object);
        match error.cause.kind() {
            Kind::Throttled => Self::new(ErrorKind::Throttled, call, object, message),
            Kind::Transient | Kind::NotReady | Kind::Credentials => {
                Self::new(ErrorKind::Unavailable, call, object, message)
            }
            Kind::Denied => {
                let action = denied_permission(&message).unwrap_or(error.method.permissions()[0]).to_owned();
                Self::new(ErrorKind::PermissionDenied, action, object, message)
            }
            Kind::Quota => Self::new(ErrorKind::QuotaReached, call, object, message),
            Kind::NotFound => Self::new(ErrorKind::NotFound, call, object, message),
            Kind::Taken | Kind::Outdated => Self::new(ErrorKind::Conflict, call, object, message),
            Kind::Refused => Self::new(ErrorKind::InvalidRequest, call, object, message),
        }
    }
}

/// Google's words, with the remedy where Google does not name it.
fn explained(error: &CallError) -> String {
    let remedy = match error.cause.kind() {
        Kind::Credentials => "check the Google Cloud credentials",
        Kind::Quota => "raise the project's quota in the console under IAM & Admin, Quotas",
        Kind::NotReady => "an earlier operation on it has not ended",
        Kind::Outdated => "something else keeps changing it",
        _ => return error.message.clone(),
    };
    format!("{}; {remedy}", error.message)
}

/// The permission that was missing, as Google's text names it: `Required 'compute.firewalls.create' permission for …`.
fn denied_permission(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("Required '")?;
    let (permission, _) = rest.split_once('\'')?;
    permission.starts_with("compute.").then_some(permission)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, reason: &str, message: &str) -> CallError {
        CallError {
            method: ApiCall::FirewallsInsert,
            object: "projects/p/global/firewalls/x".into(),
            cause: Cause::Answer { status, reason: reason.into() },
            message: message.into(),
        }
    }

    #[test]
    fn every_reason_leads_to_the_one_next_action() {
        let table = [
            (403, "rateLimitExceeded", "Throttled"),
            (403, "userRateLimitExceeded", "Throttled"),
            (429, "", "Throttled"),
            (403, "quotaExceeded", "QuotaReached"),
            (403, "QUOTA_EXCEEDED", "QuotaReached"),
            (403, "forbidden", "PermissionDenied"),
            (403, "", "PermissionDenied"),
            (401, "authError", "Unavailable"),
            (404, "notFound", "NotFound"),
            (0, "RESOURCE_NOT_FOUND", "NotFound"),
            (409, "alreadyExists", "Conflict"),
            (409, "RESOURCE_ALREADY_EXISTS", "Conflict"),
            (412, "conditionNotMet", "Conflict"),
            (200, "CONDITION_NOT_MET", "Conflict"),
            (400, "resourceNotReady", "Unavailable"),
            (500, "backendError", "Unavailable"),
            (503, "", "Unavailable"),
            (400, "invalid", "InvalidRequest"),
            (400, "somethingNew", "InvalidRequest"),
        ];
        for (status, reason, expected) in table {
            assert_eq!(
                ProviderError::from(error(status, reason, "")).reason(),
                expected,
                "{status} {reason}"
            );
        }
    }

    #[test]
    fn a_denied_call_names_the_permission_that_was_missing() {
        let named = |message: &str| {
            let error = ProviderError::from(error(403, "forbidden", message));
            assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
            error.call
        };
        let message =
            "Required 'compute.networks.updatePolicy' permission for 'projects/p/global/networks/n'";
        assert_eq!(named(message), "compute.networks.updatePolicy");
        assert_eq!(named("Forbidden"), "compute.firewalls.create", "the method's own, where none is named");
    }

    #[test]
    fn a_quota_error_says_which_and_where_to_raise_it() {
        let text =
            ProviderError::from(error(403, "quotaExceeded", "Quota 'FIREWALLS' exceeded.")).to_string();
        assert!(text.contains("FIREWALLS") && text.contains("Quotas"), "{text}");
    }
}
