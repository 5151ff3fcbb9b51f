//! Problems: anything wrong with an object that its owner has to know, with the reason.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use super::objects::ObjectRef;
use super::plain_text::{escape_unprintable, shorten};

/// The longest message, in bytes: it can repeat what others wrote, and a tenant can have a hundred.
const MAX_MESSAGE_LENGTH: usize = 2048;

/// Something wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The object with the problem
    pub object: ObjectRef,
    /// The effect on the intent
    pub verdict: Verdict,
    /// The reason, as one word in `CamelCase`
    pub reason: String,
    /// The fault, and how to mend it
    pub message: String,
}

/// The effect of a problem on the intent; also the reason of the Event that reports the problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verdict {
    /// The intent cannot be understood, or a guardrail forbids it
    Rejected,
    /// The intent is valid, but the node or the cloud prevents its ports from being opened
    Failed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rejected => "Rejected",
            Self::Failed => "Failed",
        })
    }
}

impl Problem {
    /// Returns a problem whose message fits one line, whatever it repeats of what others wrote.
    #[must_use]
    pub fn new(object: ObjectRef, verdict: Verdict, reason: &str, mut message: String) -> Self {
        if let Cow::Owned(escaped) = escape_unprintable(&message) {
            message = escaped;
        }
        shorten(&mut message, MAX_MESSAGE_LENGTH);
        Self { object, verdict, reason: reason.to_owned(), message }
    }

    /// Returns the same problem for another object that it affects.
    #[must_use]
    pub fn to(&self, other: &ObjectRef) -> Self {
        let message = format!("{}: {}", self.object, self.message);
        Self { object: other.clone(), message, reason: self.reason.clone(), verdict: self.verdict }
    }
}
