//! The command by which an administrator makes a change that this program may not make itself.

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::config::GceConfig;
use crate::ownership::OwnershipMark;
use crate::resource::FirewallRule;

/// `gcloud compute firewall-rules VERB NAME --project=… …`
fn command(verb: &str, rule: &FirewallRule, options: impl IntoIterator<Item = String>) -> String {
    let start =
        format!("gcloud compute firewall-rules {verb} {} --project={}", rule.name, rule.network.project);
    [start].into_iter().chain(options).collect::<Vec<_>>().join(" ")
}

/// What makes the rule, with the mark by which it is known to be this cluster's from then on.
pub(crate) fn create(rule: &FirewallRule, config: &GceConfig) -> String {
    let mut options = vec![
        format!("--network={}", rule.network.name),
        "--direction=INGRESS".to_owned(),
        "--action=ALLOW".to_owned(),
        format!("--priority={}", rule.priority),
    ];
    options.extend(traffic(rule));
    if !rule.destinations.is_empty() {
        options.push(list("destination-ranges", &rule.destinations));
    }
    if !rule.tags.is_empty() {
        options.push(list("target-tags", &rule.tags));
    }
    options
        .push(format!("--description={}", quoted(&OwnershipMark::of(rule, &config.cluster).description())));
    command("create", rule, options)
}

/// What makes one rule the other. An option without a value empties the list.
pub(crate) fn update(from: &FirewallRule, to: &FirewallRule) -> String {
    let foreign_parts = !from.foreign_parts.is_empty();
    let mut options = Vec::new();
    if from.rules != to.rules || foreign_parts {
        options.extend(traffic(to));
    }
    if foreign_parts {
        let lists = ["--source-tags=", "--source-service-accounts=", "--target-service-accounts="];
        options.extend(lists.map(ToOwned::to_owned));
    }
    if from.destinations != to.destinations || foreign_parts {
        options.push(list("destination-ranges", &to.destinations));
    }
    if from.tags != to.tags {
        options.push(list("target-tags", &to.tags));
    }
    if from.priority != to.priority {
        options.push(format!("--priority={}", to.priority));
    }
    if from.enabled != to.enabled {
        options.push("--no-disabled".to_owned());
    }
    command("update", to, options)
}

/// What deletes the rule, without asking.
pub(crate) fn delete(rule: &FirewallRule) -> String {
    command("delete", rule, ["--quiet".to_owned()])
}

fn traffic(rule: &FirewallRule) -> [String; 2] {
    let ports: BTreeSet<String> =
        rule.rules.iter().map(|rule| format!("{}:{}", rule.protocol, rule.ports)).collect();
    let sources: BTreeSet<ipnet::IpNet> = rule.rules.iter().map(|rule| rule.source).collect();
    [list("rules", &ports), list("source-ranges", &sources)]
}

/// `--flag=a,b`
fn list<T: Display>(flag: &str, values: &BTreeSet<T>) -> String {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!("--{flag}={}", values.join(","))
}

/// The text as one word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use firewall_core::Owner;
    use firewall_core::testing::conformance::rule;

    use super::*;
    use crate::network::Network;

    fn firewall_rule(rules: &[&str], destinations: &[&str]) -> FirewallRule {
        FirewallRule {
            name: "hpf-x-0".into(),
            network: Network { project: "host".into(), name: "shared".into() },
            rules: rules.iter().map(|text| rule(text)).collect(),
            destinations: destinations.iter().map(|text| text.parse().unwrap()).collect(),
            tags: BTreeSet::new(),
            foreign_parts: BTreeSet::new(),
            priority: 1000,
            enabled: true,
            serves: BTreeSet::from(["It's default/web tcp/80".to_owned()]),
            owner: Owner::Ours,
            capacity: GceConfig::new("prod", "service").capacity(),
        }
    }

    #[test]
    fn the_command_makes_the_rule_that_the_program_would_have_made() {
        let made =
            firewall_rule(&["tcp/80 0.0.0.0/0", "udp/53-54 0.0.0.0/0"], &["10.0.0.1/32", "10.0.0.2/32"]);
        let config = GceConfig::new("prod", "service");
        assert_eq!(
            create(&made, &config),
            "gcloud compute firewall-rules create hpf-x-0 --project=host --network=shared --direction=INGRESS \
             --action=ALLOW --priority=1000 --rules=tcp:80,udp:53-54 --source-ranges=0.0.0.0/0 \
             --destination-ranges=10.0.0.1/32,10.0.0.2/32 --description='{\"managedBy\":\"hostport-firewall\",\
             \"version\":1,\"cluster\":\"prod\",\"group\":\"It'\\''s default/web tcp/80\"}'"
        );
    }

    #[test]
    fn a_change_names_only_what_changes() {
        let from = firewall_rule(&["tcp/80 0.0.0.0/0"], &["10.0.0.1/32"]);
        let to = firewall_rule(&["tcp/80 0.0.0.0/0"], &["10.0.0.2/32"]);
        let start = "gcloud compute firewall-rules update hpf-x-0 --project=host";
        assert_eq!(update(&from, &to), format!("{start} --destination-ranges=10.0.0.2/32"));
        let disabled = FirewallRule { enabled: false, priority: 900, ..to.clone() };
        assert_eq!(update(&disabled, &to), format!("{start} --priority=1000 --no-disabled"));
        assert_eq!(delete(&to), "gcloud compute firewall-rules delete hpf-x-0 --project=host --quiet");
    }
}
