//! EC2's error codes, and the kind of failure that each stands for.
//!
//! Source: "Error codes for the Amazon EC2 API", Amazon EC2 Developer Guide.

use std::fmt;
use std::time::Duration;

use aws_sdk_ec2::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use firewall_core::{ErrorKind, ProviderError};
use firewall_pacing::{Attempt, Retryable};

use crate::api_calls::ApiCall;

/// A failed call, with EC2's own message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallError {
    pub(crate) call: ApiCall,
    pub(crate) object: String,
    pub(crate) failure: Failure,
    pub(crate) message: String,
    /// The time for which EC2 asks not to be called, if it does
    pub(crate) retry_after: Option<Duration>,
}

/// The stage at which a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// EC2 responded with this error code.
    ErrorCode(String),
    /// EC2 failed without a known error code.
    ServerError,
    /// The network failed; it is unknown if the call took effect.
    NoResponse,
    /// The request was never sent, most likely for lack of credentials.
    NotSent,
    /// The right to write had ended.
    Fenced,
}

impl CallError {
    /// Returns the error of the SDK as one of ours.
    pub(crate) fn new<E>(call: ApiCall, object: &str, error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let failure = match error {
            SdkError::ServiceError(context) => {
                let server = context.raw().status().is_server_error();
                match error.code() {
                    Some(code) if !server || kind_of_code(code) != ErrorKind::InvalidRequest => {
                        Failure::ErrorCode(code.to_owned())
                    }
                    _ => Failure::ServerError,
                }
            }
            SdkError::TimeoutError(_) | SdkError::ResponseError(_) => Failure::NoResponse,
            SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => {
                Failure::NoResponse
            }
            _ => Failure::NotSent,
        };
        let message =
            error.message().map_or_else(|| DisplayErrorContext(error).to_string(), cut_encoded_message);
        Self { call, object: object.to_owned(), failure, message, retry_after: retry_after(error) }
    }

