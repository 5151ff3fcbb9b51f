//! AWS as seen from outside: LocalStack's EC2, seeded, and read with the plain SDK.

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
use crate::process::{Process, find_free_port, root};
use crate::wait::wait_until;

const REGION: &str = "eu-central-1";

/// A running LocalStack with the seed's instances.
pub(crate) struct Aws {
    _child: Process,
    dir: TempDir,
    pub(crate) endpoint: String,
    pub(crate) ec2: Client,
}

impl Aws {
    /// Starts LocalStack and waits until it answers.
    pub(crate) async fn start() -> Self {
        let dir = TempDir::with_prefix("localstack-").expect("a temporary folder");
        let port = find_free_port();
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
        wait_until("LocalStack answers", async || {
            let answer = cloud.ec2.describe_vpcs().send().await;
            answer.map_err(|_| std::fs::read_to_string(cloud.log_path()).unwrap_or_default())
        })
        .await;
        cloud
    }

    /// Runs `localstack/seed` for a cluster of this name, and returns the machines that it made.
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

    /// Returns the environment variables by which a process finds this cloud.
    pub(crate) fn env_vars(&self) -> [(&'static str, &str); 4] {
        [
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ]
    }

    /// Returns the ids of the security groups on a machine's interface.
    pub(crate) async fn list_attached_groups(&self, machine: &Machine) -> Vec<String> {
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

    /// Returns the ingress rules of a machine's security groups.
    pub(crate) async fn read_open_rules(&self, machine: &Machine) -> RuleSet {
        let filter = Filter::builder()
            .name("group-id")
            .set_values(Some(self.list_attached_groups(machine).await))
            .build();
        let groups = self.ec2.describe_security_groups().filters(filter).send().await.expect("EC2");
        groups
            .security_groups()
            .iter()
            .flat_map(SecurityGroup::ip_permissions)
            .flat_map(parse_rules)
            .collect()
    }

    /// Returns the ingress rules of each machine's security groups, by its name, in two calls for all of
    /// them.
    pub(crate) async fn read_all_open_rules(&self, machines: &[Machine]) -> Vec<(String, RuleSet)> {
        let interfaces = self.ec2.describe_network_interfaces().send().await.expect("EC2");
        let groups = self.ec2.describe_security_groups().send().await.expect("EC2");
        let of = |id: &str| {
            let own = groups.security_groups().iter().filter(|group| group.group_id() == Some(id));
            own.flat_map(SecurityGroup::ip_permissions).flat_map(parse_rules).collect::<Vec<_>>()
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

    /// Returns the groups that do not carry `cluster`'s tag, each with all of its fields as text.
    pub(crate) async fn list_foreign_groups(&self, cluster: &str) -> BTreeMap<String, String> {
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

    /// Returns the ids of the groups that carry `cluster`'s tag.
    pub(crate) async fn list_owned_groups(&self, cluster: &str) -> Vec<String> {
        let filter = Filter::builder().name("tag:hostport-firewall.dev/cluster").values(cluster).build();
        let groups = self.ec2.describe_security_groups().filters(filter).send().await.expect("EC2");
        groups.security_groups().iter().filter_map(|group| group.group_id()).map(str::to_owned).collect()
    }

    /// Authorizes a TCP port for a source, as a person would by hand.
    pub(crate) async fn authorize_by_hand(&self, group: &str, port: i32, source: &str) {
        let permission = tcp_permission(port, source);
        let call = self.ec2.authorize_security_group_ingress().group_id(group).ip_permissions(permission);
        call.send().await.expect("authorized by hand");
    }

    /// Revokes a TCP port for a source, as a person would by hand.
    pub(crate) async fn revoke_by_hand(&self, group: &str, port: i32, source: &str) {
        let permission = tcp_permission(port, source);
        let call = self.ec2.revoke_security_group_ingress().group_id(group).ip_permissions(permission);
        call.send().await.expect("revoked by hand");
    }

    /// Returns the calls that changed something since the start, in order, by LocalStack's own log.
    pub(crate) fn list_mutations(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.log_path()).expect("LocalStack's log");
        let calls = log.lines().filter_map(|line| line.split_once("AWS ec2.")?.1.split_once(" => 200"));
        calls.map(|(call, _)| call.to_owned()).filter(|call| !call.starts_with("Describe")).collect()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

fn tcp_permission(port: i32, source: &str) -> IpPermission {
    IpPermission::builder()
        .ip_protocol("tcp")
        .from_port(port)
        .to_port(port)
        .ip_ranges(IpRange::builder().cidr_ip(source).build())
        .build()
}

fn parse_rules(permission: &IpPermission) -> Vec<IngressRule> {
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
