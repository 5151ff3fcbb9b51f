//! The table of examples in the doc comment of `plan()`, planned row by row.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::testing::conformance::{desired, group};
use firewall_core::testing::memory::{MemoryCloud, MemoryKey, MemoryResource};
use firewall_core::{
    Desired, Effect, FirewallGroup, FirewallProvider, GroupKey, InFlight, InstanceId, Limits, Owner, Plan,
    Policy, Resource, ResourceSet, Step, Unknown, Withheld,
};

use crate::{CLUSTER, Case};

const SOURCE: &str = include_str!("../../src/plan/planner.rs");
const HEADER: &str = "/// | example | desired | observed | input | steps | withheld |";

/// One row of the table.
#[derive(Debug)]
struct Example<'a> {
    name: &'a str,
    desired: &'a str,
    observed: &'a str,
    input: &'a str,
    steps: &'a str,
    withheld: &'a str,
}

fn examples() -> Vec<Example<'static>> {
    let (_, table) = SOURCE.split_once(HEADER).expect("the table's header");
    let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("/// | "));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
        let [name, desired, observed, input, steps, withheld] = cells[..] else { panic!("six cells: {row}") };
        Example { name, desired, observed, input, steps, withheld }
    })
    .collect()
}

/// Reads `web on a b`, `dns from 10.0.0.0/8 + 192.0.2.0/24 on a`, or `foreign web`.
fn read_group(text: &str) -> (GroupKey, FirewallGroup) {
    let text = text.trim_start_matches("foreign ");
    let (name, members) = text.split_once(" on ").unwrap_or((text, ""));
    let (name, sources) = name.split_once(" from ").unwrap_or((name, "0.0.0.0/0"));
    let traffic = match name {
        "web" => "tcp/80",
        "dns" => "udp/53",
        _ => panic!("no ports for {name:?}"),
    };
    let rules: Vec<String> = sources.split(" + ").map(|source| format!("{traffic} {source}")).collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let members: Vec<InstanceId> = members.split_whitespace().map(InstanceId::new).collect();
    group(name, &rules, &members.iter().collect::<Vec<_>>())
}

fn read_groups(text: &str) -> Vec<(GroupKey, FirewallGroup)> {
    if text == "nothing" { Vec::new() } else { text.split("; ").map(read_group).collect() }
}

/// Returns the resources that the memory provider compiles these groups to; a foreign group is a resource
/// alone.
fn compile(text: &str) -> ResourceSet<MemoryResource> {
    let groups: Desired = desired(read_groups(text));
    let provider = MemoryCloud::new([]).provider(CLUSTER);
    let mut resources = provider.compile(&groups, &groups.members().into()).resources;
    if let Some(name) = text.strip_prefix("foreign ") {
        let (key, group) = read_group(name);
        let resource = MemoryResource {
            key: MemoryKey::Group(CLUSTER.into(), key.digest()),
            label: key.to_string(),
            owner: Owner::Foreign,
            rules: group.rules.rules().clone(),
            groups: BTreeSet::new(),
        };
        resources.insert(resource.key(), resource);
    }
    resources
}

fn case(example: &Example<'_>) -> Case {
    let mut case = Case {
        desired: compile(example.desired),
        observed: compile(example.observed),
        unknown: Unknown::default(),
        released: BTreeSet::new(),
        endings: BTreeMap::new(),
        policy: Policy::Sync,
        limits: Limits::default(),
        backoff: BTreeSet::new(),
        in_flight: InFlight::none(),
    };
    for input in example.input.split(", ") {
        match input.split(' ').collect::<Vec<_>>()[..] {
            ["-"] => {}
            ["unknown"] => case.unknown.add_everything("pods are not listed yet".into()),
            ["open-only"] => case.policy = Policy::OpenOnly,
            ["observe"] => case.policy = Policy::Observe,
            ["least", count] => case.limits.mass_close_least = count.parse().expect("a number"),
            ["released"] => case.limits.mass_close_released = true,
            ["opening", name, "failed"] => case.backoff.extend([(key(&case, name), Effect::Open)]),
            ["closing", name, "failed"] => case.backoff.extend([(key(&case, name), Effect::Close)]),
            _ => panic!("unknown input {input:?}"),
        }
    }
    case
}

/// Returns the short names of all resources: the workload of a group, the instance of an attachment.
fn names(case: &Case) -> BTreeMap<MemoryKey, String> {
    let resources = case.desired.values().chain(case.observed.values());
    let name = |resource: &MemoryResource| match &resource.key {
        MemoryKey::Attachment(_, instance) => instance.to_string(),
        MemoryKey::Group(..) => {
            let name = resource.label.split_once('/').expect("a namespace").1;
            name.split(' ').next().unwrap_or(name).to_owned()
        }
    };
    resources.map(|resource| (resource.key(), name(resource))).collect()
}

fn key(case: &Case, name: &str) -> MemoryKey {
    let mut names = names(case).into_iter();
    names.find(|(_, other)| other == name).expect("a resource of this name").0
}

fn write_steps(plan: &Plan<MemoryResource>, names: &BTreeMap<MemoryKey, String>) -> String {
    let step = |step: &Step<MemoryResource>| {
        let verb = match (step.action.verb(), step.effect) {
            ("update", Effect::Open) => "open",
            ("update", Effect::Close) => "close",
            (verb, _) => verb,
        };
        format!("{verb} {}", name(&step.action.key(), names))
    };
    let steps: Vec<String> = plan.steps.iter().map(step).collect();
    if steps.is_empty() { "-".to_owned() } else { steps.join(", ") }
}

/// Returns the name of a resource; that of a substitute is `web-1`.
fn name(key: &MemoryKey, names: &BTreeMap<MemoryKey, String>) -> String {
    if let (MemoryKey::Group(cluster, name), None) = (key, names.get(key)) {
        let (digest, number) = name.rsplit_once('-').expect("a substitute");
        return format!("{}-{number}", names[&MemoryKey::Group(cluster.clone(), digest.to_owned())]);
    }
    names[key].clone()
}

fn write_withheld(withheld: &[Withheld<MemoryResource>], names: &BTreeMap<MemoryKey, String>) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for one in withheld {
        let (reason, name) = (one.reason.as_str(), names[&one.key].as_str());
        match reasons.last_mut() {
            Some((last, keys)) if *last == reason => keys.push(name),
            _ => reasons.push((reason, vec![name])),
        }
    }
    let text: Vec<String> =
        reasons.iter().map(|(reason, keys)| format!("{reason}: {}", keys.join(", "))).collect();
    if text.is_empty() { "-".to_owned() } else { text.join("; ") }
}

#[test]
fn documented_examples_are_planned_as_written() {
    let examples = examples();
    assert_eq!(examples.len(), 16, "each row of the table is read: {examples:?}");
    for example in examples {
        let case = case(&example);
        let (plan, names) = (case.plan(), names(&case));
        let planned = (write_steps(&plan, &names), write_withheld(&plan.withheld, &names));
        assert_eq!(planned, (example.steps.to_owned(), example.withheld.to_owned()), "{}", example.name);
    }
}
