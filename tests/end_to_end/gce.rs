//! Google Cloud as seen from outside: the simulated Compute Engine, seeded, and read without the provider.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use firewall_core::{IngressRule, RuleSet};
use gce_simulator::{Admitted, Cloud, Instance, Simulator};
use serde_json::{Value, json};

use crate::machine::Machine;

pub(crate) const PROJECT: &str = "nodes-1234";
pub(crate) const ZONE: &str = "europe-west1-b";

/// A running simulator with one project.
pub(crate) struct Gce {
    pub(crate) simulator: Simulator,
}

impl Gce {
    /// Starts the simulator, with the project's network `main`.
    pub(crate) async fn start() -> Self {
        let cloud = Cloud::default();
        cloud.configure(|settings| {
            settings.operation_delay = Duration::from_millis(50);
            settings.project_id = Some(PROJECT.to_owned());
        });
        cloud.add_network(PROJECT, "main");
        Self { simulator: Simulator::start(cloud).await.expect("a free port") }
    }

    /// Returns the simulated cloud, to change it and to inject faults.
    pub(crate) fn cloud(&self) -> &Cloud {
        self.simulator.cloud()
    }

    /// Launches instances in the project's network.
    pub(crate) fn seed(&self, count: u32) -> Vec<Machine> {
        (0..count)
            .map(|number| self.launch(number, &format!("projects/{PROJECT}/global/networks/main")))
            .collect()
    }

    /// Launches one instance.
    pub(crate) fn launch(&self, number: u32, network: &str) -> Machine {
        let name = format!("gce-node-{number}");
        let address = Ipv4Addr::from(0x0a1e_000a + number);
        let address6 = Ipv6Addr::from((0xfd20_u128 << 112) + u128::from(number) + 1);
        let mut instance = Instance::new(PROJECT, ZONE, &name, network, address);
        instance.interfaces[0].ipv6 = Some(address6);
        instance.tags.insert("node".to_owned());
        self.cloud().add_instance(instance);
        let provider_id = format!("gce://{PROJECT}/{ZONE}/{name}");
        Machine::new(&name, &provider_id, &[address.to_string(), address6.to_string()])
    }

    /// Returns the environment variables by which a process finds this cloud.
    pub(crate) fn env_vars(&self) -> [(&'static str, String); 2] {
        [
            ("GCE_METADATA_HOST", self.simulator.address().to_string()),
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", self.simulator.url()),
        ]
    }

    /// Returns the ingress rules that apply to a machine.
    pub(crate) fn read_open_rules(&self, machine: &Machine) -> RuleSet {
        self.cloud().admits(PROJECT, ZONE, &machine.name).iter().map(parse_rule).collect()
    }

    /// Returns the firewall rules that carry a cluster's mark, by name.
    pub(crate) fn list_owned_rules(&self, cluster: &str) -> BTreeMap<String, Value> {
        let mut rules = self.list_rules();
        rules.retain(|_, rule| is_marked(rule, cluster));
        rules
    }

    /// Returns the firewall rules that do not carry a cluster's mark, as text.
    pub(crate) fn list_foreign_rules(&self, cluster: &str) -> String {
        let mut rules = self.list_rules();
        rules.retain(|_, rule| !is_marked(rule, cluster));
        format!("{rules:?}")
    }

    fn list_rules(&self) -> BTreeMap<String, Value> {
        self.cloud().firewalls(PROJECT)
    }

    /// Adds a TCP port and a source to the cluster's IPv4 rule, as a person would by hand.
    pub(crate) fn widen_by_hand(&self, cluster: &str, port: u16, source: &str) {
        let mut rule = self.owned_ipv4_rule(cluster);
        let ports = json!({ "IPProtocol": "tcp", "ports": [port.to_string()] });
        rule["allowed"].as_array_mut().expect("ports").push(ports);
        rule["sourceRanges"].as_array_mut().expect("sources").push(json!(source));
        self.cloud().put_firewall(PROJECT, &rule).expect("a valid rule");
    }

    /// Deletes the cluster's IPv4 rule, as a person would by hand.
    pub(crate) fn delete_by_hand(&self, cluster: &str) {
        let rule = self.owned_ipv4_rule(cluster);
        self.cloud().remove_firewall(PROJECT, rule["name"].as_str().expect("a name"));
    }

    fn owned_ipv4_rule(&self, cluster: &str) -> Value {
        let v4 = |rule: &Value| rule["sourceRanges"][0].as_str().is_some_and(|source| source.contains('.'));
        self.list_owned_rules(cluster).into_values().find(v4).expect("an IPv4 rule")
    }

    /// Creates a rule for an instance's address, as a person would by hand.
    pub(crate) fn create_by_hand(
        &self,
        name: &str,
        description: &str,
        port: u16,
        source: &str,
        address: &str,
    ) {
        let rule = json!({
            "name": name,
            "description": description,
            "network": format!("projects/{PROJECT}/global/networks/main"),
            "allowed": [{ "IPProtocol": "tcp", "ports": [port.to_string()] }],
            "sourceRanges": [source],
            "destinationRanges": [address],
        });
        self.cloud().put_firewall(PROJECT, &rule).expect("a valid rule");
    }

    /// Returns the calls that changed something since the start, in order.
    pub(crate) fn list_mutations(&self) -> Vec<String> {
        let calls =
            self.cloud().requests().into_iter().filter(|request| request.mutating && request.status == 200);
        calls.map(|request| request.method).collect()
    }
}

fn is_marked(rule: &Value, cluster: &str) -> bool {
    rule["description"].as_str().is_some_and(|text| text.contains(&format!("\"cluster\":\"{cluster}\"")))
}

fn parse_rule(admitted: &Admitted) -> IngressRule {
    let ports = admitted.ports.as_deref().expect("ports").parse().expect("a port range");
    IngressRule::new(admitted.protocol.parse().expect("a protocol"), ports, admitted.source)
}

impl Drop for Gce {
    /// Fails the case if the simulator broke Google's own description: then it proves nothing.
    fn drop(&mut self) {
        let violations = self.cloud().violations();
        assert!(
            violations.is_empty() || std::thread::panicking(),
            "the simulator broke the discovery document: {violations:?}"
        );
    }
}
