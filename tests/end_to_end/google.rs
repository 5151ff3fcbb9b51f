//! The simulated Compute Engine, seeded, and read by the test itself.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use firewall_core::{IngressRule, RuleSet};
use gce_simulator::{Admitted, Cloud, Machine as Instance, Simulator};
use serde_json::{Value, json};

use crate::machine::Machine;

pub(crate) const PROJECT: &str = "nodes-1234";
pub(crate) const ZONE: &str = "europe-west1-b";

/// Google Cloud with one project.
pub(crate) struct Google {
    pub(crate) simulator: Simulator,
}

impl Google {
    pub(crate) async fn start() -> Self {
        let cloud = Cloud::default();
        cloud.configure(|settings| {
            settings.operation_delay = Duration::from_millis(50);
            settings.project_id = Some(PROJECT.to_owned());
        });
        cloud.add_network(PROJECT, "main");
        Self { simulator: Simulator::start(cloud).await.expect("a free port") }
    }

    pub(crate) fn cloud(&self) -> &Cloud {
        self.simulator.cloud()
    }

    /// Makes instances in the project's network.
    pub(crate) fn seed(&self, count: u32) -> Vec<Machine> {
        (0..count)
            .map(|number| self.launch(number, &format!("projects/{PROJECT}/global/networks/main")))
            .collect()
    }

    /// Makes one instance.
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

    /// What a process needs to talk to this cloud.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("GCE_METADATA_HOST", self.simulator.address().to_string()),
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", self.simulator.url()),
        ]
    }

    /// Everything that is let in to a machine.
    pub(crate) fn open(&self, machine: &Machine) -> RuleSet {
        self.cloud().admits(PROJECT, ZONE, &machine.name).iter().map(rule).collect()
    }

    /// The rules that carry a cluster's mark.
    pub(crate) fn owned(&self, cluster: &str) -> BTreeMap<String, Value> {
        let mut rules = self.rules();
        rules.retain(|_, rule| is_marked(rule, cluster));
        rules
    }

    /// All rules that do not, and all tags.
    pub(crate) fn others(&self, cluster: &str) -> String {
        let mut rules = self.rules();
        rules.retain(|_, rule| !is_marked(rule, cluster));
        format!("{rules:?}")
    }

    fn rules(&self) -> BTreeMap<String, Value> {
        self.cloud().firewalls(PROJECT)
    }

    /// Adds (or removes) a TCP port and its source, as a person in a hurry would.
    pub(crate) fn meddle(&self, cluster: &str, port: u16, source: &str, add: bool) {
        let mut owned = self.owned(cluster).into_values();
        let v4 = |rule: &Value| rule["sourceRanges"][0].as_str().is_some_and(|source| source.contains('.'));
        let mut rule = owned.find(v4).expect("an IPv4 rule");
        if add {
            rule["allowed"]
                .as_array_mut()
                .expect("ports")
                .push(json!({ "IPProtocol": "tcp", "ports": [port.to_string()] }));
            rule["sourceRanges"].as_array_mut().expect("sources").push(json!(source));
            self.cloud().put_firewall(PROJECT, &rule).expect("a valid rule");
        } else {
            self.cloud().remove_firewall(PROJECT, rule["name"].as_str().expect("a name"));
        }
    }

    /// A rule for a machine, made by a person.
    pub(crate) fn allow(&self, name: &str, description: &str, port: u16, source: &str, address: &str) {
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

    /// The calls that changed something since the start, in order.
    pub(crate) fn mutations(&self) -> Vec<String> {
        let calls =
            self.cloud().requests().into_iter().filter(|request| request.mutating && request.status == 200);
        calls.map(|request| request.method).collect()
    }
}

fn is_marked(rule: &Value, cluster: &str) -> bool {
    rule["description"].as_str().is_some_and(|text| text.contains(&format!("\"cluster\":\"{cluster}\"")))
}

fn rule(admitted: &Admitted) -> IngressRule {
    let ports = admitted.ports.as_deref().expect("ports").parse().expect("a port range");
    IngressRule::new(admitted.protocol.parse().expect("a protocol"), ports, admitted.source)
}

impl Drop for Google {
    /// A simulator that breaks Google's own description proves nothing.
    fn drop(&mut self) {
        let violations = self.cloud().violations();
        assert!(
            violations.is_empty() || std::thread::panicking(),
            "the simulator broke the discovery document: {violations:?}"
        );
    }
}
