//! The candidate for a Lease: decides what to read and write, when it leads and until when. Pure: the time is
//! an argument, on any clock that only moves forward.
//!
//! The holder stops writing well before its lease can pass to another: it leads for [`RENEW_DEADLINE`] from
//! when its last renewal was *sent*, and others wait [`DURATION`] from the last renewal that *they* saw, by
//! their own clocks, so that clocks of different machines are never compared.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};

/// Time that a lease which is not renewed stays with its holder.
pub(super) const DURATION: Duration = Duration::from_secs(15);

/// Time that the holder goes on without a successful renewal, from when it was sent.
pub(super) const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// Time between two renewals of the holder, and between two looks of the others.
pub(super) const RETRY: Duration = Duration::from_secs(2);

/// Conflicts after which a round is over: something else writes the Lease all the time.
const MOST_CONFLICTS: u32 = 2;

/// The annotation of the Lease that names the cluster whose controller holds it.
const CLUSTER: &str = "hostport-firewall.dev/cluster";

/// Something that has happened.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The time of the last [`Action::Wait`] has come.
    Due,
    /// The Lease has been read; none if it does not exist.
    Read(Option<Box<Lease>>),
    /// The Lease has been written.
    Written,
    /// The Lease has changed since it was read, and was not written.
    Conflict,
    /// A call has failed, or was not answered in time. It may have taken effect.
    Failed,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Read the Lease.
    Read,
    /// Write the Lease, at once: the time until which it holds counts from now. It has no times yet.
    Write(Box<Lease>),
    /// Wait until then.
    Wait(Duration),
    /// Stop all writing: this candidate led, and does not any more.
    Stop(Loss),
}

/// The end of leading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Another holds the Lease.
    Taken(Holder),
    /// It could not be renewed in time.
    NotRenewed,
}

/// The holder of the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// Its identity
    pub(super) identity: String,
    /// The name of its cluster in the clouds, if it has said one
    pub(super) cluster: Option<String>,
}

/// One process that holds the Lease or waits for it.
#[derive(Debug)]
pub(super) struct Candidate {
    name: String,
    /// Unique among processes, also among restarts of one pod
    identity: String,
    cluster: String,
    /// Somebody else's claim, and when it was first seen. Annotations are no sign of life.
    seen: Option<(LeaseSpec, Duration)>,
    /// Until when it leads; none while it does not
    leads_until: Option<Duration>,
    sent: Duration,
    conflicts: u32,
    rival: Option<Holder>,
}

impl Candidate {
    /// Returns a candidate for the Lease of this name.
    pub(super) fn new(name: &str, identity: &str, cluster: &str) -> Self {
        Self {
            name: name.to_owned(),
            identity: identity.to_owned(),
            cluster: cluster.to_owned(),
            seen: None,
            leads_until: None,
            sent: Duration::ZERO,
            conflicts: 0,
            rival: None,
        }
    }

    /// Returns the name of the Lease.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the identity under which it holds the Lease.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Returns until when it leads; none while it does not.
    pub(super) const fn leads_until(&self) -> Option<Duration> {
        self.leads_until
    }

    /// Returns the other that held the Lease when it was read last.
    pub(super) const fn rival(&self) -> Option<&Holder> {
        self.rival.as_ref()
    }

    /// Returns true if the Lease is another cluster's: then this candidate may wait for ever.
    pub(super) fn is_held_by_another_cluster(&self) -> bool {
        self.rival.as_ref().and_then(|rival| rival.cluster.as_ref()).is_some_and(|name| *name != self.cluster)
    }

    /// Takes what has happened, and returns what to do next.
    pub(super) fn step(&mut self, now: Duration, event: Event) -> Action {
        if self.leads_until.is_some_and(|until| now >= until) {
            self.leads_until = None;
            return Action::Stop(Loss::NotRenewed);
        }
        match event {
            Event::Due => {
                self.conflicts = 0;
                Action::Read
            }
            Event::Read(lease) => self.decide(now, lease.map(|lease| *lease)),
            Event::Written => {
                self.leads_until = Some(self.sent + RENEW_DEADLINE);
                self.wait(now)
            }
            // Its own write whose answer was lost, or a write of somebody who does not want the lease: only
            // its holder tells.
            Event::Conflict => {
                self.conflicts += 1;
                if self.conflicts <= MOST_CONFLICTS { Action::Read } else { self.wait(now) }
            }
            Event::Failed => self.wait(now),
        }
    }

    fn wait(&self, now: Duration) -> Action {
        Action::Wait(self.leads_until.map_or(now + RETRY, |until| until.min(now + RETRY)))
    }

    /// Writes the Lease if it is free, run out, or this candidate's.
    fn decide(&mut self, now: Duration, lease: Option<Lease>) -> Action {
        self.rival = None;
        let mut lease = lease.unwrap_or_default();
        let spec = lease.spec.take();
        if let Some(holder) = holder(&lease, spec.as_ref()).filter(|holder| holder.identity != self.identity)
        {
            self.rival = Some(holder.clone());
            if self.leads_until.take().is_some() {
                return Action::Stop(Loss::Taken(holder));
            }
            if !self.has_run_out(now, spec.clone().unwrap_or_default()) {
                return self.wait(now);
            }
        }
        lease.metadata.name = Some(self.name.clone());
        lease.metadata.annotations.get_or_insert_default().insert(CLUSTER.to_owned(), self.cluster.clone());
        lease.spec = Some(self.claim(spec.as_ref()));
        self.sent = now;
        Action::Write(Box::new(lease))
    }

    fn has_run_out(&mut self, now: Duration, spec: LeaseSpec) -> bool {
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let since = match &self.seen {
            Some((seen, since)) if *seen == spec => *since,
            _ => {
                self.seen = Some((spec, now));
                now
            }
        };
        now.saturating_sub(since) > seconds.map_or(DURATION, Duration::from_secs)
    }

    fn claim(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let is_own = before.is_some_and(|spec| spec.holder_identity.as_ref() == Some(&self.identity));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: before.filter(|_| is_own).and_then(|spec| spec.acquire_time.clone()),
            lease_transitions: Some(transitions + i32::from(before.is_some() && !is_own)),
            ..LeaseSpec::default()
        }
    }
}

/// Returns the holder of a Lease; none if it is free.
fn holder(lease: &Lease, spec: Option<&LeaseSpec>) -> Option<Holder> {
    let identity = spec?.holder_identity.clone().filter(|identity| !identity.is_empty())?;
    let annotations = lease.metadata.annotations.as_ref();
    Some(Holder { identity, cluster: annotations.and_then(|all| all.get(CLUSTER)).cloned() })
}

#[cfg(test)]
mod tests;
