//! Seeded bugs: programs that break one promise each, to show that the checker finds it.

use firewall_core::testing::conformance::rule;
use firewall_core::testing::memory::{MemoryKey, MemoryResource};
use firewall_core::{Action, Compiled, IngressRule, ResourceSet};

use crate::checker::Promise;
use crate::cloud::CLUSTER;
use crate::history::CloudKind;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Removes everything at the first read, before the cluster is known
    RevokesBeforeSync,
    /// Attaches a group that is open to everything until its rules are narrowed
    AttachesBeforeNarrowing,
    /// Takes another's group off the machine together with its own
    DetachesForeignGroup,
    /// Replaces an attachment by removing it first
    ReplacesByDeleting,
    /// Opens one port more than asked for
    OpensOnePortMore,
    /// Opens to anywhere what is asked for from some
    OpensToAnywhere,
    /// Never closes
    NeverCloses,
    /// Forgets one of two groups of a machine
    ForgetsOneGroup,
    /// Writes at every read, changed or not
    WritesAtEveryRead,
    /// Leaves the egress rules of a new group of EC2, which are open to anywhere
    LeavesEgressOpen,
    /// Two processes lead: no Lease is asked
    LeadsTwice,
}

impl Mutant {
    pub(crate) const ALL: [Self; 11] = [
        Self::RevokesBeforeSync,
        Self::AttachesBeforeNarrowing,
        Self::DetachesForeignGroup,
        Self::ReplacesByDeleting,
        Self::OpensOnePortMore,
        Self::OpensToAnywhere,
        Self::NeverCloses,
        Self::ForgetsOneGroup,
        Self::WritesAtEveryRead,
        Self::LeavesEgressOpen,
        Self::LeadsTwice,
    ];

    /// Returns the promise that it breaks.
    pub(crate) const fn breaks(self) -> Promise {
        match self {
            Self::RevokesBeforeSync | Self::ReplacesByDeleting => Promise::StaysOpen,
            Self::AttachesBeforeNarrowing
            | Self::OpensOnePortMore
            | Self::OpensToAnywhere
            | Self::LeavesEgressOpen => Promise::NeverMore,
            Self::DetachesForeignGroup => Promise::OnlyItsOwn,
            Self::NeverCloses | Self::ForgetsOneGroup => Promise::Exact,
            Self::WritesAtEveryRead => Promise::BoundedCalls,
            Self::LeadsTwice => Promise::OneWriter,
        }
    }

    /// Returns true if it shows only where replicas take turns.
    pub(crate) const fn needs_lease(self) -> bool {
        matches!(self, Self::LeadsTwice)
    }

    /// Returns the cloud that has it.
    pub(crate) const fn cloud(self) -> CloudKind {
        match self {
            Self::LeavesEgressOpen => CloudKind::Ec2,
            _ => CloudKind::Memory,
        }
    }

    /// Returns true if the bug is to leave this call out.
    pub(crate) fn skips(self, action: &str) -> bool {
        self == Self::LeavesEgressOpen && action == "RevokeSecurityGroupEgress"
    }

    /// Returns the resources that the bug would have.
    pub(crate) fn compiled(self, mut compiled: Compiled<MemoryResource>) -> Compiled<MemoryResource> {
        let changed = |mut one: MemoryResource| {
            match self {
                Self::OpensOnePortMore if !one.rules.is_empty() => {
                    _ = one.rules.insert(rule("tcp/81 0.0.0.0/0"));
                }
                Self::OpensToAnywhere => one.rules = one.rules.iter().map(|rule| anywhere(*rule)).collect(),
                Self::ForgetsOneGroup if one.groups.len() > 1 => _ = one.groups.pop_last(),
                _ => {}
            }
            one
        };
        compiled.resources = compiled.resources.into_values().map(changed).collect();
        compiled
    }

    /// Returns the calls that the bug makes after a read.
    pub(crate) fn after_read(
        self,
        observed: &ResourceSet<MemoryResource>,
        is_first: bool,
    ) -> Vec<Action<MemoryResource>> {
        let attachments = observed.values().filter(|one| matches!(one.key, MemoryKey::Attachment(..)));
        match self {
            Self::RevokesBeforeSync if is_first => attachments.cloned().map(Action::Delete).collect(),
            Self::WritesAtEveryRead => attachments
                .cloned()
                .map(|one| Action::Update { from: one.clone(), to: one })
                .take(1)
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Returns the calls that the bug makes for one.
    pub(crate) fn actions(
        self,
        action: &Action<MemoryResource>,
        cloud: &ResourceSet<MemoryResource>,
    ) -> Vec<Action<MemoryResource>> {
        let is_attachment = matches!(action.key(), MemoryKey::Attachment(..));
        match (self, action) {
            (Self::AttachesBeforeNarrowing, Action::Create(group)) if !is_attachment => {
                let mut wide = group.clone();
                wide.rules = group.rules.iter().map(|rule| anywhere(*rule)).collect();
                wide.rules.insert(rule("tcp/22 0.0.0.0/0"));
                vec![Action::Create(wide)]
            }
            (Self::DetachesForeignGroup, Action::Update { .. } | Action::Delete(_)) if is_attachment => {
                let is_foreign = |one: &&MemoryResource| {
                    matches!(&one.key, MemoryKey::Attachment(cluster, machine)
                        if cluster != CLUSTER && matches!(action.key(), MemoryKey::Attachment(_, own) if own == *machine))
                };
                let foreign = cloud.values().filter(is_foreign).cloned().map(Action::Delete);
                foreign.chain([action.clone()]).collect()
            }
            (Self::ReplacesByDeleting, Action::Update { from, to }) if is_attachment => {
                vec![Action::Delete(from.clone()), Action::Create(to.clone())]
            }
            (Self::NeverCloses, Action::Delete(_)) => Vec::new(),
            (Self::NeverCloses, Action::Update { from, to }) => {
                let mut both = to.clone();
                both.rules.extend(from.rules.iter().copied());
                both.groups.extend(from.groups.iter().cloned());
                vec![Action::Update { from: from.clone(), to: both }]
            }
            _ => vec![action.clone()],
        }
    }
}

fn anywhere(narrow: IngressRule) -> IngressRule {
    let source = if narrow.source.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    IngressRule::new(narrow.protocol, narrow.ports, source.parse().expect("a range"))
}
