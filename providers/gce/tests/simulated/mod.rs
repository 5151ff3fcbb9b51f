//! A simulated Google Cloud project with a few instances, and providers for it: Google's own client library
//! speaks HTTP to the simulator.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use firewall_core::{IngressRule, InstanceId, RuleSet};
use firewall_gce::{Gce, GceConfig, Mode};
use gce_simulator::{Admitted, Cloud, Fault, FaultKind, Instance, Simulator};
use google_cloud_auth::credentials::mds;
use serde_json::Value;

pub(crate) const PROJECT: &str = "nodes-1234";
pub(crate) const ZONE: &str = "europe-west1-b";

/// Holds a simulated Google Cloud, and the configuration of providers for it.
pub(crate) struct Simulated {
    pub(crate) simulator: Simulator,
    /// The configuration of every provider, except for the cluster
    pub(crate) config: GceConfig,
}

impl Simulated {
    /// Starts a simulator of a project with one network and this many instances in it.
    pub(crate) async fn start(mode: Mode, instances: u32) -> Self {
        let cloud = Cloud::default();
        // Long enough for a change between a call and its effect, short enough for a test.
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

    /// Returns a provider for one cluster, with the credentials of the metadata server.
    pub(crate) async fn connect(&self, cluster: &str) -> Gce {
        let credentials = mds::Builder::default().with_endpoint(self.simulator.url()).build();
        let config = GceConfig { cluster: cluster.to_owned(), ..self.config.clone() };
        Gce::with_credentials(config, &credentials.expect("credentials")).await.expect("a provider")
    }

    /// Returns the rules that carry the cluster's mark, by name.
    pub(crate) fn owned(&self, cluster: &str) -> BTreeMap<String, Value> {
        let mark = format!("\"cluster\":\"{cluster}\"");
        let is_ours = |rule: &Value| rule["description"].as_str().is_some_and(|text| text.contains(&mark));
        self.cloud()
            .firewalls(self.config.rule_project())
            .into_iter()
            .filter(|(_, rule)| is_ours(rule))
            .collect()
    }

    /// Returns the ingress rules that the cluster's firewall rules apply to an instance, as the simulator
    /// evaluates them.
    pub(crate) fn open_rules(&self, cluster: &str, instance: &InstanceId) -> RuleSet {
        let [project, zone, name] = split_id(instance);
        let owned = self.owned(cluster);
        let admitted = self.cloud().admits(project, zone, name);
        admitted.iter().filter(|admitted| owned.contains_key(&admitted.firewall)).map(ingress_rule).collect()
    }

    /// Returns the network tags of the instance of this number.
    pub(crate) fn tags(&self, number: u32) -> BTreeSet<String> {
        self.cloud().tags(PROJECT, ZONE, &name(number))
    }

    /// Makes the next calls of a method fail, or take effect differently.
    pub(crate) fn inject(&self, method: &str, times: usize, kind: FaultKind) {
        self.cloud().inject(Fault { method: method.to_owned(), times, kind });
    }

    /// Writes a rule past the provider, as another user of the project does.
    pub(crate) fn put_rule(&self, rule: &Value) {
        self.cloud().put_firewall(PROJECT, rule).expect("a valid rule");
    }
}

/// Returns a fault by which Google responds with an error.
pub(crate) fn error_response(status: u16, reason: &str, message: &str) -> FaultKind {
    let (reason, message) = (reason.to_owned(), message.to_owned());
    FaultKind::Error { status, reason, message, retry_after: None }
}

/// Returns a fault by which Google refuses a call for its rate, and names the time after which it will not.
pub(crate) fn throttled(retry_after: u64) -> FaultKind {
    let kind = error_response(403, "rateLimitExceeded", "Quota exceeded for quota metric 'Queries'");
    let FaultKind::Error { status, reason, message, .. } = kind else { return kind };
    FaultKind::Error { status, reason, message, retry_after: Some(retry_after) }
}

/// Returns the instance of this number, with the addresses `10.0.0.10` plus the number and `fd20::1` plus the
/// number.
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

/// Returns the name of the instance of this number.
pub(crate) fn name(number: u32) -> String {
    format!("node-{number}")
}

/// Returns the id of the instance of this number.
pub(crate) fn id(number: u32) -> InstanceId {
    InstanceId::new(format!("{PROJECT}/{ZONE}/{}", name(number)))
}

/// Splits an instance's id into project, zone and name.
fn split_id(instance: &InstanceId) -> [&str; 3] {
    let parts: Vec<&str> = instance.as_str().split('/').collect();
    parts.try_into().expect("project/zone/name")
}

fn ingress_rule(admitted: &Admitted) -> IngressRule {
    let ports = admitted.ports.as_deref().expect("ports").parse().expect("a port range");
    IngressRule::new(admitted.protocol.parse().expect("a protocol"), ports, admitted.source)
}

impl Drop for Simulated {
    /// Checks that the simulator has followed Google's discovery document: otherwise the test proves nothing.
    fn drop(&mut self) {
        let violations = self.cloud().violations();
        if !std::thread::panicking() {
            assert!(violations.is_empty(), "the simulator violated the discovery document: {violations:?}");
        }
    }
}
