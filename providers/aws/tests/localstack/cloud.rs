//! One VPC in a real `LocalStack`, with a node group and instances.

#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ec2::types::{
    Filter, InstanceType, IpPermission, IpRange, ResourceType, SecurityGroup, Tag, TagSpecification,
};
use firewall_aws::{Aws, AwsConfig, CLUSTER_TAG};
use firewall_core::testing::conformance::Harness;
use firewall_core::{IngressRule, InstanceId, RuleSet};

/// One VPC with instances; each test has its own.
pub(crate) struct LocalStack {
    pub ec2: Client,
    pub(crate) vpc: String,
    /// The id of the nodes' own security group
    pub(crate) nodes: String,
    instances: Vec<InstanceId>,
}

fn client() -> Client {
    let url = std::env::var("LOCALSTACK_URL").expect(
        "LOCALSTACK_URL must name a running LocalStack, for example http://127.0.0.1:4566 (localstack/start)",
    );
    let config = aws_sdk_ec2::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(url)
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .build();
    Client::from_conf(config)
}

fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

impl LocalStack {
    /// Creates a VPC with so many instances.
    pub(crate) async fn with_instances(count: i32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let ec2 = client();
        let network = 20 + NEXT.fetch_add(1, Ordering::Relaxed);
        let vpc = ec2.create_vpc().cidr_block(format!("10.{network}.0.0/16")).send().await.unwrap();
        let vpc = vpc.vpc().unwrap().vpc_id().unwrap().to_owned();
        let subnet =
            ec2.create_subnet().vpc_id(&vpc).cidr_block(format!("10.{network}.0.0/24")).send().await.unwrap();
        let subnet = subnet.subnet().unwrap().subnet_id().unwrap().to_owned();
        let nodes = Self::create_group(&ec2, &vpc, "nodes", &[("kubernetes.io/cluster/test", "owned")]).await;
        let image = ec2.describe_images().send().await.unwrap().images()[0].image_id().unwrap().to_owned();
        let launched = ec2
            .run_instances()
            .image_id(image)
            .instance_type(InstanceType::T3Small)
            .min_count(count)
            .max_count(count)
            .subnet_id(subnet)
            .security_group_ids(&nodes)
            .send()
            .await
            .unwrap();
        let mut instances: Vec<InstanceId> =
            launched.instances().iter().map(|one| InstanceId::new(one.instance_id().unwrap())).collect();
        instances.sort();
        Self { ec2, vpc, nodes, instances }
    }

    /// Creates a security group and returns its id.
    pub(crate) async fn create_group(ec2: &Client, vpc: &str, name: &str, tags: &[(&str, &str)]) -> String {
        let mut specification = TagSpecification::builder().resource_type(ResourceType::SecurityGroup);
        for (key, value) in tags {
            specification = specification.tags(Tag::builder().key(*key).value(*value).build());
        }
        let request = ec2.create_security_group().vpc_id(vpc).group_name(name).description("test");
        let request =
            if tags.is_empty() { request } else { request.tag_specifications(specification.build()) };
        request.send().await.unwrap().group_id.unwrap()
    }

    /// Returns the provider with the setting that emulators need.
    pub(crate) fn provider_with(&self, config: AwsConfig) -> Aws {
        Aws::from_client(&self.ec2, AwsConfig { one_group_per_filter: true, ..config }).unwrap()
    }

    /// Returns all groups of the VPC.
    pub(crate) async fn groups(&self) -> Vec<SecurityGroup> {
        let request = self.ec2.describe_security_groups().filters(filter("vpc-id", &self.vpc));
        request.send().await.unwrap().security_groups.unwrap()
    }

    /// Returns the groups of the VPC that are tagged as the cluster's.
    pub(crate) async fn groups_of(&self, cluster: &str) -> Vec<SecurityGroup> {
        self.groups().await.into_iter().filter(|group| is_tagged(group, cluster)).collect()
    }

