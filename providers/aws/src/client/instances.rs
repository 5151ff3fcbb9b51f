//! Calls about instances and their network interfaces.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{NetworkInterface, Reservation};

use super::groups::filter;
use super::{Client, MAX_FILTER_VALUES, PAGE_SIZE, fetch_all_batches, fetch_all_pages};
use crate::api_calls::ApiCall;
use crate::rate_limit::Ec2Limit;
use crate::wire::error::CallError;
use crate::wire::instance::{Described, Interface, parse_interface};

impl Client {
    /// Returns true if `DescribeNetworkInterfaces` is permitted, by a dry run.
    pub(crate) async fn may_describe_interfaces(&self) -> Result<bool, CallError> {
        let request = self.ec2.describe_network_interfaces().dry_run(true);
        let call = ApiCall::DescribeNetworkInterfaces;
        let limit = Ec2Limit::of_ids(call);
        match self.call_within(limit, "all interfaces", || request.clone().send()).await {
            Ok(_) => Ok(true),
            Err(error) if error.is("DryRunOperation") => Ok(true),
            Err(error) if error.is_unauthorized() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns all interfaces that have one of the groups, primary or not.
    pub(crate) async fn describe_interfaces_with_groups(
        &self,
        groups: &[String],
    ) -> Result<Vec<Interface>, CallError> {
        let call = ApiCall::DescribeNetworkInterfaces;
        let all = fetch_all_batches(groups, self.groups_per_filter, |batch| {
            let request = self
                .ec2
                .describe_network_interfaces()
                .filters(filter("group-id", batch))
                .max_results(PAGE_SIZE);
            fetch_all_pages(call, move |token| {
                let request = request.clone().set_next_token(token);
                async move {
                    let page = self.call(call, "interfaces by group", || request.clone().send()).await?;
                    Ok((page.network_interfaces.unwrap_or_default(), page.next_token))
                }
            })
        });
        let all: Vec<NetworkInterface> = all.await?;
        // An interface with groups of two batches is in both answers.
        let interfaces = all.iter().map(parse_interface).map(|interface| (interface.id.clone(), interface));
        Ok(interfaces.collect::<BTreeMap<_, _>>().into_values().collect())
    }

    /// Returns the interface with that id, if it exists.
    pub(crate) async fn find_interface(&self, id: &str) -> Result<Option<Interface>, CallError> {
        let request = self.ec2.describe_network_interfaces().network_interface_ids(id);
        let call = ApiCall::DescribeNetworkInterfaces;
        match self.call_within(Ec2Limit::of_ids(call), id, || request.clone().send()).await {
            Ok(answer) => Ok(answer.network_interfaces().first().map(parse_interface)),
            Err(error) if error.is("InvalidNetworkInterfaceID.NotFound") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the groups of an interface.
    pub(crate) async fn modify_interface_groups(
        &self,
        interface: &str,
        groups: Vec<String>,
    ) -> Result<(), CallError> {
        let request = self
            .ec2
            .modify_network_interface_attribute()
            .network_interface_id(interface)
            .set_groups(Some(groups));
        let call = ApiCall::ModifyNetworkInterfaceAttribute;
        self.call(call, interface, || request.clone().send()).await.map(drop)
    }

    /// Returns all instances that have one of `values` for the filter `name`. Asks by filter and not by id,
    /// so that a missing instance is absent and does not fail the others.
    pub(crate) async fn describe_instances(
        &self,
        name: &str,
        values: &[String],
    ) -> Result<Described, CallError> {
        let call = ApiCall::DescribeInstances;
        let object = &format!("instances by {name}");
        let reservations = fetch_all_batches(values, MAX_FILTER_VALUES, |batch| {
            let request = self.ec2.describe_instances().filters(filter(name, batch)).max_results(PAGE_SIZE);
            fetch_all_pages(call, move |token| {
                let request = request.clone().set_next_token(token);
                async move {
                    let page = self.call(call, object, || request.clone().send()).await?;
                    Ok((page.reservations.unwrap_or_default(), page.next_token))
                }
            })
        });
        let mut described = Described::default();
        for instance in reservations.await?.iter().flat_map(Reservation::instances) {
            described.add(instance);
        }
        Ok(described)
    }

    /// Replaces the groups of an instance that has a single interface.
    pub(crate) async fn modify_instance_groups(
        &self,
        instance: &str,
        groups: Vec<String>,
    ) -> Result<(), CallError> {
        let request = self.ec2.modify_instance_attribute().instance_id(instance).set_groups(Some(groups));
        self.call(ApiCall::ModifyInstanceAttribute, instance, || request.clone().send()).await.map(drop)
    }
}
