//! From messages to the slim objects that JSON is read into: the same object gives the same in both.

use bytes::Bytes;

use super::super::kind::Kind;
use super::messages;
use super::metadata::{ObjectMeta, each, optional, text};
use crate::k8s::index::Object;
use crate::k8s::objects::{
    Condition, Container, ContainerPort, Endpoint, EndpointConditions, EndpointSlice, GATE, Ingress,
    IngressFrontend, IngressSpec, IngressSpecRule, Namespace, Node, NodeAddress, NodeSpec, NodeStatus, Pod,
    PodSpec, PodStatus, ReadinessGate, Service, ServicePort, ServiceSpec,
};

/// A message that stands for an object of the index.
pub(super) trait IntoObject {
    /// Returns false only of an object that is not held. It is asked before anything is copied.
    fn may_matter(&self) -> bool {
        true
    }

    fn into_object(self, kind: &Kind) -> Object;
}

impl IntoObject for messages::Pod {
    fn may_matter(&self) -> bool {
        let spec = self.spec.as_ref();
        let containers =
            || spec.into_iter().flat_map(|spec| spec.containers.iter().chain(&spec.init_containers));
        spec.is_some_and(|spec| spec.host_network)
            || containers().any(|container| container.ports.iter().any(|port| port.host_port != 0))
            || self.metadata.as_ref().is_some_and(ObjectMeta::carries_ours)
            || spec.is_some_and(|spec| spec.readiness_gates.iter().any(|gate| gate.condition_type == GATE))
    }

    fn into_object(self, _: &Kind) -> Object {
        let (spec, status) = (self.spec.unwrap_or_default(), self.status.unwrap_or_default());
        let gate =
            |gate: messages::ReadinessGate| ReadinessGate { condition_type: text(&gate.condition_type) };
        let condition = |one: messages::PodCondition| condition(&one.kind, &one.status, &one.reason);
        Object::Pod(Pod {
            metadata: self.metadata.unwrap_or_default().into_api(),
            spec: PodSpec {
                node_name: optional(&spec.node_name),
                host_network: spec.host_network,
                containers: each(spec.containers, container),
                init_containers: each(spec.init_containers, container),
                readiness_gates: each(spec.readiness_gates, gate),
            },
            status: PodStatus {
                phase: optional(&status.phase),
                conditions: each(status.conditions, condition),
            },
        })
    }
}

fn container(container: messages::Container) -> Container {
    let port = |port: messages::ContainerPort| ContainerPort {
        name: optional(&port.name),
        container_port: port.port.into(),
        host_port: number(port.host_port),
        host_ip: optional(&port.host_ip),
        protocol: optional(&port.protocol),
    };
    Container {
        name: text(&container.name),
        ports: each(container.ports, port),
        restart_policy: optional(&container.restart_policy),
    }
}

impl IntoObject for messages::Node {
    fn into_object(self, _: &Kind) -> Object {
        let status = self.status.unwrap_or_default();
        let condition = |one: messages::NodeCondition| condition(&one.kind, &one.status, &one.reason);
        let address =
            |one: messages::NodeAddress| NodeAddress { address: text(&one.address), kind: text(&one.kind) };
        Object::Node(Node {
            metadata: self.metadata.unwrap_or_default().into_api(),
            spec: NodeSpec { provider_id: optional(&self.spec.unwrap_or_default().provider_id) },
            status: NodeStatus {
                addresses: each(status.addresses, address),
                conditions: each(status.conditions, condition),
            },
        })
    }
}

impl IntoObject for messages::Namespace {
    fn into_object(self, _: &Kind) -> Object {
        Object::Namespace(Namespace { metadata: self.metadata.unwrap_or_default().into_api() })
    }
}

impl IntoObject for messages::Service {
    fn into_object(self, _: &Kind) -> Object {
        let spec = self.spec.unwrap_or_default();
        let port = |port: messages::ServicePort| ServicePort {
            name: optional(&port.name),
            port: port.port.into(),
            node_port: number(port.node_port),
            protocol: optional(&port.protocol),
        };
        Object::Service(Service {
            metadata: self.metadata.unwrap_or_default().into_api(),
            spec: ServiceSpec {
                kind: optional(&spec.kind),
                ports: each(spec.ports, port),
                external_traffic_policy: optional(&spec.external_traffic_policy),
                ip_families: spec.ip_families.iter().map(text).collect(),
                load_balancer_source_ranges: spec.load_balancer_source_ranges.iter().map(text).collect(),
            },
        })
    }
}

impl IntoObject for messages::EndpointSlice {
    fn into_object(self, _: &Kind) -> Object {
        let endpoint = |one: messages::Endpoint| {
            let messages::EndpointConditions { ready, serving, terminating } =
                one.conditions.unwrap_or_default();
            let conditions = EndpointConditions { ready, serving, terminating };
            Endpoint { node_name: optional(&one.node_name), conditions }
        };
        Object::EndpointSlice(EndpointSlice {
            metadata: self.metadata.unwrap_or_default().into_api(),
            endpoints: each(self.endpoints, endpoint),
        })
    }
}

impl IntoObject for messages::Ingress {
    fn into_object(self, kind: &Kind) -> Object {
        let rule = |rule: messages::IngressRule| {
            let http = rule.value.and_then(|value| value.http).map(|_| IngressFrontend::default());
            IngressSpecRule { http, tcp: None }
        };
        Object::Ingress(Ingress {
            api_version: Some(kind.api_version.clone()),
            metadata: self.metadata.unwrap_or_default().into_api(),
            spec: IngressSpec {
                rules: each(self.spec.unwrap_or_default().rules, rule),
                load_balancer_source_ranges: Vec::new(),
            },
        })
    }
}

fn condition(kind: &Bytes, status: &Bytes, reason: &Bytes) -> Condition {
    Condition { kind: text(kind), status: text(status), reason: text(reason) }
}

/// Returns a number that is absent from JSON when it is 0.
fn number(number: i32) -> Option<i64> {
    (number != 0).then(|| number.into())
}