    /// Returns the error of a call that is not sent, because EC2 asked for a pause that is not over.
    pub(crate) fn not_sent_for(call: ApiCall, object: &str, pause: Duration) -> Self {
        let message = format!("EC2 asked for a pause, which lasts {} s more", pause.as_secs());
        let failure = Failure::ErrorCode("RequestLimitExceeded".to_owned());
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

    /// Returns true if EC2 answered with this code.
    pub(crate) fn is(&self, code: &str) -> bool {
        matches!(&self.failure, Failure::ErrorCode(own) if own == code)
    }

    /// Returns true if EC2 does not know the security group, which it says in two ways. Right after a group was created,
    /// parts of EC2 do not know it yet.
    pub(crate) fn is_group_not_found(&self) -> bool {
        ["InvalidGroup.NotFound", "InvalidSecurityGroupID.NotFound"].iter().any(|code| self.is(code))
    }

    /// Returns true if a permission is missing. Invalid credentials are another failure.
    pub(crate) fn is_unauthorized(&self) -> bool {
        ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException"].iter().any(|code| self.is(code))
    }

    /// Returns true if the object is still in use.
    pub(crate) fn is_in_use(&self) -> bool {
        self.kind() == ErrorKind::InUse
    }

    fn kind(&self) -> ErrorKind {
        match &self.failure {
            Failure::ErrorCode(code) => kind_of_code(code),
            Failure::ServerError | Failure::NoResponse => ErrorKind::Unavailable,
            Failure::NotSent => ErrorKind::PermissionDenied,
            Failure::Fenced => ErrorKind::Fenced,
        }
    }
}

impl Retryable for CallError {
    fn attempt(&self) -> Attempt {
        match self.kind() {
            ErrorKind::Throttled => Attempt::Throttled(self.retry_after),
            ErrorKind::Unavailable => Attempt::Transient(self.retry_after.unwrap_or_default()),
            _ => Attempt::Final,
        }
    }
}

/// Returns the time that the header `Retry-After` names.
fn retry_after<E>(error: &SdkError<E>) -> Option<Duration> {
    let SdkError::ServiceError(context) = error else { return None };
    context.raw().headers().get("retry-after")?.parse().ok().map(Duration::from_secs)
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}: ", self.call, self.object)?;
        if let Failure::ErrorCode(code) = &self.failure {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Returns the kind of failure that an error code stands for.
fn kind_of_code(code: &str) -> ErrorKind {
    match code {
        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "EC2ThrottledException"
        | "TooManyRequestsException"
        | "BandwidthLimitExceeded"
        | "PriorRequestNotComplete" => ErrorKind::Throttled,
        "InternalError"
        | "InternalFailure"
        | "ServerInternal"
        | "Unavailable"
        | "ServiceUnavailable"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "RequestExpired"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncorrectState"
        | "IncorrectInstanceState" => ErrorKind::Unavailable,
        "UnauthorizedOperation"
        | "AccessDenied"
        | "AccessDeniedException"
        | "AuthFailure"
        | "OptInRequired"
        | "Blocked"
        | "PendingVerification"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "MissingAuthenticationToken"
        | "SignatureDoesNotMatch"
        | "OperationNotPermitted" => ErrorKind::PermissionDenied,
        "DependencyViolation" | "InvalidGroup.InUse" => ErrorKind::InUse,
        _ if code.ends_with("LimitExceeded") => ErrorKind::QuotaReached,
        _ if code.ends_with(".NotFound") => ErrorKind::NotFound,
        _ if code.ends_with(".Duplicate") => ErrorKind::Conflict,
        _ => ErrorKind::InvalidRequest,
    }
}

impl From<CallError> for ProviderError {
    fn from(error: CallError) -> Self {
        let kind = error.kind();
        if kind == ErrorKind::Fenced {
            return Self::fenced(error.call.to_string(), error.object);
        }
        let message = explain(&error);
        let call = match kind {
            ErrorKind::PermissionDenied => denied_permission(error.call, &error.message),
            _ => error.call.to_string(),
        };
        Self::new(kind, call, error.object, message)
    }
}

/// Returns EC2's message, with the remedy where EC2 does not name it.
fn explain(error: &CallError) -> String {
    let Failure::ErrorCode(code) = &error.failure else {
        return match error.failure {
            Failure::NotSent => {
                format!("the request could not be sent, check the AWS credentials: {}", error.message)
            }
            _ => error.message.clone(),
        };
    };
    let remedy = match code.as_str() {
        "RulesPerSecurityGroupLimitExceeded" => {
            "raise the VPC quota \"Inbound or outbound rules per security group\" (L-0EA8095F)"
        }
        "SecurityGroupsPerInterfaceLimitExceeded" => {
            "raise the VPC quota \"Security groups per network interface\" (L-2AFB9258), or set --aws-groups-per-interface to what is allowed"
        }
        "SecurityGroupLimitExceeded" | "ResourceLimitExceeded" => {
            "raise the VPC quota \"VPC security groups per Region\" (L-E79EC296)"
        }
        _ if kind_of_code(code) == ErrorKind::QuotaReached => "raise the quota in the Service Quotas console",
        "InvalidInstanceID" => {
            "the instance has several network interfaces; grant the permissions of mode attach, \
             ec2:DescribeNetworkInterfaces and ec2:ModifyNetworkInterfaceAttribute among them"
        }
        "OperationNotPermitted" => "the instance is managed by an AWS service, which changes it itself",
        "AuthFailure"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "MissingAuthenticationToken"
        | "SignatureDoesNotMatch" => "check the AWS credentials",
        _ => return format!("{code}: {}", error.message),
    };
    format!("{code}: {}; {remedy}", error.message)
}

/// Returns the permission that was missing. EC2 checks other permissions than that of the call too
/// (`ec2:CreateTags` when an object is created with tags), and names the missing one in its message.
fn denied_permission(call: ApiCall, message: &str) -> String {
    let named = message.split_once("not authorized to perform: ").map(|(_, rest)| rest);
    let named = named.and_then(|rest| rest.split_whitespace().next());
    named.filter(|name| name.contains(':')).map_or_else(|| call.permission(), ToOwned::to_owned)
}

/// Returns EC2's message without the encoded one at its end. EC2 adds that where a permission is missing:
/// about a thousand characters that only a call of STS can decode, and that may differ each time.
///
/// Source: "`DecodeAuthorizationMessage`", AWS Security Token Service API Reference.
fn cut_encoded_message(message: &str) -> String {
    message.split("Encoded authorization failure message:").next().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str, message: &str) -> CallError {
        CallError {
            call: ApiCall::AuthorizeSecurityGroupIngress,
            object: "sg-1".into(),
            failure: Failure::ErrorCode(code.into()),
            message: message.into(),
            retry_after: None,
        }
    }

    #[test]
    fn encoded_message_is_cut_off() {
        let message = "You are not authorized to perform this operation. User: x is not authorized. Encoded \
                       authorization failure message: 4GIOHlTkIaWHQD0Q0m6XSnuUMCm";
        assert_eq!(
            cut_encoded_message(message),
            "You are not authorized to perform this operation. User: x is not authorized."
        );
        assert_eq!(cut_encoded_message("The group does not exist"), "The group does not exist");
    }

    #[test]
    fn every_code_has_its_kind() {
        let table = [
            ("RequestLimitExceeded", "Throttled"),
            ("Throttling", "Throttled"),
            ("InternalError", "Unavailable"),
            ("Unavailable", "Unavailable"),
            ("UnauthorizedOperation", "PermissionDenied"),
            ("AccessDenied", "PermissionDenied"),
            ("AuthFailure", "PermissionDenied"),
            ("RulesPerSecurityGroupLimitExceeded", "QuotaReached"),
            ("SecurityGroupsPerInterfaceLimitExceeded", "QuotaReached"),
            ("SecurityGroupLimitExceeded", "QuotaReached"),
            ("InvalidGroup.NotFound", "NotFound"),
            ("InvalidSecurityGroupID.NotFound", "NotFound"),
            ("InvalidInstanceID.NotFound", "NotFound"),
            ("InvalidNetworkInterfaceID.NotFound", "NotFound"),
            ("InvalidPermission.NotFound", "NotFound"),
            ("DependencyViolation", "InUse"),
            ("InvalidGroup.InUse", "InUse"),
            ("InvalidGroup.Duplicate", "Conflict"),
            ("InvalidPermission.Duplicate", "Conflict"),
            ("InvalidInstanceID", "InvalidRequest"),
            ("InvalidParameterValue", "InvalidRequest"),
            ("SomethingNew", "InvalidRequest"),
        ];
        for (code, reason) in table {
            assert_eq!(ProviderError::from(error(code, "")).reason(), reason, "{code}");
        }
    }

    #[test]
    fn quota_error_names_the_quota() {
        let text = ProviderError::from(error("RulesPerSecurityGroupLimitExceeded", "too many")).to_string();
        assert!(text.contains("L-0EA8095F") && text.contains("too many"), "{text}");
    }

    #[test]
    fn denied_call_names_the_missing_permission() {
        let plain = ProviderError::from(error("UnauthorizedOperation", "You are not authorized."));
        assert_eq!(plain.kind, ErrorKind::PermissionDenied, "{plain}");
        assert_eq!(plain.call, "ec2:AuthorizeSecurityGroupIngress");
        let message = "You are not authorized to perform this operation. User: arn:aws:sts::1:x is not \
                       authorized to perform: ec2:CreateTags on resource: \
                       arn:aws:ec2:::security-group-rule/*";
        let tags = ProviderError::from(error("UnauthorizedOperation", message));
        assert_eq!(tags.kind, ErrorKind::PermissionDenied, "{tags}");
        assert_eq!(tags.call, "ec2:CreateTags");
    }

    #[test]
    fn unsent_request_points_to_the_credentials() {
        let error = CallError { failure: Failure::NotSent, ..error("", "no providers in chain") };
        assert_eq!(error.attempt(), Attempt::Final);
        assert!(ProviderError::from(error).to_string().contains("check the AWS credentials"));
    }
}
