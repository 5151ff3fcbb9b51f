//! Compute Engine's error reasons, and the next action that each leads to.
//!
//! Source: "Troubleshooting API errors" in the Compute Engine documentation, and the reasons of its error
//! bodies.

use std::error::Error as _;
use std::fmt;
use std::time::{Duration, SystemTime};

use firewall_core::{ErrorKind, ProviderError};
use firewall_pacing::{Attempt, Retryable};
use google_cloud_compute_v1::errors::OperationError;
use google_cloud_gax::error::Error;
use google_cloud_gax::error::rpc::StatusDetails;

use crate::api_calls::ApiCall;
use crate::rate_limit::time_to_refill;

/// A failed call, with Google's own message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallError {
    call: ApiCall,
    object: String,
    failure: Failure,
    message: String,
    /// The time for which calls under the same quota are in vain, if it is used up or Google names one
    retry_after: Option<Duration>,
}

/// The stage at which a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    /// Google responded with this status and reason.
    ErrorResponse { status: u16, reason: String },
    /// The network or the service failed; it is unknown if the call took effect.
    NoResponse,
    /// The request was never sent, most likely for lack of credentials.
    NotSent,
    /// The response could not be parsed.
    UnreadableResponse,
    /// The right to write had ended.
    Fenced,
}

impl Failure {
    /// Returns the stage at which a call of the client library failed, and the message.
    fn from_error(error: &Error) -> (Self, String) {
        let Some(status) = error.http_status_code() else {
            let failure = if error.is_authentication() || error.is_binding() || error.is_serialization() {
                Self::NotSent
            } else if error.is_deserialization() {
                Self::UnreadableResponse
            } else {
                Self::NoResponse
            };
            return (failure, message_with_sources(error));
        };
        let body = error.status();
        let reasons = body.into_iter().flat_map(|body| &body.details).filter_map(|detail| match detail {
            // The client library puts the reasons of older error bodies here too.
            StatusDetails::ErrorInfo(info) => Some(info.reason.clone()),
            _ => None,
        });
        let reason = reasons.into_iter().next().unwrap_or_default();
        let message = body.map_or_else(|| message_with_sources(error), |body| body.message.clone());
        (Self::ErrorResponse { status, reason }, message)
    }

    /// Returns the time from `now` until a used up quota is full again; `None` for every other failure.
    fn time_to_refill(&self, now: SystemTime) -> Option<Duration> {
        (self.kind() == Kind::Shared(ErrorKind::Throttled)).then(|| time_to_refill(now))
    }

    fn kind(&self) -> Kind {
        match self {
            Self::NoResponse => Kind::Shared(ErrorKind::Unavailable),
            Self::NotSent => Kind::Credentials,
            Self::UnreadableResponse => Kind::Shared(ErrorKind::InvalidRequest),
            Self::Fenced => Kind::Shared(ErrorKind::Fenced),
            Self::ErrorResponse { status, reason } => response_kind(*status, reason),
        }
    }
}

