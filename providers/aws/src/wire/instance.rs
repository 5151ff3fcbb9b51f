//! Instances and network interfaces as EC2 describes them.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{
    GroupIdentifier, Instance as Ec2Instance, InstanceNetworkInterface, InstanceStateName, NetworkInterface,
    Tag,
};
use firewall_core::InstanceId;

use crate::inventory::Provisioner;

/// A network interface with its groups, in EC2's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) id: String,
    pub(crate) vpc: String,
    /// The instance whose primary interface it is, if it is one
    pub(crate) primary_of: Option<InstanceId>,
    pub(crate) groups: Vec<String>,
    pub(crate) has_ipv6: bool,
}

/// An instance that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) primary: Interface,
    pub(crate) interface_count: usize,
    /// The AWS service that manages it, if one does
    pub(crate) managed_by: Option<String>,
    /// The provisioner whose tag it has, if it has one's
    pub(crate) provisioner: Option<Provisioner>,
}

/// What `DescribeInstances` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Described {
    /// The instances that exist
    pub(crate) instances: Vec<Instance>,
    /// Those that are terminated or being terminated
    pub(crate) terminated: BTreeSet<InstanceId>,
}

impl Described {
    /// Adds an instance as `DescribeInstances` returns it. One without a primary interface, as it may be while
    /// it is being made, is left out.
    pub(crate) fn add(&mut self, from: &Ec2Instance) {
        let Some(id) = from.instance_id().map(InstanceId::new) else { return };
        let state = from.state().and_then(|state| state.name());
        if matches!(state, Some(InstanceStateName::Terminated | InstanceStateName::ShuttingDown)) {
            self.terminated.insert(id);
        } else {
            self.instances.extend(parse_instance(id, from));
        }
    }
}

/// Returns true for the primary interface: device 0 of network card 0.
const fn is_primary(device: Option<i32>, card: Option<i32>) -> bool {
    matches!((device, card), (Some(0), None | Some(0)))
}

/// Parses an interface as `DescribeNetworkInterfaces` returns it.
pub(crate) fn parse_interface(from: &NetworkInterface) -> Interface {
    let attachment = from.attachment().filter(|at| is_primary(at.device_index(), at.network_card_index()));
    Interface {
        id: from.network_interface_id().unwrap_or_default().to_owned(),
        vpc: from.vpc_id().unwrap_or_default().to_owned(),
        primary_of: attachment.and_then(|at| at.instance_id()).map(InstanceId::new),
        groups: group_ids(from.groups()),
        has_ipv6: !from.ipv6_addresses().is_empty(),
    }
}

/// Parses an instance that exists; `None` if it has no primary interface.
fn parse_instance(id: InstanceId, from: &Ec2Instance) -> Option<Instance> {
    let primary = from.network_interfaces().iter().find(|interface| {
        interface.attachment().is_some_and(|at| is_primary(at.device_index(), at.network_card_index()))
    })?;
    let mut keys = from.tags().iter().filter_map(Tag::key);
    let operator = from.operator().filter(|operator| operator.managed() == Some(true));
    Some(Instance {
        primary: parse_primary_interface(&id, primary),
        interface_count: from.network_interfaces().len(),
        managed_by: operator.map(|operator| operator.principal().unwrap_or("an AWS service").to_owned()),
        provisioner: keys.find_map(Provisioner::of_tag),
        id,
    })
}

fn parse_primary_interface(instance: &InstanceId, from: &InstanceNetworkInterface) -> Interface {
    Interface {
        id: from.network_interface_id().unwrap_or_default().to_owned(),
        vpc: from.vpc_id().unwrap_or_default().to_owned(),
        primary_of: Some(instance.clone()),
        groups: group_ids(from.groups()),
        has_ipv6: !from.ipv6_addresses().is_empty(),
    }
}

fn group_ids(groups: &[GroupIdentifier]) -> Vec<String> {
    groups.iter().filter_map(GroupIdentifier::group_id).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{
        InstanceNetworkInterfaceAttachment, InstanceState, NetworkInterfaceAttachment, OperatorResponse,
    };

    use super::*;

    fn instance(state: InstanceStateName, devices: &[i32]) -> Ec2Instance {
        let interface = |device: &i32| {
            let attachment = InstanceNetworkInterfaceAttachment::builder().device_index(*device).build();
            InstanceNetworkInterface::builder()
                .network_interface_id(format!("eni-{device}"))
                .attachment(attachment)
                .build()
        };
        Ec2Instance::builder()
            .instance_id("i-1")
            .state(InstanceState::builder().name(state).build())
            .set_network_interfaces(Some(devices.iter().map(interface).collect()))
            .operator(OperatorResponse::builder().managed(true).principal("eks.amazonaws.com").build())
            .build()
    }

    #[test]
    fn instance_that_is_being_terminated_does_not_exist() {
        for (state, exists) in [
            (InstanceStateName::Pending, true),
            (InstanceStateName::Running, true),
            (InstanceStateName::Stopped, true),
            (InstanceStateName::ShuttingDown, false),
            (InstanceStateName::Terminated, false),
        ] {
            let mut described = Described::default();
            described.add(&instance(state.clone(), &[0]));
            let found = (described.instances.len(), described.terminated.len());
            assert_eq!(found, if exists { (1, 0) } else { (0, 1) }, "{state}");
        }
    }

    #[test]
    fn provisioner_is_known_by_its_tag() {
        let cases = [
            ("karpenter.sh/nodepool", Some(Provisioner::Karpenter)),
            ("karpenter.sh/provisioner-name", Some(Provisioner::Karpenter)),
            ("sigs.k8s.io/cluster-api-provider-aws/cluster/prod", Some(Provisioner::ClusterApi)),
            ("sigs.k8s.io/cluster-api-provider-aws/role", None),
            ("karpenter.sh/discovery", None),
            ("kubernetes.io/cluster/prod", None),
        ];
        for (key, expected) in cases {
            let mut from = instance(InstanceStateName::Running, &[0]);
            from.tags = Some(["Name", key].map(|key| Tag::builder().key(key).value("x").build()).into());
            let parsed = parse_instance(InstanceId::new("i-1"), &from).unwrap();
            assert_eq!(parsed.provisioner, expected, "{key}");
        }
    }

    #[test]
    fn primary_interface_is_device_zero() {
        let parsed =
            parse_instance(InstanceId::new("i-1"), &instance(InstanceStateName::Running, &[1, 0])).unwrap();
        assert_eq!((parsed.primary.id.as_str(), parsed.interface_count), ("eni-0", 2));
        assert_eq!(parsed.managed_by.as_deref(), Some("eks.amazonaws.com"));
        let secondary = NetworkInterfaceAttachment::builder().instance_id("i-1").device_index(1).build();
        assert_eq!(
            parse_interface(&NetworkInterface::builder().attachment(secondary).build()).primary_of,
            None
        );
    }
}
