//! The opening: a request that the guardrails allow, with what the nodes on which it opens ports share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firewall_core::{GroupKey, RuleSet, digest};
use ipnet::IpNet;

use super::request::{GroupVariant, PortRequest, Rejected, fail, reject};
use super::rules;
use super::settings::Settings;
use crate::guardrails::{Denial, OpeningRequest};
use crate::k8s::index::Index;
use crate::k8s::objects::ObjectRef;
use crate::k8s::reasons;
use crate::parse::family::Family;
use crate::parse::ports::{PortRanges, format_ports};
use crate::parse::source_ranges;

/// A request whose ports and hostname the guardrails allow. Rules are built once for all nodes with the same
/// address families: a Service can be served by thousands.
pub(super) struct Opening<'a> {
    settings: &'a Settings,
    port_owner: &'a ObjectRef,
    request: &'a PortRequest,
    ports: Arc<PortRanges>,
    by_families: BTreeMap<BTreeSet<Family>, BuiltRules>,
}

/// The result of building rules for nodes with the same address families.
#[derive(Default)]
pub(super) struct BuiltRules {
    /// None if no port can be reached there, or the rules exceed a guardrail or the clouds' limits
    pub(super) rules: Option<FamilyRules>,
    pub(super) problems: Vec<Rejected>,
}

/// The rules of a request on nodes with the same address families.
#[derive(Clone)]
pub(super) struct FamilyRules {
    pub(super) rules: Arc<RuleSet>,
    pub(super) group: GroupKey,
}

impl<'a> Opening<'a> {
    /// Asks the guardrails for all that does not depend on the node, before anything else is computed.
    ///
    /// # Errors
    /// If the request exceeds one.
    pub(super) fn new(
        index: &Index,
        settings: &'a Settings,
        port_owner: &'a ObjectRef,
        request: &'a PortRequest,
    ) -> Result<Self, Denial> {
        let ports = request.merge_ports();
        let opening = OpeningRequest {
            namespace: &request.intent.namespace,
            namespace_object: index.namespace(&request.intent.namespace),
            ports: &ports,
            hostname: request.hostname.as_deref(),
        };
        settings.guardrails.check(&opening)?;
        Ok(Self { settings, port_owner, request, ports: Arc::new(ports), by_families: BTreeMap::new() })
    }

    /// Returns the rules on a node with these address families, and what is wrong with them.
    pub(super) fn rules_for(&mut self, families: BTreeSet<Family>) -> &BuiltRules {
        let Self { settings, port_owner, request, ref ports, ref mut by_families } = *self;
        by_families.entry(families).or_insert_with_key(|families| {
            let mut built = BuiltRules::default();
            match build_rules(settings, request, families) {
                Ok(rules) => {
                    let reachable = rules::filter_by_family(&rules, families);
                    built.problems.extend(find_unreachable_ports(port_owner, ports, &reachable));
                    if !reachable.is_empty() {
                        let group = GroupKey {
                            workload: request.workload.clone().into(),
                            ports: Arc::clone(ports),
                            variant: format_variant(request, &rules, families).into(),
                        };
                        built.rules = Some(FamilyRules { rules: Arc::new(rules), group });
                    }
                }
                Err(rejected) => built.problems.push(rejected),
            }
            built
        })
    }

    /// Returns the rules on a node of which it is not known which address families it has.
    ///
    /// # Errors
    /// If there are none whichever it has: what is wrong with them.
    pub(super) fn rules_for_unknown_node(&mut self) -> Result<RuleSet, Vec<Rejected>> {
        // One by one: what a guardrail denies to sources of one family can be open to those of the other.
        let (mut rules, mut problems) = (RuleSet::default(), Vec::new());
        for family in Family::ALL {
            let built = self.rules_for(BTreeSet::from([family]));
            problems.extend_from_slice(&built.problems);
            if let Some(built) = &built.rules {
                rules = rules.union(&built.rules);
            }
        }
        if rules.is_empty() { Err(problems) } else { Ok(rules) }
    }
}

/// Builds the rules, and asks the guardrails for them.
fn build_rules(
    settings: &Settings,
    request: &PortRequest,
    families: &BTreeSet<Family>,
) -> Result<RuleSet, Rejected> {
    let defaults: Vec<IpNet> = source_ranges::filter_by_family(&settings.default_source_ranges, families);
    let rules = rules::build_rules(&request.ports, &defaults)
        .map_err(|error| reject(&request.intent, reasons::TOO_MANY_RULES, error))?;
    settings.guardrails.check_rules(&rules).map_err(|denial| reject_denied(request, &denial))?;
    Ok(rules)
}

/// Returns the problem of a request that exceeds a guardrail.
pub(super) fn reject_denied(request: &PortRequest, denial: &Denial) -> Rejected {
    reject(&request.intent, denial.reason, format!("{}; the whole intent is rejected", denial.message))
}

/// Returns the problem of ports that no source can reach, if there are such ports.
fn find_unreachable_ports(port_owner: &ObjectRef, ports: &PortRanges, rules: &RuleSet) -> Option<Rejected> {
    let ports = rules::find_unreachable_ports(ports, rules);
    let message = format!(
        "{} is not opened: its source ranges are all of another address family than the node, or than the \
         address that the port is bound to",
        format_ports(&ports)
    );
    (!ports.is_empty()).then(|| fail(port_owner, reasons::NO_SOURCES, message))
}

/// Formats the text that distinguishes the request's group from others of the workload with the same ports.
fn format_variant(request: &PortRequest, rules: &RuleSet, families: &BTreeSet<Family>) -> String {
    match &request.variant {
        GroupVariant::PerPod => rules.to_string(),
        GroupVariant::PerNode(sources) => {
            let variant = rules::format_family_variant(families, &request.ports) + sources;
            if rules::has_ambiguous_ports(&request.ports) {
                variant + &format!(" as {}", digest([rules.to_string().as_str()]))
            } else {
                variant
            }
        }
    }
}
