//! What the API server sends, after decoding: objects that matter, the names of those that do not, and errors.

use std::fmt;

use crate::k8s::index::{NamespacedName, Object};
use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::{Problem, Verdict};
use crate::k8s::reasons::UNREADABLE;

use super::kind::Kind;

/// The encoding of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    /// Returns the encoding that a `Content-Type` names: JSON unless it says otherwise.
    pub(super) fn of(content_type: &str) -> Self {
        if content_type.starts_with("application/vnd.kubernetes.protobuf") {
            Self::Protobuf
        } else {
            Self::Json
        }
    }
}

/// One event of a watch.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// An object exists, as it is now
    Exists { received: Received, resource_version: String },
    /// An object is deleted, or fits the selectors no more
    Deleted { name: NamespacedName, resource_version: String },
    /// Everything up to this version has been sent
    Bookmark {
        resource_version: String,
        /// True if these were all objects that a streaming list begins with
        ends_list: bool,
    },
    /// The server ends the watch
    Refused(Refusal),
}

impl Event {
    /// Returns the version from which a watch can go on after this event.
    pub(super) fn resource_version(&self) -> Option<&str> {
        match self {
            Self::Exists { resource_version, .. }
            | Self::Deleted { resource_version, .. }
            | Self::Bookmark { resource_version, .. } => Some(resource_version.as_str()),
            Self::Refused(_) => None,
        }
        .filter(|version| !version.is_empty())
    }
}

/// An object, as far as it matters.
#[derive(Debug, PartialEq)]
pub(super) struct Received {
    pub(super) name: NamespacedName,
    pub(super) content: Content,
}

/// The part of an object that is kept.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    /// It can decide about ports
    Relevant(Box<Object>),
    /// It cannot
    Irrelevant,
    /// Its fields are not those of its kind
    Unreadable(Box<Problem>),
}

impl Received {
    /// Returns a decoded object, without its content if that cannot matter.
    pub(super) fn new(object: Object) -> Self {
        let name = object.name();
        let is_relevant = object.is_relevant();
        let content = if is_relevant { Content::Relevant(Box::new(object)) } else { Content::Irrelevant };
        Self { name, content }
    }

    /// Returns an object that cannot be decoded: it must not hide the others of its kind.
    pub(super) fn unreadable(kind: &Kind, name: NamespacedName, uid: String, mut error: String) -> Self {
        /// In bytes. Serde's text can repeat a value of any length.
        const MAX_ERROR_LENGTH: usize = 200;
        error.truncate(error.floor_char_boundary(MAX_ERROR_LENGTH));
        let (api_version, kind) = kind.watch.kind();
        let object = ObjectRef {
            api_version,
            kind: kind.into(),
            namespace: name.0.clone(),
            name: name.1.clone(),
            uid,
        };
        let message =
            format!("it cannot be read: nothing is opened for it, what is open stays open: {error}");
        let problem = Problem::new(object, Verdict::Rejected, UNREADABLE, message);
        Self { name, content: Content::Unreadable(Box::new(problem)) }
    }
}

/// One page of a list.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Page {
    pub(super) items: Vec<Received>,
    pub(super) resource_version: String,
    /// The token of the next page, if there is one
    pub(super) next: Option<String>,
}

/// An answer of the API server that is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    /// As HTTP's
    pub(super) code: u16,
    pub(super) message: String,
    /// Where a list can go on whose version is no longer kept
    pub(super) next: Option<String>,
}

impl Refusal {
    /// Returns true if the version that was asked for is no longer kept.
    pub(super) fn is_expired(&self) -> bool {
        self.code == 410
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the API server answers {}: {}", self.code, self.message)
    }
}

/// An answer that is not what its encoding says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbled(pub(super) String);
