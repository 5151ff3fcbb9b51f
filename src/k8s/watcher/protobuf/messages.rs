//! Messages of the built-in kinds: only the fields that are read, with the numbers that `generated.proto` of
//! `k8s.io/api` gives them.

use bytes::Bytes;
use prost::Message;

use super::metadata::ObjectMeta;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Pod {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    pub(super) spec: Option<PodSpec>,
    #[prost(message, optional, tag = "3")]
    pub(super) status: Option<PodStatus>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PodSpec {
    #[prost(message, repeated, tag = "2")]
    pub(super) containers: Vec<Container>,
    #[prost(bytes = "bytes", tag = "10")]
    pub(super) node_name: Bytes,
    #[prost(bool, tag = "11")]
    pub(super) host_network: bool,
    #[prost(message, repeated, tag = "20")]
    pub(super) init_containers: Vec<Container>,
    #[prost(message, repeated, tag = "28")]
    pub(super) readiness_gates: Vec<ReadinessGate>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadinessGate {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) condition_type: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Container {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) name: Bytes,
    #[prost(message, repeated, tag = "6")]
    pub(super) ports: Vec<ContainerPort>,
    #[prost(bytes = "bytes", tag = "24")]
    pub(super) restart_policy: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ContainerPort {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) name: Bytes,
    #[prost(int32, tag = "2")]
    pub(super) host_port: i32,
    #[prost(int32, tag = "3")]
    pub(super) port: i32,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) protocol: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) host_ip: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PodStatus {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) phase: Bytes,
    #[prost(message, repeated, tag = "2")]
    pub(super) conditions: Vec<PodCondition>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PodCondition {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) kind: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) status: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) reason: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    pub(super) spec: Option<NodeSpec>,
    #[prost(message, optional, tag = "3")]
    pub(super) status: Option<NodeStatus>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeSpec {
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) provider_id: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeStatus {
    #[prost(message, repeated, tag = "4")]
    pub(super) conditions: Vec<NodeCondition>,
    #[prost(message, repeated, tag = "5")]
    pub(super) addresses: Vec<NodeAddress>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeCondition {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) kind: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) status: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) reason: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeAddress {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) kind: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) address: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Namespace {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMeta>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Service {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    pub(super) spec: Option<ServiceSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ServiceSpec {
    #[prost(message, repeated, tag = "1")]
    pub(super) ports: Vec<ServicePort>,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) kind: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub(super) load_balancer_source_ranges: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "11")]
    pub(super) external_traffic_policy: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "19")]
    pub(super) ip_families: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ServicePort {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) protocol: Bytes,
    #[prost(int32, tag = "3")]
    pub(super) port: i32,
    #[prost(int32, tag = "5")]
    pub(super) node_port: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointSlice {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMeta>,
    #[prost(message, repeated, tag = "2")]
    pub(super) endpoints: Vec<Endpoint>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Endpoint {
    #[prost(message, optional, tag = "2")]
    pub(super) conditions: Option<EndpointConditions>,
    #[prost(bytes = "bytes", tag = "6")]
    pub(super) node_name: Bytes,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct EndpointConditions {
    #[prost(bool, optional, tag = "1")]
    pub(super) ready: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub(super) serving: Option<bool>,
    #[prost(bool, optional, tag = "3")]
    pub(super) terminating: Option<bool>,
}

/// `networking.k8s.io/v1`. Its rules have no port: Voyager's have.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Ingress {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    pub(super) spec: Option<IngressSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct IngressSpec {
    #[prost(message, repeated, tag = "3")]
    pub(super) rules: Vec<IngressRule>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct IngressRule {
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<IngressRuleValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct IngressRuleValue {
    #[prost(message, optional, tag = "1")]
    pub(super) http: Option<HttpIngressRuleValue>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct HttpIngressRuleValue {}
