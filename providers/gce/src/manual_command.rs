//! The `gcloud` commands with which an administrator makes a change for which this program lacks a
//! permission.

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::config::GceConfig;
use crate::ownership::OwnershipMark;
use crate::resource::FirewallRule;

/// Returns `gcloud compute firewall-rules VERB NAME --project=… …`.
fn command(verb: &str, rule: &FirewallRule, options: impl IntoIterator<Item = String>) -> String {
    let start =
        format!("gcloud compute firewall-rules {verb} {} --project={}", rule.name, rule.network.project);
    [start].into_iter().chain(options).collect::<Vec<_>>().join(" ")
}

/// Returns the command that creates the rule, with its ownership mark: from then on it is this cluster's.
pub(crate) fn create(rule: &FirewallRule, config: &GceConfig) -> String {
    let mut options = vec![
        format!("--network={}", rule.network.name),
        "--direction=INGRESS".to_owned(),
        "--action=ALLOW".to_owned(),
        format!("--priority={}", rule.priority),
    ];
    options.extend(traffic_options(rule));
    if !rule.destinations.is_empty() {
        options.push(list_option("destination-ranges", &rule.destinations));
    }
    if !rule.tags.is_empty() {
        options.push(list_option("target-tags", &rule.tags));
    }
    options.push(format!(
        "--description={}",
        quote(&OwnershipMark::for_rule(rule, &config.cluster).to_description())
    ));
    command("create", rule, options)
}

/// Returns the command that changes one rule into the other. An option without a value empties its list.
pub(crate) fn update(from: &FirewallRule, to: &FirewallRule) -> String {
    let has_foreign_parts = !from.foreign_parts.is_empty();
    let mut options = Vec::new();
    if from.rules != to.rules || has_foreign_parts {
        options.extend(traffic_options(to));
    }
    if has_foreign_parts {
        let lists = ["--source-tags=", "--source-service-accounts=", "--target-service-accounts="];
        options.extend(lists.map(ToOwned::to_owned));
    }
    if from.destinations != to.destinations || has_foreign_parts {
        options.push(list_option("destination-ranges", &to.destinations));
    }
    if from.tags != to.tags {
        options.push(list_option("target-tags", &to.tags));
    }
    if from.priority != to.priority {
        options.push(format!("--priority={}", to.priority));
    }
    if from.is_enabled != to.is_enabled {
        options.push("--no-disabled".to_owned());
    }
    command("update", to, options)
}

/// Returns the command that deletes the rule without a prompt.
pub(crate) fn delete(rule: &FirewallRule) -> String {
    command("delete", rule, ["--quiet".to_owned()])
}

fn traffic_options(rule: &FirewallRule) -> [String; 2] {
    let ports: BTreeSet<String> =
        rule.rules.iter().map(|rule| format!("{}:{}", rule.protocol, rule.ports)).collect();
    let sources: BTreeSet<ipnet::IpNet> = rule.rules.iter().map(|rule| rule.source).collect();
    [list_option("rules", &ports), list_option("source-ranges", &sources)]
}

/// Returns `--flag=a,b`.
fn list_option<T: Display>(flag: &str, values: &BTreeSet<T>) -> String {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!("--{flag}={}", values.join(","))
}

/// Returns the text as one word for a POSIX shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;
    use crate::testing::firewall_rule;

    /// Returns a rule in the host project of a Shared VPC.
    fn host_rule(rules: &[&str], destinations: &[&str]) -> FirewallRule {
        FirewallRule {
            network: Network { project: "host".into(), name: "shared".into() },
            serves: BTreeSet::from(["It's default/web tcp/80".to_owned()]),
            ..firewall_rule(rules, destinations)
        }
    }

    #[test]
    fn create_command_makes_the_same_rule_as_the_program() {
        let to = host_rule(&["tcp/80 0.0.0.0/0", "udp/53-54 0.0.0.0/0"], &["10.0.0.1/32", "10.0.0.2/32"]);
        let config = GceConfig::new("prod", "service");
        assert_eq!(
            create(&to, &config),
            "gcloud compute firewall-rules create hpf-x-0 --project=host --network=shared --direction=INGRESS \
             --action=ALLOW --priority=1000 --rules=tcp:80,udp:53-54 --source-ranges=0.0.0.0/0 \
             --destination-ranges=10.0.0.1/32,10.0.0.2/32 --description='{\"managedBy\":\"hostport-firewall\",\
             \"version\":1,\"cluster\":\"prod\",\"group\":\"It'\\''s default/web tcp/80\"}'"
        );
    }

    #[test]
    fn update_command_names_only_changed_fields() {
        let from = host_rule(&["tcp/80 0.0.0.0/0"], &["10.0.0.1/32"]);
        let to = host_rule(&["tcp/80 0.0.0.0/0"], &["10.0.0.2/32"]);
        let start = "gcloud compute firewall-rules update hpf-x-0 --project=host";
        assert_eq!(update(&from, &to), format!("{start} --destination-ranges=10.0.0.2/32"));
        let disabled = FirewallRule { is_enabled: false, priority: 900, ..to.clone() };
        assert_eq!(update(&disabled, &to), format!("{start} --priority=1000 --no-disabled"));
        assert_eq!(delete(&to), "gcloud compute firewall-rules delete hpf-x-0 --project=host --quiet");
    }
}