    /// Returns the groups on an instance's interface, in order.
    pub(crate) async fn attached(&self, instance: &InstanceId) -> Vec<String> {
        let answer = self.ec2.describe_instances().instance_ids(instance.as_str()).send().await.unwrap();
        let interface = &answer.reservations()[0].instances()[0].network_interfaces()[0];
        let mut ids: Vec<String> =
            interface.groups().iter().map(|group| group.group_id().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }

    /// Adds an ingress rule to a group.
    pub(crate) async fn authorize(&self, group: &str, rule: IngressRule) {
        let request = self.ec2.authorize_security_group_ingress().group_id(group);
        request.ip_permissions(build_permission(rule)).send().await.unwrap();
    }

    /// Removes an ingress rule from a group.
    pub(crate) async fn revoke(&self, group: &str, rule: IngressRule) {
        let request = self.ec2.revoke_security_group_ingress().group_id(group);
        request.ip_permissions(build_permission(rule)).send().await.unwrap();
    }

    /// Returns the ingress rules of a group.
    pub(crate) async fn rules_in(&self, group: &str) -> RuleSet {
        let groups = self.groups().await;
        let group = groups.iter().find(|one| one.group_id() == Some(group)).unwrap();
        parse_rules(group).into_iter().collect()
    }
}

fn is_tagged(group: &SecurityGroup, cluster: &str) -> bool {
    group.tags().iter().any(|tag| tag.key() == Some(CLUSTER_TAG) && tag.value() == Some(cluster))
}

fn build_permission(rule: IngressRule) -> IpPermission {
    IpPermission::builder()
        .ip_protocol(rule.protocol.to_string())
        .from_port(rule.ports.first().into())
        .to_port(rule.ports.last().into())
        .ip_ranges(IpRange::builder().cidr_ip(rule.source.to_string()).build())
        .build()
}

fn parse_rules(group: &SecurityGroup) -> Vec<IngressRule> {
    let mut rules = Vec::new();
    for permission in group.ip_permissions() {
        let protocol = match permission.ip_protocol().unwrap() {
            "132" => "sctp",
            name => name,
        };
        let v4 = permission.ip_ranges().iter().filter_map(|range| range.cidr_ip());
        let v6 = permission.ipv6_ranges().iter().filter_map(|range| range.cidr_ipv6());
        let ports = format!("{}-{}", permission.from_port().unwrap(), permission.to_port().unwrap());
        let rule = |cidr: &str| {
            IngressRule::new(protocol.parse().unwrap(), ports.parse().unwrap(), cidr.parse().unwrap())
        };
        rules.extend(v4.chain(v6).map(rule));
    }
    rules
}

impl Harness for LocalStack {
    type Provider = Aws;

    fn provider(&self, cluster: &str) -> Aws {
        self.provider_with(AwsConfig::new(cluster))
    }

    fn instances(&self) -> Vec<InstanceId> {
        self.instances.clone()
    }

    fn missing_instance(&self) -> InstanceId {
        InstanceId::new("i-0123456789abcdef0")
    }

    async fn open_rules(&self, cluster: &str, instance: &InstanceId) -> RuleSet {
        let attached = self.attached(instance).await;
        let ours = self.groups_of(cluster).await.into_iter();
        let ours = ours.filter(|group| attached.iter().any(|id| group.group_id() == Some(id)));
        ours.flat_map(|group| parse_rules(&group)).collect()
    }

    async fn foreign_state(&self, cluster: &str) -> String {
        let mut groups = self.groups().await;
        groups.retain(|group| !is_tagged(group, cluster));
        groups.sort_by_key(|group| group.group_id().map(ToOwned::to_owned));
        let ours: Vec<String> =
            self.groups_of(cluster).await.into_iter().filter_map(|group| group.group_id).collect();
        let mut attached = Vec::new();
        for instance in &self.instances {
            let ids = self.attached(instance).await;
            attached.push(ids.into_iter().filter(|id| !ours.contains(id)).collect::<Vec<_>>());
        }
        format!("{groups:?} {attached:?}")
    }

    async fn tamper_with_rule(&self, cluster: &str, rule: IngressRule, present: bool) {
        let group = self.groups_of(cluster).await.remove(0);
        let id = group.group_id().unwrap();
        if present {
            self.authorize(id, rule).await;
        } else {
            self.revoke(id, rule).await;
        }
    }
}
