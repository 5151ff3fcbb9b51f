//! Problems: what somebody must know about an object, with the reason.

use std::fmt;

use serde::Serialize;

use super::objects::ObjectRef;

/// What somebody must know about one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The object it concerns
    pub object: ObjectRef,
    /// What has become of what is asked for
    pub verdict: Verdict,
    /// Why, as one word in `CamelCase`
    pub reason: String,
    /// What is wrong and what to do about it
    pub message: String,
}

/// What has become of something that is asked for: the reason of the Event that tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verdict {
    /// The cloud lets it in
    Opened,
    /// The cloud no longer lets it in
    Closed,
    /// It cannot be understood, or a guardrail stands against it
    Refused,
    /// It should be open, and the node or the cloud stands against it
    Failed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opened => "Opened",
            Self::Closed => "Closed",
            Self::Refused => "Refused",
            Self::Failed => "Failed",
        })
    }
}

impl Problem {
    /// The same for another object that it concerns.
    #[must_use]
    pub fn to(&self, other: &ObjectRef) -> Self {
        let message = format!("{}: {}", self.object, self.message);
        Self { object: other.clone(), message, reason: self.reason.clone(), verdict: self.verdict }
    }
}
