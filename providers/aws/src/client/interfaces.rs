//! Calls about instances and their network interfaces.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{NetworkInterface, Reservation};

use super::groups::filter;
use super::{Client, FILTER_VALUES, PAGE, paged};
use crate::action::Ec2Action;
use crate::wire::error::CallError;
use crate::wire::machine::{self, Interface, Machine};

impl Client {
    /// Whether `DescribeNetworkInterfaces` is permitted, by a dry run.
    pub(crate) async fn may_describe_interfaces(&self) -> Result<bool, CallError> {
        let request = self.ec2.describe_network_interfaces().dry_run(true);
        let action = Ec2Action::DescribeNetworkInterfaces;
        match self.call(action, "all interfaces", || request.clone().send()).await {
            Ok(_) => Ok(true),
            Err(error) if error.is("DryRunOperation") => Ok(true),
            Err(error) if error.is_unauthorized() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All interfaces that have one of the groups, primary or not.
    pub(crate) async fn interfaces_with_groups(
        &self,
        groups: &[String],
    ) -> Result<Vec<Interface>, CallError> {
        let action = Ec2Action::DescribeNetworkInterfaces;
        let mut all: Vec<NetworkInterface> = Vec::new();
        for batch in groups.chunks(self.groups_per_filter) {
            let request =
                self.ec2.describe_network_interfaces().filters(filter("group-id", batch)).max_results(PAGE);
            let interfaces = paged(action, |token| {
                let request = request.clone().set_next_token(token);
                async move {
                    let page = self.call(action, "interfaces by group", || request.clone().send()).await?;
                    Ok((page.network_interfaces.unwrap_or_default(), page.next_token))
                }
            });
            all.extend(interfaces.await?);
        }
        // An interface with groups of two batches came twice.
        let interfaces =
            all.iter().map(machine::interface).map(|interface| (interface.id.clone(), interface));
        Ok(interfaces.collect::<BTreeMap<_, _>>().into_values().collect())
    }

    /// The interface with that id, if it exists.
    pub(crate) async fn interface(&self, id: &str) -> Result<Option<Interface>, CallError> {
        let request = self.ec2.describe_network_interfaces().network_interface_ids(id);
        match self.call(Ec2Action::DescribeNetworkInterfaces, id, || request.clone().send()).await {
            Ok(answer) => Ok(answer.network_interfaces().first().map(machine::interface)),
            Err(error) if error.is("InvalidNetworkInterfaceID.NotFound") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the groups of an interface.
    pub(crate) async fn set_interface_groups(
        &self,
        interface: &str,
        groups: Vec<String>,
    ) -> Result<(), CallError> {
        let request = self
            .ec2
            .modify_network_interface_attribute()
            .network_interface_id(interface)
            .set_groups(Some(groups));
        let action = Ec2Action::ModifyNetworkInterfaceAttribute;
        self.call(action, interface, || request.clone().send()).await.map(drop)
    }

    /// All instances that have one of `values` for the filter `name`. By filter and not by id, so that a
    /// missing instance is absent and does not fail the others.
    pub(crate) async fn instances(&self, name: &str, values: &[String]) -> Result<Vec<Machine>, CallError> {
        let action = Ec2Action::DescribeInstances;
        let object = format!("instances by {name}");
        let object = object.as_str();
        let mut all = Vec::new();
        for batch in values.chunks(FILTER_VALUES) {
            let request = self.ec2.describe_instances().filters(filter(name, batch)).max_results(PAGE);
            let reservations = paged(action, |token| {
                let request = request.clone().set_next_token(token);
                async move {
                    let page = self.call(action, object, || request.clone().send()).await?;
                    Ok((page.reservations.unwrap_or_default(), page.next_token))
                }
            });
            let reservations = reservations.await?;
            let instances = reservations.iter().flat_map(Reservation::instances);
            all.extend(instances.filter_map(machine::machine));
        }
        Ok(all)
    }

    /// Replaces the groups of an instance that has a single interface.
    pub(crate) async fn set_instance_groups(
        &self,
        instance: &str,
        groups: Vec<String>,
    ) -> Result<(), CallError> {
        let request = self.ec2.modify_instance_attribute().instance_id(instance).set_groups(Some(groups));
        self.call(Ec2Action::ModifyInstanceAttribute, instance, || request.clone().send()).await.map(drop)
    }
}
