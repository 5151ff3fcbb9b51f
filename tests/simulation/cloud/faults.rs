//! What goes wrong in a cloud.

use std::time::Duration;

use firewall_core::{ErrorKind, ProviderError};
use tokio::time::Instant;

use crate::landscape::WORKLOADS;
use crate::random::Random;

/// The faults of the moment.
#[derive(Debug)]
pub(crate) struct Faults {
    /// How long calls take, where nothing is wrong
    random: Random,
    /// Calls that create or change something of these workloads alone are refused
    pub(crate) refused: Vec<(usize, ErrorKind)>,
    /// No group can be created: their quota is reached
    pub(crate) refuses_groups: bool,
    /// Every call that changes something is throttled
    pub(crate) is_throttled: bool,
    /// So many of the next changes do not take effect, and their answers are lost
    pub(crate) lost_before: u32,
    /// So many of the next changes take effect, and their answers are lost
    pub(crate) lost_after: u32,
    /// Changes of a workload alone take so long
    pub(crate) slow: Vec<(usize, Duration)>,
    /// The cloud cannot be read
    pub(crate) is_unreadable: bool,
    /// So many of the next reads return the cloud as it was when the fault began
    pub(crate) stale_reads: u32,
    /// The time at which that began: no answer is much older
    pub(crate) stale_since: Option<Instant>,
    /// Machines that so many of the next reads leave out
    pub(crate) omitted: Vec<(usize, u32)>,
    pub(crate) kill: Option<Kill>,
}

/// The call at which its sender is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    /// So many calls come first
    pub(crate) calls: u32,
    /// It is killed before the call's effect, else after it
    pub(crate) before: bool,
    /// Reads are calls too
    pub(crate) at_reads: bool,
}

/// The fate of one call.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Succeeds,
    Fails(ProviderError),
    AnswerLost(ProviderError),
}

/// A change that is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// The object, and what it is for
    pub(crate) text: &'a str,
    /// It only closes
    pub(crate) closes: bool,
    pub(crate) creates_group: bool,
}

impl Faults {
    /// Returns none.
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            refused: Vec::new(),
            refuses_groups: false,
            is_throttled: false,
            lost_before: 0,
            lost_after: 0,
            slow: Vec::new(),
            is_unreadable: false,
            stale_reads: 0,
            stale_since: None,
            omitted: Vec::new(),
            kill: None,
        }
    }

    /// Decides the fate of a change.
    pub(crate) fn decide(&mut self, call: Call<'_>) -> Fate {
        let error = |kind, message: &str| ProviderError::new(kind, "call", call.text, message);
        let lost = || error(ErrorKind::Unavailable, "connection reset");
        if self.is_throttled {
            return Fate::Fails(error(ErrorKind::Throttled, "too many calls"));
        }
        if self.refuses_groups && call.creates_group {
            return Fate::Fails(error(ErrorKind::QuotaReached, "too many groups"));
        }
        let is_of = |workload: usize| !call.closes && is_of_alone(call.text, workload);
        if let Some((_, kind)) = self.refused.iter().find(|(workload, _)| is_of(*workload)) {
            return Fate::Fails(error(*kind, "as the history asks"));
        }
        if self.lost_before > 0 {
            self.lost_before -= 1;
            return Fate::Fails(lost());
        }
        if self.lost_after > 0 {
            self.lost_after -= 1;
            return Fate::AnswerLost(lost());
        }
        Fate::Succeeds
    }

    /// Returns true if the sender is killed before the effect of this call, and false if it is after it.
    pub(crate) fn next_kill(&mut self, is_read: bool) -> Option<bool> {
        let kill = self.kill.as_mut().filter(|kill| !is_read || kill.at_reads)?;
        if let Some(calls) = kill.calls.checked_sub(1) {
            kill.calls = calls;
            return None;
        }
        self.kill.take().map(|kill| kill.before)
    }

    /// Returns how long a change takes.
    pub(crate) fn duration(&mut self, call: &str) -> Duration {
        let slow = self.slow.iter().filter(|(workload, _)| is_of_alone(call, *workload));
        let usual = Duration::from_millis(self.random.between(20, 300));
        slow.map(|(_, duration)| *duration).max().unwrap_or(usual)
    }
}

/// Returns true if a call is about this workload and no other: one that has others too is neither refused nor slow for
/// one of them.
fn is_of_alone(call: &str, workload: usize) -> bool {
    let mut named = (0..WORKLOADS.len()).filter(|other| call.contains(WORKLOADS[*other].name));
    named.next() == Some(workload) && named.next().is_none()
}
