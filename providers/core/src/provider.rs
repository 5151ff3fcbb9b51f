//! The trait that a cloud implements, and the errors that decide when a change is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::time::Duration;

use thiserror::Error;

use crate::{Action, Compiled, Desired, Fenced, InstanceId, Resource, ResourceSet};

/// A cloud: compiles firewall groups to its resources, observes them, and applies changes to them.
///
/// A provider makes no choices about order: it applies one [`Action`] at a time, idempotently, and reports
/// the result.
pub trait FirewallProvider: Send + Sync {
    /// The resources that firewall groups compile to.
    type Resource: Resource;
    /// Facts about the instances themselves (their network, their free slots): read, never changed.
    type Inventory: Send + Sync;

    /// Returns the provider's short name: `aws`, `gce`.
    fn name(&self) -> &'static str;

    /// Returns the instance behind a node, from `spec.providerID`; `None` if the id is another provider's.
    ///
    /// # Errors
    /// The id is this cloud's, but no instance's (a Fargate node, a malformed id); the text names the cause.
    fn parse_provider_id(&self, provider_id: &str) -> Option<Result<InstanceId, String>>;

    /// Returns how the providerIDs of this provider's machines begin. A machine of this cloud whose
    /// providerID begins otherwise, such as one of another project, is left to another controller.
    fn provider_id_prefixes(&self) -> Vec<String>;

    /// Compiles firewall groups to resources within the cloud's limits. Pure.
    fn compile(&self, desired: &Desired, inventory: &Self::Inventory) -> Compiled<Self::Resource>;

    /// Reads every resource that carries this cluster's mark, and the facts about `members`.
    ///
    /// What the cloud does not say about single members is no error, and not taken for their absence: they are
    /// [unknown](Observed::unknown_instances).
    ///
    /// # Errors
    /// If any page is missing: a part of the state is never returned as the whole.
    fn observe(
        &self,
        members: &BTreeSet<InstanceId>,
    ) -> impl Future<Output = Result<Observed<Self::Resource, Self::Inventory>, ProviderError>> + Send;

    /// Brings up to date what is known from an earlier answer and from the changes made since: reads the
    /// resources that a plan relies on, so that none that somebody has widened gets another member and none that
    /// is somebody else's now is changed, and what is not known about members; not the instances that are known,
    /// nor what is looked at anyway when it is changed. Returns true if somebody else has changed something of
    /// that.
    ///
    /// `known` has the resources as the changes have left them; its inventory is of before.
    ///
    /// # Errors
    /// As of [`observe`](Self::observe); then what is known is of no use any more.
    fn observe_added(
        &self,
        known: &mut Observed<Self::Resource, Self::Inventory>,
        changes: &ChangesSince<<Self::Resource as Resource>::Key>,
    ) -> impl Future<Output = Result<bool, ProviderError>> + Send;

    /// Returns true if a group's rules name its members, so that they change with each one that comes or goes.
    fn rules_name_members(&self) -> bool;

    /// Returns true if it takes facts about an instance, as its address, to tell what is open there: its id does not
    /// say it.
    fn places_by_facts(&self) -> bool {
        false
    }

    /// Returns the instances at which something else may be needed where something else is asked for at these,
    /// themselves included; `None` if these may be any.
    fn find_affected(
        &self,
        instances: &BTreeSet<InstanceId>,
        inventory: &Self::Inventory,
    ) -> Option<BTreeSet<InstanceId>>;

    /// Returns the id that the cloud has given a resource, if it is known and people need it beside the key.
    fn cloud_id(&self, key: &<Self::Resource as Resource>::Key) -> Option<String>;

    /// Estimates how long so many changes take at the rate that the cloud allows, from a full allowance.
    fn estimate_duration(&self, changes: usize) -> Duration;

    /// Applies one action: the difference between its before and its after, and nothing else, even where the
    /// cloud's state differs from both. Calling it again after a success, or after a crash halfway, does no
    /// harm.
    ///
    /// # Errors
    /// The error that remained after the provider's own retries of throttling and propagation delays.
    fn apply(
        &self,
        action: &Action<Self::Resource>,
    ) -> impl Future<Output = Result<Applied, ProviderError>> + Send;
}

/// The observed state of the cloud.
#[derive(Clone, Debug)]
pub struct Observed<R: Resource, I> {
    /// This cluster's resources, and foreign ones whose keys it could need
    pub resources: ResourceSet<R>,
    /// Facts about the instances
    pub inventory: I,
    /// The members about which the cloud gave no complete answer, with the reason: their zone did not answer,
    /// or one answer left them out. A member that is neither here nor known to the inventory is gone.
    pub unknown_instances: BTreeMap<InstanceId, String>,
}

/// Everything that has changed since the cloud was observed, as far as its observer knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangesSince<K> {
    /// The resources that steps have changed
    pub resources: BTreeSet<K>,
    /// The members that may not be known
    pub members: BTreeSet<InstanceId>,
    /// The instances that are members no longer
    pub left: BTreeSet<InstanceId>,
    /// The resources that a plan relies on; none if these may be any
    pub relied_on: Option<BTreeSet<K>>,
}

