//! The provider-neutral conformance suite, against the simulated Compute Engine, in both modes.

mod simulated;

use std::collections::BTreeSet;
use std::time::Duration;

use firewall_core::testing::conformance::{Harness, run};
use firewall_core::{IngressRule, InstanceId, RuleSet};
use firewall_gce::{ApiCall, Gce, Mode};
use gce_simulator::{Fault, FaultKind};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use simulated::{PROJECT, Simulated, ZONE, id, name};

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
        Simulated::open(self, instance, &self.owned(cluster).into_keys().collect())
    }

    async fn foreign_state(&self, cluster: &str) -> String {
        let owned = self.owned(cluster);
        let mut rules = self.cloud().firewalls(PROJECT);
        rules.retain(|name, _| !owned.contains_key(name));
        let tags = (0..3).map(|number| {
            let mut tags = self.cloud().tags(PROJECT, ZONE, &name(number));
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
        self.cloud().put_firewall(PROJECT, &firewall).expect("a valid rule");
    }
}

/// Runs the suite where nothing is granted but what the roles in `iam/` are made of.
async fn with_the_modes_permissions(mode: Mode) {
    let simulated = Simulated::start(mode, 3).await;
    let methods = ApiCall::of_rules().iter().chain(ApiCall::of_instances(mode));
    let permissions: Vec<&str> = methods.flat_map(|method| method.permissions()).copied().collect();
    simulated.cloud().grant_only(PROJECT, &permissions);
    run(&simulated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_destination() {
    with_the_modes_permissions(Mode::Destination).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_tags() {
    with_the_modes_permissions(Mode::Tags).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_pages_of_one_rule_and_one_instance() {
    let simulated = Simulated::start(Mode::Tags, 3).await;
    simulated.cloud().configure(|settings| settings.page_size = 1);
    run(&simulated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_and_losing_answers() {
    for mode in [Mode::Destination, Mode::Tags] {
        let simulated = Simulated::start(mode, 3).await;
        let throttled = || FaultKind::Error {
            status: 403,
            reason: "rateLimitExceeded".to_owned(),
            message: "Quota exceeded for quota metric 'Queries'".to_owned(),
        };
        for method in ["insert", "patch", "delete"] {
            for kind in [throttled(), FaultKind::DropResponse, FaultKind::Latency(Duration::from_millis(20))]
            {
                let method = format!("compute.firewalls.{method}");
                simulated.cloud().inject(Fault { method, times: 1, kind });
            }
        }
        run(&simulated).await;
    }
}
