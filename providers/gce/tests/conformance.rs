//! The conformance suite of all providers, against the simulated Compute Engine, in both modes.

mod simulated;

use std::collections::BTreeSet;
use std::time::Duration;

use firewall_core::testing::conformance::{Harness, run};
use firewall_core::{IngressRule, InstanceId, RuleSet};
use firewall_gce::{ApiCall, Gce, Mode};
use gce_simulator::FaultKind;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use simulated::{PROJECT, Simulated, ZONE, id, throttled};

impl Harness for Simulated {
    type Provider = Gce;

    fn provider(&self, cluster: &str) -> Gce {
        block_in_place(|| Handle::current().block_on(self.connect(cluster)))
    }

    fn instances(&self) -> Vec<InstanceId> {
        (0..3).map(id).collect()
    }

    fn missing_instance(&self) -> InstanceId {
        InstanceId::new(format!("{PROJECT}/{ZONE}/missing"))
    }

    async fn open_rules(&self, cluster: &str, instance: &InstanceId) -> RuleSet {
        Simulated::open_rules(self, cluster, instance)
    }

    async fn foreign_state(&self, cluster: &str) -> String {
        let owned = self.owned(cluster);
        let mut rules = self.cloud().firewalls(PROJECT);
        rules.retain(|name, _| !owned.contains_key(name));
        let tags = (0..3).map(|number| {
            let mut tags = self.tags(number);
            tags.retain(|tag| !owned.contains_key(tag));
            tags
        });
        format!("{rules:?} {:?}", tags.collect::<Vec<BTreeSet<String>>>())
    }

    async fn tamper_with_rule(&self, cluster: &str, rule: IngressRule, present: bool) {
        let (_, mut firewall) = self.owned(cluster).into_iter().next().expect("a rule");
        let allowed = firewall["allowed"].as_array_mut().expect("a list");
        if present {
            allowed
                .push(json!({ "IPProtocol": rule.protocol.to_string(), "ports": [rule.ports.to_string()] }));
            let sources = firewall["sourceRanges"].as_array_mut().expect("a list");
            sources.push(json!(rule.source.to_string()));
        } else {
            for entry in allowed.iter_mut() {
                let ports = entry["ports"].as_array_mut().expect("a list");
                ports.retain(|ports| ports.as_str() != Some(&rule.ports.to_string()));
            }
        }
        self.put_rule(&firewall);
    }
}

/// Runs the suite with only the permissions of the mode's roles in `iam/`.
async fn run_with_role_permissions(mode: Mode) {
    let simulated = Simulated::start(mode, 3).await;
    let calls = ApiCall::of_rules().iter().chain(ApiCall::of_instances(mode));
    let permissions: Vec<&str> = calls.flat_map(|call| call.permissions()).copied().collect();
    simulated.cloud().grant_only(PROJECT, &permissions);
    run(&simulated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suite_passes_in_mode_destination() {
    run_with_role_permissions(Mode::Destination).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suite_passes_in_mode_tags() {
    run_with_role_permissions(Mode::Tags).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suite_passes_with_pages_of_one_item() {
    let simulated = Simulated::start(Mode::Tags, 3).await;
    simulated.cloud().configure(|settings| settings.page_size = 1);
    run(&simulated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suite_passes_with_throttling_and_lost_responses() {
    for mode in [Mode::Destination, Mode::Tags] {
        let simulated = Simulated::start(mode, 3).await;
        for method in ["insert", "patch", "delete"] {
            for kind in [throttled(1), FaultKind::DropResponse, FaultKind::Latency(Duration::from_millis(20))]
            {
                simulated.inject(&format!("compute.firewalls.{method}"), 1, kind);
            }
        }
        run(&simulated).await;
    }
}