impl<K> ChangesSince<K> {
    /// Returns no changes, and that no resource is relied on.
    #[must_use]
    pub fn none() -> Self {
        let (members, left) = (BTreeSet::new(), BTreeSet::new());
        Self { resources: BTreeSet::new(), members, left, relied_on: Some(BTreeSet::new()) }
    }
}

/// The result of an action that succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The cloud's ids of the resources that were changed
    pub ids: Vec<String>,
    /// Remarks for the user
    pub notes: Vec<String>,
}

/// A failed call to the cloud, with its object and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ProviderError {
    /// The kind, which decides when the call is tried again
    pub kind: ErrorKind,
    /// The API call; the missing permission where [`kind`](Self::kind) is [`ErrorKind::PermissionDenied`]
    pub call: String,
    /// The object of the call
    pub object: String,
    /// The cloud's own message, with the remedy where that does not name it
    pub message: String,
    /// The command by which a user who has the permission can make the change instead
    pub manual_command: Option<String>,
}

/// The kinds of failure; each decides when the call is tried again, see [`ErrorKind::retry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The account's call rate is used up.
    Throttled,
    /// Another object has the name, or the object was changed meanwhile.
    Conflict,
    /// A limit of the account or of the object is reached.
    QuotaReached,
    /// A permission is missing.
    PermissionDenied,
    /// The object does not exist.
    NotFound,
    /// The object is still in use; deleting it has to wait.
    InUse,
    /// The network or the cloud failed; the same call may succeed later.
    Unavailable,
    /// The cloud refused the request as such; the same call will fail again.
    InvalidRequest,
    /// The right to write had ended: the request was not sent, or its answer is not known.
    Fenced,
}

/// The time after which trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Soon: the cloud's state changes by itself.
    Soon,
    /// After a person has acted, which trying now and then finds out.
    Later,
}

impl Retry {
    /// Returns the first and the longest delay between tries.
    #[must_use]
    pub const fn delays(self) -> (Duration, Duration) {
        match self {
            Self::Soon => (Duration::from_secs(1), Duration::from_mins(1)),
            Self::Later => (Duration::from_secs(15), Duration::from_mins(10)),
        }
    }
}

impl ErrorKind {
    /// Returns the time after which trying again can help.
    #[must_use]
    pub const fn retry(self) -> Retry {
        match self {
            Self::Throttled | Self::NotFound | Self::InUse | Self::Unavailable => Retry::Soon,
            Self::Conflict
            | Self::QuotaReached
            | Self::PermissionDenied
            | Self::InvalidRequest
            | Self::Fenced => Retry::Later,
        }
    }

    /// Returns the reason for Events, conditions and metrics: one word in `CamelCase`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Throttled => "Throttled",
            Self::Conflict => "Conflict",
            Self::QuotaReached => "QuotaReached",
            Self::PermissionDenied => "PermissionDenied",
            Self::NotFound => "NotFound",
            Self::InUse => "InUse",
            Self::Unavailable => "Unavailable",
            Self::InvalidRequest => "InvalidRequest",
            Self::Fenced => "Fenced",
        }
    }
}

impl ProviderError {
    /// Returns the error of one call on one object.
    pub fn new(
        kind: ErrorKind,
        call: impl Into<String>,
        object: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        let (call, object, message) = (call.into(), object.into(), message.into());
        Self { kind, call, object, message, manual_command: None }
    }

    /// Returns the error of a call that the [`Fence`](crate::Fence) has stopped.
    pub fn fenced(call: impl Into<String>, object: impl Into<String>) -> Self {
        Self::new(ErrorKind::Fenced, call, object, Fenced.to_string())
    }

    /// Returns the error with the command by which a user who has the permission can make the change instead.
    #[must_use]
    pub fn with_manual_command(self, command: String) -> Self {
        Self { manual_command: Some(command), ..self }
    }

    /// Returns the reason for Events, conditions and metrics: one word in `CamelCase`.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.kind.reason()
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, call, object, message, .. } = self;
        match kind {
            ErrorKind::Throttled => {
                write!(f, "{call} on {object} was throttled: {message}; retrying more slowly")
            }
            ErrorKind::Conflict => write!(f, "{call} on {object} met a conflict: {message}"),
            ErrorKind::QuotaReached => write!(f, "{call} on {object} reached a quota: {message}"),
            ErrorKind::PermissionDenied => write!(
                f,
                "permission {call} on {object} is missing: {message}; grant it (`iam/` has the policies)"
            ),
            ErrorKind::NotFound => write!(f, "{call}: {object} does not exist: {message}"),
            ErrorKind::InUse => write!(f, "{call}: {object} is still in use: {message}"),
            ErrorKind::Unavailable => write!(f, "{call} on {object} failed for now: {message}"),
            ErrorKind::InvalidRequest => write!(f, "{call} on {object} was refused: {message}"),
            ErrorKind::Fenced => write!(f, "{call} on {object} was stopped: {message}"),
        }
    }
}