/// Returns the error's message with those of its sources: the client library's own message ends at the first.
fn message_with_sources(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

/// Returns true if the same call is likely to succeed a moment later.
pub(crate) fn is_transient(error: &Error) -> bool {
    let kind = Failure::from_error(error).0.kind();
    matches!(kind, Kind::Shared(ErrorKind::Throttled | ErrorKind::Unavailable))
}

/// Returns the time that the header `Retry-After` names.
fn retry_after(error: &Error) -> Option<Duration> {
    let seconds = error.http_headers()?.get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

impl Retryable for CallError {
    fn attempt(&self) -> Attempt {
        match self.failure.kind() {
            Kind::Shared(ErrorKind::Throttled) => Attempt::Throttled(self.retry_after),
            Kind::Shared(ErrorKind::Unavailable) => Attempt::Transient(self.retry_after.unwrap_or_default()),
            _ => Attempt::Final,
        }
    }
}

impl CallError {
    /// Returns the error of a call that the client library reports as failed, at `now`.
    pub(crate) fn new(call: ApiCall, object: &str, error: &Error, now: SystemTime) -> Self {
        let (failure, message) = Failure::from_error(error);
        let retry_after = retry_after(error).or_else(|| failure.time_to_refill(now));
        Self { call, object: object.to_owned(), failure, message, retry_after }
    }

    /// Returns the error of a call that is not sent, because a pause is not over that Google asked for.
    pub(crate) fn not_sent_for(call: ApiCall, object: &str, pause: Duration) -> Self {
        let failure = Failure::ErrorResponse { status: 429, reason: String::new() };
        let message = format!("the quota of calls is full again in {} s", pause.as_secs());
        Self { call, object: object.to_owned(), failure, message, retry_after: Some(pause) }
    }

    /// Returns the error of a call that the fence has stopped.
    pub(crate) fn fenced(call: ApiCall, object: &str) -> Self {
        Self {
            call,
            object: object.to_owned(),
            failure: Failure::Fenced,
            message: "fenced".to_owned(),
            retry_after: None,
        }
    }

    /// Returns the error of an operation that failed after the call itself had been accepted, as read at `now`.
    pub(crate) fn from_operation(
        call: ApiCall,
        object: &str,
        error: &OperationError,
        now: SystemTime,
    ) -> Self {
        let failed = |status: Option<i32>, reason: String, message: String| {
            let status = status.and_then(|status| status.try_into().ok()).unwrap_or(0);
            let failure = Failure::ErrorResponse { status, reason };
            let retry_after = failure.time_to_refill(now);
            Self { call, object: object.to_owned(), failure, message, retry_after }
        };
        let OperationError::Generic(error) = error else {
            return failed(None, String::new(), error.to_string());
        };
        let first = error.details.as_ref().and_then(|details| details.errors.first());
        let reason = first.and_then(|first| first.code.clone()).unwrap_or_default();
        let message = first.and_then(|first| first.message.clone()).or_else(|| error.message.clone());
        failed(error.status_code, reason, message.unwrap_or_default())
    }

    /// Returns true if the object does not exist. For a zone that does not exist, Google responds with an
    /// invalid value instead of a missing object.
    pub(crate) fn is_not_found(&self) -> bool {
        let unknown_zone = matches!(self.failure, Failure::ErrorResponse { status: 400, .. })
            && self.message.contains("Unknown zone");
        unknown_zone || self.failure.kind() == Kind::Shared(ErrorKind::NotFound)
    }

    /// Returns true if a permission is missing.
    pub(crate) fn is_denied(&self) -> bool {
        self.failure.kind() == Kind::Shared(ErrorKind::PermissionDenied)
    }

    /// Returns true if another resource has the name.
    pub(crate) fn is_name_taken(&self) -> bool {
        self.failure.kind() == Kind::NameTaken
    }

    /// Returns true if the object has changed since its fingerprint was read.
    pub(crate) fn is_outdated(&self) -> bool {
        self.failure.kind() == Kind::Outdated
    }

    /// Returns an error of the same call on the same object, with what has been found out about it since.
    pub(crate) fn explain(self, kind: ErrorKind, message: &str) -> ProviderError {
        ProviderError::new(kind, self.call.name(), self.object, message)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}: ", self.call, self.object)?;
        match &self.failure {
            Failure::ErrorResponse { reason, .. } if !reason.is_empty() => {
                write!(f, "{reason}: {}", self.message)
            }
            _ => f.write_str(&self.message),
        }
    }
}

/// The kinds of failure on Compute Engine: finer than [`ErrorKind`] where a caller or the message needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A kind that every provider has.
    Shared(ErrorKind),
    /// The credentials are missing or invalid.
    Credentials,
    /// An earlier operation on the object has not ended.
    NotReady,
    /// Another resource has the name.
    NameTaken,
    /// The object has changed since its fingerprint was read.
    Outdated,
    /// A list of the request is longer than Google takes.
    TooLarge,
}

impl Kind {
    const fn shared(self) -> ErrorKind {
        match self {
            Self::Shared(kind) => kind,
            Self::Credentials | Self::NotReady => ErrorKind::Unavailable,
            Self::NameTaken | Self::Outdated => ErrorKind::Conflict,
            Self::TooLarge => ErrorKind::InvalidRequest,
        }
    }

