//! Settings that a test can change: delays, limits and faults.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The behaviour of the simulated service.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Duration of an operation; milliseconds in JSON
    #[serde(with = "millis")]
    pub operation_delay: Duration,
    /// Time after which `wait` answers even if the operation is still running; milliseconds in JSON
    #[serde(with = "millis")]
    pub longest_wait: Duration,
    /// True if a rule is visible before the operation that creates it has ended
    pub visible_while_pending: bool,
    /// True if an outdated fingerprint fails the operation instead of the call
    pub fingerprint_conflict_in_operation: bool,
    /// Largest number of items on a page, whatever `maxResults` says
    pub page_size: usize,
    /// Quota FIREWALLS of each project
    pub firewalls_per_project: usize,
    /// Limit of source ranges, and of destination ranges, of a rule
    pub ranges_per_rule: usize,
    /// Limit of ports and port ranges of a rule, over all protocols
    pub ports_per_rule: usize,
    /// Limit of target tags of a rule
    pub target_tags_per_rule: usize,
    /// Limit of source tags of a rule
    pub source_tags_per_rule: usize,
    /// Limit of service accounts of a rule, source and target each
    pub service_accounts_per_rule: usize,
    /// Limit of tags of an instance
    pub tags_per_instance: usize,
    /// The project that the metadata server names; `None` answers that no project is set
    pub project_id: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            operation_delay: Duration::from_millis(100),
            longest_wait: Duration::from_secs(2),
            visible_while_pending: false,
            fingerprint_conflict_in_operation: false,
            page_size: 500,
            firewalls_per_project: 100,
            ranges_per_rule: 256,
            ports_per_rule: 100,
            target_tags_per_rule: 70,
            source_tags_per_rule: 30,
            service_accounts_per_rule: 10,
            tags_per_instance: 64,
            project_id: None,
        }
    }
}

/// A fault that happens to the next calls of a method.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// A method's id, for example `compute.firewalls.insert`; `*` for any
    pub method: String,
    /// Number of calls that it happens to
    pub times: usize,
    /// The fault itself
    pub kind: FaultKind,
}

/// A kind of fault
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FaultKind {
    /// The answer comes late.
    #[serde(with = "millis")]
    Latency(Duration),
    /// The call is refused.
    Error {
        /// HTTP status
        status: u16,
        /// Google's reason, for example `rateLimitExceeded`
        reason: String,
        /// The text
        message: String,
        /// The seconds that the header `Retry-After` names, if there is one
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// The call takes effect, and its answer never arrives.
    DropResponse,
    /// The call is accepted, and its operation ends in an error without effect.
    OperationError {
        /// HTTP status of the operation's error
        status: u16,
        /// Google's code, for example `INVALID_USAGE`
        code: String,
        /// The text
        message: String,
    },
    /// The call is accepted, and its operation takes this long.
    #[serde(with = "millis")]
    SlowOperation(Duration),
    /// Only of lists of instances: the instance of this name is left out, and nothing says so.
    LeaveOut(String),
    /// Only of `compute.instances.list` in the zone of this name: the zone is unknown.
    UnknownZone(String),
    /// Only of `compute.instances.aggregatedList`: the zone of this name has a warning in place of its
    /// instances.
    Unreachable(String),
    /// Only of `compute.instances.get`: right after the answer, another caller adds this tag to the instance.
    AddTag(String),
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
