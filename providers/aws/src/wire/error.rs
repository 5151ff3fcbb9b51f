//! EC2's error codes, and what each means for what to do next.
//!
//! Source: "Error codes for the Amazon EC2 API", Amazon EC2 Developer Guide.

use std::fmt;

use aws_sdk_ec2::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use firewall_core::{ErrorKind, ProviderError};

use crate::action::Ec2Action;

/// A call that failed, with EC2's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallError {
    pub(crate) action: Ec2Action,
    pub(crate) object: String,
    pub(crate) cause: Cause,
    pub(crate) message: String,
}

/// How far a call came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// EC2 answered with this code.
    Code(String),
    /// EC2 failed without a code that means anything.
    Server,
    /// The network failed; whether the call took effect is unknown.
    Network,
    /// The request was never sent: no credentials, most likely.
    NotSent,
}

impl CallError {
    pub(crate) fn new<E>(action: Ec2Action, object: &str, error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let cause = match error {
            SdkError::ServiceError(context) => {
                let server = context.raw().status().is_server_error();
                match error.code() {
                    Some(code) if !server || kind(code) != Kind::Refused => Cause::Code(code.to_owned()),
                    _ => Cause::Server,
                }
            }
            SdkError::TimeoutError(_) | SdkError::ResponseError(_) => Cause::Network,
            SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => Cause::Network,
            _ => Cause::NotSent,
        };
        let message = error.message().map_or_else(|| DisplayErrorContext(error).to_string(), readable);
        Self { action, object: object.to_owned(), cause, message }
    }

    /// Whether EC2 answered with this code.
    pub(crate) fn is(&self, code: &str) -> bool {
        matches!(&self.cause, Cause::Code(own) if own == code)
    }

    /// Whether a permission is missing; credentials that are no good are something else.
    pub(crate) fn is_unauthorized(&self) -> bool {
        ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException"].iter().any(|code| self.is(code))
    }

    /// Whether the object is still in use.
    pub(crate) fn is_in_use(&self) -> bool {
        self.kind() == Kind::InUse
    }

    /// Whether the same call may well work a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self.kind(), Kind::Throttled | Kind::Transient)
    }

    /// Whether the account's call rate is used up.
    pub(crate) fn is_throttled(&self) -> bool {
        self.kind() == Kind::Throttled
    }

    fn kind(&self) -> Kind {
        match &self.cause {
            Cause::Code(code) => kind(code),
            Cause::Server | Cause::Network => Kind::Transient,
            Cause::NotSent => Kind::Denied,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}: ", self.action, self.object)?;
        if let Cause::Code(code) = &self.cause {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// What an error code means for what to do next: the variants of [`ProviderError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Throttled,
    Transient,
    Denied,
    Quota,
    NotFound,
    InUse,
    Conflict,
    Refused,
}

fn kind(code: &str) -> Kind {
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
        | "PriorRequestNotComplete" => Kind::Throttled,
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
        | "IncorrectInstanceState" => Kind::Transient,
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
        | "OperationNotPermitted" => Kind::Denied,
        "DependencyViolation" | "InvalidGroup.InUse" => Kind::InUse,
        _ if code.ends_with("LimitExceeded") => Kind::Quota,
        _ if code.ends_with(".NotFound") => Kind::NotFound,
        _ if code.ends_with(".Duplicate") => Kind::Conflict,
        _ => Kind::Refused,
    }
}

impl From<CallError> for ProviderError {
    fn from(error: CallError) -> Self {
        let kind = error.kind();
        let message = explained(&error);
        let (call, object) = (error.action.to_string(), error.object);
        match kind {
            Kind::Throttled => Self::new(ErrorKind::Throttled, call, object, message),
            Kind::Transient => Self::new(ErrorKind::Unavailable, call, object, message),
            Kind::Denied => {
                let action = denied_action(error.action, &error.message);
                Self::new(ErrorKind::PermissionDenied, action, object, message)
            }
            Kind::Quota => Self::new(ErrorKind::QuotaReached, call, object, message),
            Kind::NotFound => Self::new(ErrorKind::NotFound, call, object, message),
            Kind::InUse => Self::new(ErrorKind::InUse, call, object, message),
            Kind::Conflict => Self::new(ErrorKind::Conflict, call, object, message),
            Kind::Refused => Self::new(ErrorKind::InvalidRequest, call, object, message),
        }
    }
}

