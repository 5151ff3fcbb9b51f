//! Instances and network interfaces as EC2 describes them.

use aws_sdk_ec2::types::{
    GroupIdentifier, Instance, InstanceNetworkInterface, InstanceStateName, NetworkInterface,
};
use firewall_core::InstanceId;

/// A network interface with its groups, in EC2's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) id: String,
    pub(crate) vpc: String,
    /// The instance whose primary interface it is
    pub(crate) primary_of: Option<InstanceId>,
    pub(crate) groups: Vec<String>,
    pub(crate) ipv6: bool,
}

/// An instance that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) id: InstanceId,
    pub(crate) primary: Interface,
    pub(crate) interfaces: usize,
    pub(crate) managed_by: Option<String>,
}

/// The primary interface is device 0 of network card 0.
const fn is_primary(device: Option<i32>, card: Option<i32>) -> bool {
    matches!((device, card), (Some(0), None | Some(0)))
}

/// The interface as `DescribeNetworkInterfaces` has it.
pub(crate) fn interface(from: &NetworkInterface) -> Interface {
    let attachment = from.attachment().filter(|at| is_primary(at.device_index(), at.network_card_index()));
    Interface {
        id: from.network_interface_id().unwrap_or_default().to_owned(),
        vpc: from.vpc_id().unwrap_or_default().to_owned(),
        primary_of: attachment.and_then(|at| at.instance_id()).map(InstanceId::new),
        groups: group_ids(from.groups()),
        ipv6: !from.ipv6_addresses().is_empty(),
    }
}

/// The instance as `DescribeInstances` has it; `None` if it is gone or going, or has no primary interface.
pub(crate) fn machine(from: &Instance) -> Option<Machine> {
    let state = from.state().and_then(|state| state.name());
    if matches!(state, Some(InstanceStateName::Terminated | InstanceStateName::ShuttingDown)) {
        return None;
    }
    let id = InstanceId::new(from.instance_id()?);
    let primary = from.network_interfaces().iter().find(|interface| {
        interface.attachment().is_some_and(|at| is_primary(at.device_index(), at.network_card_index()))
    })?;
    let operator = from.operator().filter(|operator| operator.managed() == Some(true));
    Some(Machine {
        primary: primary_interface(&id, primary),
        interfaces: from.network_interfaces().len(),
        managed_by: operator.map(|operator| operator.principal().unwrap_or("an AWS service").to_owned()),
        id,
    })
}

fn primary_interface(instance: &InstanceId, from: &InstanceNetworkInterface) -> Interface {
    Interface {
        id: from.network_interface_id().unwrap_or_default().to_owned(),
        vpc: from.vpc_id().unwrap_or_default().to_owned(),
        primary_of: Some(instance.clone()),
        groups: group_ids(from.groups()),
        ipv6: !from.ipv6_addresses().is_empty(),
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

    fn instance(state: InstanceStateName, devices: &[i32]) -> Instance {
        let interface = |device: &i32| {
            let attachment = InstanceNetworkInterfaceAttachment::builder().device_index(*device).build();
            InstanceNetworkInterface::builder()
                .network_interface_id(format!("eni-{device}"))
                .attachment(attachment)
                .build()
        };
        Instance::builder()
            .instance_id("i-1")
            .state(InstanceState::builder().name(state).build())
            .set_network_interfaces(Some(devices.iter().map(interface).collect()))
            .operator(OperatorResponse::builder().managed(true).principal("eks.amazonaws.com").build())
            .build()
    }

    #[test]
    fn an_instance_that_is_going_is_gone() {
        for (state, exists) in [
            (InstanceStateName::Pending, true),
            (InstanceStateName::Running, true),
            (InstanceStateName::Stopped, true),
            (InstanceStateName::ShuttingDown, false),
            (InstanceStateName::Terminated, false),
        ] {
            assert_eq!(machine(&instance(state.clone(), &[0])).is_some(), exists, "{state}");
        }
    }

    #[test]
    fn the_primary_interface_is_device_zero() {
        let machine = machine(&instance(InstanceStateName::Running, &[1, 0])).unwrap();
        assert_eq!((machine.primary.id.as_str(), machine.interfaces), ("eni-0", 2));
        assert_eq!(machine.managed_by.as_deref(), Some("eks.amazonaws.com"));
        let secondary = NetworkInterfaceAttachment::builder().instance_id("i-1").device_index(1).build();
        assert_eq!(interface(&NetworkInterface::builder().attachment(secondary).build()).primary_of, None);
    }
}
