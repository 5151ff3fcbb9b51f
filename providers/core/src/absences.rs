//! Remembers which instances the cloud's answers have left out: one answer may be incomplete without saying
//! so, two that lie apart are not. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::InstanceId;

/// The time that must lie between two complete answers without an instance for it to be gone.
pub const GONE_AFTER: Duration = Duration::from_mins(1);

/// The instances that the last complete answer left out, with the time since when.
#[derive(Clone, Debug, Default)]
pub struct Absences(BTreeMap<InstanceId, Instant>);

impl Absences {
    /// Returns true if no answer has left the instance out since it was last there.
    #[must_use]
    pub fn is_new(&self, instance: &InstanceId) -> bool {
        !self.0.contains_key(instance)
    }

    /// Records that a complete answer at `now` leaves the instance out. Returns true if it is gone: one at
    /// least [`GONE_AFTER`] ago left it out too, and none since had it.
    pub fn record(&mut self, instance: &InstanceId, now: Instant) -> bool {
        let since = *self.0.entry(instance.clone()).or_insert(now);
        now.duration_since(since) >= GONE_AFTER
    }

    /// Forgets the instances that an answer had, or that are no longer asked for.
    pub fn retain(&mut self, is_absent: impl Fn(&InstanceId) -> bool) {
        self.0.retain(|instance, _| is_absent(instance));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_is_gone_after_two_answers_a_minute_apart() {
        let (mut absences, id, start) = (Absences::default(), InstanceId::new("i-1"), Instant::now());
        assert!(absences.is_new(&id));
        assert!(!absences.record(&id, start));
        assert!(!absences.is_new(&id) && !absences.record(&id, start + Duration::from_secs(59)));
        assert!(absences.record(&id, start + GONE_AFTER));
        absences.retain(|_| false);
        assert!(!absences.record(&id, start + GONE_AFTER * 2), "it was there meanwhile");
    }
}
