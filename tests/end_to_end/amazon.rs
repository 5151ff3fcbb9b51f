//! LocalStack's EC2, seeded, and read by the test itself with the raw SDK.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ec2::types::{Filter, IpPermission, IpRange, SecurityGroup};
use firewall_core::{IngressRule, PortRange, Protocol, RuleSet};
use serde_json::Value;
use tempfile::TempDir;

use crate::machine::Machine;
use crate::metrics::free_port;
use crate::patience::until;
use crate::process::{Process, root};

const REGION: &str = "eu-central-1";

/// LocalStack with what the seed has put into it.
pub(crate) struct Amazon {
    _child: Process,
    dir: TempDir,
    pub(crate) endpoint: String,
    pub(crate) ec2: Client,
}

impl Amazon {
    pub(crate) async fn start() -> Self {
        let dir = TempDir::with_prefix("localstack-").expect("a temporary folder");
        let port = free_port();
        let mut command = Command::new(root().join("localstack/start"));
        let child = Process::start(command.arg(port.to_string()), &dir.path().join("log"));
        let endpoint = format!("http://127.0.0.1:{port}");
        let config = aws_sdk_ec2::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .endpoint_url(&endpoint)
            .build();
        let cloud = Self { _child: child, dir, endpoint, ec2: Client::from_conf(config) };
        until("LocalStack answers", async || {
            let answer = cloud.ec2.describe_vpcs().send().await;
            answer.map_err(|_| std::fs::read_to_string(cloud.log()).unwrap_or_default())
        })
        .await;
        cloud
    }

    /// Runs `localstack/seed` for a cluster of this name.
    pub(crate) fn seed(&self, cluster: &str, options: &[&str]) -> Vec<Machine> {
        let output = Command::new(root().join("localstack/seed"))
            .args(["--endpoint-url", &self.endpoint, "--region", REGION, "--cluster", cluster])
            .args(options)
            .stderr(Stdio::inherit())
            .output()
            .expect("localstack/seed runs");
        let seeded: Value = serde_json::from_slice(&output.stdout).expect("the seed prints JSON");
        let nodes = seeded["items"].as_array().expect("nodes").iter();
        let machines = seeded["seeded"]["machines"].as_array().expect("machines").iter();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        machines
            .zip(nodes)
            .map(|(machine, node)| Machine {
                name: text(&machine["name"]),
                interface: text(&machine["interface_id"]),
                node_group: text(&machine["node_group"]),
                node: node.clone(),
            })
            .collect()
    }

    /// What a process needs to talk to this cloud.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 4] {
        [
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ]
    }

    /// The security groups on a machine's interface.
    pub(crate) async fn groups(&self, machine: &Machine) -> Vec<String> {
        let interfaces = self
            .ec2
            .describe_network_interfaces()
            .network_interface_ids(&machine.interface)
            .send()
            .await
            .expect("EC2");
        let groups = interfaces.network_interfaces()[0].groups();
        groups.iter().filter_map(|group| group.group_id()).map(str::to_owned).collect()
    }

    /// Everything that the machine's security groups let in.
    pub(crate) async fn open(&self, machine: &Machine) -> RuleSet {
        let filter = Filter::builder().name("group-id").set_values(Some(self.groups(machine).await)).build();
        let groups = self.ec2.describe_security_groups().filters(filter).send().await.expect("EC2");
        groups.security_groups().iter().flat_map(SecurityGroup::ip_permissions).flat_map(rules).collect()
    }

    /// What each machine's security groups let in, by the machine's name, in two calls for all of them.
    pub(crate) async fn open_everywhere(&self, machines: &[Machine]) -> Vec<(String, RuleSet)> {
        let interfaces = self.ec2.describe_network_interfaces().send().await.expect("EC2");
        let groups = self.ec2.describe_security_groups().send().await.expect("EC2");
        let of = |id: &str| {
            let own = groups.security_groups().iter().filter(|group| group.group_id() == Some(id));
            own.flat_map(SecurityGroup::ip_permissions).flat_map(rules).collect::<Vec<_>>()
        };
        let open = |machine: &Machine| {
            let interfaces = interfaces.network_interfaces().iter();
            let own = interfaces
                .filter(|one| one.network_interface_id() == Some(machine.interface.as_str()))
                .flat_map(aws_sdk_ec2::types::NetworkInterface::groups);
            (machine.name.clone(), own.filter_map(|group| group.group_id()).flat_map(of).collect())
        };
        machines.iter().map(open).collect()
    }

    /// Everything there is, as text, of the groups that do not carry `cluster`'s mark.
    pub(crate) async fn foreign_groups(&self, cluster: &str) -> BTreeMap<String, String> {
        let groups = self.ec2.describe_security_groups().send().await.expect("EC2");
        let ours = |group: &&SecurityGroup| {
            group
                .tags()
                .iter()
                .any(|tag| tag.key() == Some("hostport-firewall.dev/cluster") && tag.value() == Some(cluster))
        };
        let foreign = groups.security_groups().iter().filter(|group| !ours(group));
        foreign.map(|group| (group.group_id().unwrap_or_default().to_owned(), format!("{group:?}"))).collect()
    }

    /// The groups that carry `cluster`'s mark.
    pub(crate) async fn owned_groups(&self, cluster: &str) -> Vec<String> {
        let filter = Filter::builder().name("tag:hostport-firewall.dev/cluster").values(cluster).build();
        let groups = self.ec2.describe_security_groups().filters(filter).send().await.expect("EC2");
        groups.security_groups().iter().filter_map(|group| group.group_id()).map(str::to_owned).collect()
    }

    /// Adds (or removes) a TCP rule, as a person in a hurry would.
    pub(crate) async fn meddle(&self, group: &str, port: i32, source: &str, add: bool) {
        let permission = IpPermission::builder()
            .ip_protocol("tcp")
            .from_port(port)
            .to_port(port)
            .ip_ranges(IpRange::builder().cidr_ip(source).build())
            .build();
        if add {
            let call = self.ec2.authorize_security_group_ingress().group_id(group).ip_permissions(permission);
            call.send().await.expect("authorized by hand");
        } else {
            let call = self.ec2.revoke_security_group_ingress().group_id(group).ip_permissions(permission);
            call.send().await.expect("revoked by hand");
        }
    }

    /// The calls that changed something since the start, in order, by LocalStack's own log.
    pub(crate) fn mutations(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.log()).expect("LocalStack's log");
        let calls = log.lines().filter_map(|line| line.split_once("AWS ec2.")?.1.split_once(" => 200"));
        calls.map(|(call, _)| call.to_owned()).filter(|call| !call.starts_with("Describe")).collect()
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

fn rules(permission: &IpPermission) -> Vec<IngressRule> {
    let protocol = match permission.ip_protocol() {
        Some("tcp") => Protocol::Tcp,
        Some("udp") => Protocol::Udp,
        Some("132" | "sctp") => Protocol::Sctp,
        other => panic!("a rule of protocol {other:?} is open"),
    };
    let port = |port: Option<i32>| port.and_then(|port| u16::try_from(port).ok()).expect("a port");
    let ports = PortRange::new(port(permission.from_port()), port(permission.to_port())).expect("a range");
    let v4 = permission.ip_ranges().iter().filter_map(|range| range.cidr_ip());
    let v6 = permission.ipv6_ranges().iter().filter_map(|range| range.cidr_ipv6());
    let sources = v4.chain(v6).map(|source| source.parse().expect("a CIDR"));
    sources.map(|source| IngressRule::new(protocol, ports, source)).collect()
}
