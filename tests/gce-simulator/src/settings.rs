//! What a test can set: delays, limits, and faults to come.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the simulated service behaves.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// How long operations take
    #[serde(with = "millis")]
    pub operation_delay: Duration,
    /// After how long `wait` answers although the operation goes on
    #[serde(with = "millis")]
    pub longest_wait: Duration,
    /// Whether a rule shows before the operation that makes it has ended
    pub visible_while_pending: bool,
    /// Whether an outdated fingerprint shows in the operation instead of in the answer
    pub fingerprint_conflict_in_operation: bool,
    /// The most items on a page, whatever is asked for
    pub page_size: usize,
    /// Quota FIREWALLS of each project
    pub firewalls_per_project: usize,
    /// Source ranges, and destination ranges, of a rule
    pub ranges_per_rule: usize,
    /// Ports and port ranges of a rule
    pub ports_per_rule: usize,
    /// Target tags of a rule
    pub target_tags_per_rule: usize,
    /// Source tags of a rule
    pub source_tags_per_rule: usize,
    /// Service accounts of a rule, source and target each
    pub service_accounts_per_rule: usize,
    /// Tags of an instance
    pub tags_per_instance: usize,
    /// The project that the metadata server names; it does not know one if `None`
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

/// What happens to the next calls of a method.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// A method's id, for example `compute.firewalls.insert`; `*` for any
    pub method: String,
    /// How many calls it happens to
    pub times: usize,
    /// What happens
    pub kind: FaultKind,
}

/// A fault.
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
    /// Only of `compute.instances.get`: right after the answer, somebody else adds this tag to the instance.
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
