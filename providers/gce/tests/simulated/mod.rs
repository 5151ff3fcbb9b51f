//! A simulated project with a few instances, and the provider over it: Google's own client library on real HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use firewall_core::{IngressRule, InstanceId, RuleSet};
use firewall_gce::{Gce, GceConfig, Mode};
use gce_simulator::{Admitted, Cloud, Instance, Simulator};
use google_cloud_auth::credentials::mds;
use serde_json::Value;

pub(crate) const PROJECT: &str = "nodes-1234";
pub(crate) const ZONE: &str = "europe-west1-b";

/// Google Cloud, as far as the provider meets it.
pub(crate) struct Simulated {
    pub(crate) simulator: Simulator,
    /// What every provider is configured with but the cluster
    pub(crate) config: GceConfig,
}

impl Simulated {
    /// A project with a network and this many instances in it.
    pub(crate) async fn start(mode: Mode, instances: u32) -> Self {
        let cloud = Cloud::default();
        // Long enough that something can come between a call and its effect, short enough for a test.
        cloud.configure(|settings| settings.operation_delay = Duration::from_millis(5));
        cloud.add_network(PROJECT, "main");
        for number in 0..instances {
            cloud.add_instance(machine(number, PROJECT, "main"));
        }
        let simulator = Simulator::start(cloud).await.expect("a free port");
        let config = GceConfig { mode, endpoint: Some(simulator.url()), ..GceConfig::new("", PROJECT) };
        Self { simulator, config }
    }

    pub(crate) fn cloud(&self) -> &Cloud {
        self.simulator.cloud()
    }

    /// A provider for one cluster, with the credentials that the metadata server gives.
    pub(crate) async fn connect(&self, cluster: &str) -> Gce {
        let credentials = mds::Builder::default().with_endpoint(self.simulator.url()).build();
        let config = GceConfig { cluster: cluster.to_owned(), ..self.config.clone() };
        Gce::with_credentials(config, &credentials.expect("credentials")).await.expect("a provider")
    }

    /// The rules that carry the cluster's mark, by name.
    pub(crate) fn owned(&self, cluster: &str) -> BTreeMap<String, Value> {
        let mark = format!("\"cluster\":\"{cluster}\"");
        let ours = |rule: &Value| rule["description"].as_str().is_some_and(|text| text.contains(&mark));
        self.cloud()
            .firewalls(self.config.rule_project())
            .into_iter()
            .filter(|(_, rule)| ours(rule))
            .collect()
    }

    /// What the simulated cloud lets in to an instance, through rules of these names.
    pub(crate) fn open(&self, instance: &InstanceId, names: &BTreeSet<String>) -> RuleSet {
        let [project, zone, name] = parts(instance);
        let admitted = self.cloud().admits(project, zone, name);
        admitted.iter().filter(|admitted| names.contains(&admitted.firewall)).map(rule).collect()
    }
}

/// The number's instance: 10.0.x.y, and an internal IPv6 address.
pub(crate) fn machine(number: u32, project: &str, network: &str) -> Instance {
    let mut machine = Instance::new(
        project,
        ZONE,
        &name(number),
        &format!("projects/{project}/global/networks/{network}"),
        Ipv4Addr::from(0x0a00_000a + number),
    );
    machine.interfaces[0].ipv6 = Some(Ipv6Addr::from((0xfd20_u128 << 112) + u128::from(number) + 1));
    machine.tags = BTreeSet::from(["node".to_owned()]);
    machine
}

pub(crate) fn name(number: u32) -> String {
    format!("node-{number}")
}

pub(crate) fn id(number: u32) -> InstanceId {
    InstanceId::new(format!("{PROJECT}/{ZONE}/{}", name(number)))
}

pub(crate) fn parts(instance: &InstanceId) -> [&str; 3] {
    let parts: Vec<&str> = instance.as_str().split('/').collect();
    parts.try_into().expect("project/zone/name")
}

fn rule(admitted: &Admitted) -> IngressRule {
    let ports = admitted.ports.as_deref().expect("ports").parse().expect("a port range");
    IngressRule::new(admitted.protocol.parse().expect("a protocol"), ports, admitted.source)
}

impl Drop for Simulated {
    /// A simulator that breaks Google's own description proves nothing.
    fn drop(&mut self) {
        let violations = self.cloud().violations();
        if !std::thread::panicking() {
            assert!(violations.is_empty(), "the simulator broke the discovery document: {violations:?}");
        }
    }
}