/// EC2's words, with the remedy where EC2 does not name it.
fn explained(error: &CallError) -> String {
    let Cause::Code(code) = &error.cause else {
        return match error.cause {
            Cause::NotSent => {
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
            "raise the VPC quota \"Security groups per network interface\" (L-2AFB9258), or set the provider's \
             slots per interface to what is allowed"
        }
        "SecurityGroupLimitExceeded" | "ResourceLimitExceeded" => {
            "raise the VPC quota \"VPC security groups per Region\" (L-E79EC296)"
        }
        _ if kind(code) == Kind::Quota => "raise the quota in the Service Quotas console",
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

/// The permission that was missing. EC2 checks others than the called action too (`ec2:CreateTags` when
/// something is created with tags), and names the one that failed in its message.
fn denied_action(called: Ec2Action, message: &str) -> String {
    let named = message.split_once("not authorized to perform: ").map(|(_, rest)| rest);
    let named = named.and_then(|rest| rest.split_whitespace().next());
    named.filter(|action| action.contains(':')).map_or_else(|| called.permission(), ToOwned::to_owned)
}

/// EC2's message without the encoded one that it ends with where a permission is missing: about a thousand characters that
/// only a call of STS can read, and that may differ each time.
///
/// Source: "`DecodeAuthorizationMessage`", AWS Security Token Service API Reference.
fn readable(message: &str) -> String {
    message.split("Encoded authorization failure message:").next().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str, message: &str) -> CallError {
        CallError {
            action: Ec2Action::AuthorizeSecurityGroupIngress,
            object: "sg-1".into(),
            cause: Cause::Code(code.into()),
            message: message.into(),
        }
    }

    #[test]
    fn what_only_a_machine_can_read_is_cut_from_a_message() {
        let message = "You are not authorized to perform this operation. User: x is not authorized. Encoded authorization \
                       failure message: 4GIOHlTkIaWHQD0Q0m6XSnuUMCm";
        assert_eq!(
            readable(message),
            "You are not authorized to perform this operation. User: x is not authorized."
        );
        assert_eq!(readable("The group does not exist"), "The group does not exist");
    }

    #[test]
    fn every_code_leads_to_the_one_next_action() {
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
    fn a_quota_error_names_the_quota() {
        let text = ProviderError::from(error("RulesPerSecurityGroupLimitExceeded", "too many")).to_string();
        assert!(text.contains("L-0EA8095F") && text.contains("too many"), "{text}");
    }

    #[test]
    fn a_denied_call_names_the_permission_that_was_missing() {
        let plain = ProviderError::from(error("UnauthorizedOperation", "You are not authorized."));
        assert_eq!(plain.kind, ErrorKind::PermissionDenied, "{plain}");
        assert_eq!(plain.call, "ec2:AuthorizeSecurityGroupIngress");
        let message = "You are not authorized to perform this operation. User: arn:aws:sts::1:x is not authorized \
                       to perform: ec2:CreateTags on resource: arn:aws:ec2:::security-group-rule/*";
        let tags = ProviderError::from(error("UnauthorizedOperation", message));
        assert_eq!(tags.kind, ErrorKind::PermissionDenied, "{tags}");
        assert_eq!(tags.call, "ec2:CreateTags");
    }

    #[test]
    fn a_request_that_was_never_sent_points_to_the_credentials() {
        let error = CallError { cause: Cause::NotSent, ..error("", "no providers in chain") };
        assert!(!error.is_passing());
        assert!(ProviderError::from(error).to_string().contains("check the AWS credentials"));
    }
}