    /// Returns the remedy, where Google's message does not name it.
    const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Credentials => Some("check the Google Cloud credentials"),
            Self::NotReady => Some("an earlier operation on it has not ended"),
            Self::Outdated => Some("something else keeps changing it"),
            Self::TooLarge => Some("put fewer addresses into a rule with --gce-ranges-per-rule"),
            Self::Shared(ErrorKind::QuotaReached) => {
                Some("raise the project's quota in the console under IAM & Admin, Quotas")
            }
            Self::Shared(_) | Self::NameTaken => None,
        }
    }
}

/// Returns the kind of an error response. Responses write reasons as `quotaExceeded`, operations as
/// `QUOTA_EXCEEDED`.
fn response_kind(status: u16, reason: &str) -> Kind {
    let reason: String = reason.chars().filter(|c| *c != '_').collect::<String>().to_ascii_lowercase();
    let kind = match (status, reason.as_str()) {
        (_, "ratelimitexceeded" | "userratelimitexceeded" | "operationratelimitexceeded") | (429, _) => {
            ErrorKind::Throttled
        }
        (_, "quotaexceeded" | "limitexceeded" | "resourcequotaexceeded") => ErrorKind::QuotaReached,
        (_, "resourcenotready") => return Kind::NotReady,
        (413, _) => return Kind::TooLarge,
        (_, "conditionnotmet") | (412, _) => return Kind::Outdated,
        (_, "alreadyexists" | "resourcealreadyexists") | (409, "") => return Kind::NameTaken,
        (_, "notfound" | "resourcenotfound") | (404, _) => ErrorKind::NotFound,
        (401, _) => return Kind::Credentials,
        (403, _) => ErrorKind::PermissionDenied,
        (408 | 500..=599, _)
        | (
            _,
            "backenderror"
            | "internalerror"
            | "resourceoperationrateexceeded"
            | "resourceinusebyanotherresource",
        ) => ErrorKind::Unavailable,
        _ => ErrorKind::InvalidRequest,
    };
    Kind::Shared(kind)
}

impl From<CallError> for ProviderError {
    fn from(error: CallError) -> Self {
        let CallError { call, object, failure, message, .. } = error;
        let kind = failure.kind();
        if kind == Kind::Shared(ErrorKind::Fenced) {
            return Self::fenced(call.to_string(), object);
        }
        let subject = if kind.shared() == ErrorKind::PermissionDenied {
            denied_permission(&message).unwrap_or(call.permissions()[0]).to_owned()
        } else {
            call.to_string()
        };
        let message = match kind.remedy() {
            Some(remedy) => format!("{message}; {remedy}"),
            None => message,
        };
        Self::new(kind.shared(), subject, object, message)
    }
}

/// Returns the permission that is missing, as Google's message names it:
/// `Required 'compute.firewalls.create' permission for …`.
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
            call: ApiCall::FirewallsInsert,
            object: "projects/p/global/firewalls/x".into(),
            failure: Failure::ErrorResponse { status, reason: reason.into() },
            message: message.into(),
            retry_after: None,
        }
    }

    #[test]
    fn each_reason_leads_to_one_next_action() {
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
            (413, "uploadTooLarge", "InvalidRequest"),
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
    fn denied_call_names_the_missing_permission() {
        let permission = |message: &str| {
            let error = ProviderError::from(error(403, "forbidden", message));
            assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
            error.call
        };
        let message =
            "Required 'compute.networks.updatePolicy' permission for 'projects/p/global/networks/n'";
        assert_eq!(permission(message), "compute.networks.updatePolicy");
        assert_eq!(
            permission("Forbidden"),
            "compute.firewalls.create",
            "the call's own, where none is named"
        );
    }

    #[test]
    fn quota_error_names_the_quota_and_the_remedy() {
        let text =
            ProviderError::from(error(403, "quotaExceeded", "Quota 'FIREWALLS' exceeded.")).to_string();
        assert!(text.contains("FIREWALLS") && text.contains("Quotas"), "{text}");
    }

    #[test]
    fn list_that_is_too_long_leads_to_the_flag() {
        let message =
            "Value for field 'resource.destinationRanges' is too large: maximum size 256 element(s)";
        let text = ProviderError::from(error(413, "uploadTooLarge", message)).to_string();
        assert!(text.contains("256") && text.contains("--gce-ranges-per-rule"), "{text}");
    }
}
