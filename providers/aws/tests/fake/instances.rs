//! Instances and their network interfaces.

use super::wire::{element, list};
use super::{Failure, Params, State};

const GROUPS_PER_INTERFACE: usize = 5;

/// One instance.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) vpc: String,
    pub(crate) state: &'static str,
    pub(crate) managed_by: Option<String>,
    /// The key of its tag
    pub(crate) tag: &'static str,
    /// In the order of their device indexes
    pub(crate) interfaces: Vec<String>,
}

/// One network interface.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub(crate) vpc: String,
    pub(crate) groups: Vec<String>,
}

impl State {
    /// Adds an instance with one interface.
    pub(crate) fn add_instance(&mut self, id: &str, vpc: &str, groups: &[&str]) {
        let (vpc, interfaces) = (vpc.to_owned(), Vec::new());
        let instance = Instance { vpc, state: "running", managed_by: None, tag: "Name", interfaces };
        self.instances.insert(id.to_owned(), instance);
        self.add_interface(id, groups);
    }

    /// Adds the next interface of an instance, and returns its id.
    pub(crate) fn add_interface(&mut self, instance: &str, groups: &[&str]) -> String {
        let owner = self.instances.get_mut(instance).unwrap();
        let id = format!("eni-{}-{}", &instance[2..], owner.interfaces.len());
        owner.interfaces.push(id.clone());
        let groups = groups.iter().map(ToString::to_string).collect();
        self.interfaces.insert(id.clone(), Interface { vpc: owner.vpc.clone(), groups });
        id
    }

    /// Returns the groups of an instance's primary interface.
    pub(crate) fn groups_of(&mut self, instance: &str) -> &mut Vec<String> {
        let primary = &self.instances[instance].interfaces[0];
        &mut self.interfaces.get_mut(primary).unwrap().groups
    }

    fn interface_xml(&self, id: &str, attachment: &str) -> String {
        let interface = &self.interfaces[id];
        let name = |group: &String| {
            let name = self.groups.get(group).map_or("?", |group| &group.name);
            element("groupId", group) + &element("groupName", name)
        };
        element("networkInterfaceId", id)
            + &element("vpcId", &interface.vpc)
            + &list("groupSet", interface.groups.iter().map(name))
            + &format!("<attachment>{attachment}</attachment>")
    }

    /// Returns the instance that the interface is attached to, and the device index.
    fn attachment(&self, interface: &str) -> Option<(&String, usize)> {
        self.instances.iter().find_map(|(id, instance)| {
            instance.interfaces.iter().position(|own| own == interface).map(|device| (id, device))
        })
    }

    pub(super) fn describe_instances(&self, params: &Params) -> String {
        let [(name, values)] = &params.filters()[..] else { panic!("one filter") };
        let matches = |(id, instance): &(&String, &Instance)| match name.as_str() {
            "instance-id" => values.contains(id),
            "instance.group-id" => {
                let groups =
                    instance.interfaces.iter().flat_map(|interface| &self.interfaces[interface].groups);
                groups.into_iter().any(|group| values.contains(group))
            }
            _ => panic!("unknown filter {name}"),
        };
        let describe = |(id, instance): (&String, &Instance)| {
            let interfaces = instance.interfaces.iter().enumerate();
            let interfaces = interfaces.map(|(device, interface)| {
                self.interface_xml(interface, &element("deviceIndex", &device.to_string()))
            });
            let operator = instance.managed_by.as_ref().map_or(String::new(), |principal| {
                format!("<operator><managed>true</managed>{}</operator>", element("principal", principal))
            });
            let instance = element("instanceId", id)
                + &format!("<instanceState>{}</instanceState>", element("name", instance.state))
                + &element("vpcId", &instance.vpc)
                + &list("networkInterfaceSet", interfaces)
                + &list("tagSet", [element("key", instance.tag) + &element("value", "x")])
                + &operator;
            list("instancesSet", [instance])
        };
        let visible = self.instances.iter().filter(|(id, _)| !self.is_hidden(params, id));
        let (page, token) = params.page(visible.filter(matches).map(describe).collect(), self.has_full_pages);
        list("reservationSet", page) + &token
    }

    pub(super) fn describe_interfaces(&self, params: &Params) -> Result<String, Failure> {
        let ids = params.list("NetworkInterfaceId");
        if let Some(missing) = ids.iter().find(|id| !self.interfaces.contains_key(*id)) {
            return Err(Failure::new("InvalidNetworkInterfaceID.NotFound", missing));
        }
        let matches = |(id, interface): &(&String, &Interface)| {
            (ids.is_empty() || ids.contains(id))
                && params.filters().iter().all(|(name, values)| {
                    assert_eq!(name, "group-id");
                    interface.groups.iter().any(|group| values.contains(group))
                })
        };
        let describe = |(id, _): (&String, &Interface)| {
            let attachment = self.attachment(id).map_or(String::new(), |(instance, device)| {
                element("instanceId", instance) + &element("deviceIndex", &device.to_string())
            });
            self.interface_xml(id, &attachment)
        };
        let visible = self.interfaces.iter().filter(|(id, _)| !self.is_hidden(params, id));
        let (page, token) = params.page(visible.filter(matches).map(describe).collect(), self.has_full_pages);
        Ok(list("networkInterfaceSet", page) + &token)
    }

    pub(super) fn modify_interface(&mut self, params: &Params) -> Result<String, Failure> {
        self.set_groups(params.get("NetworkInterfaceId"), params.list("SecurityGroupId"))
    }

    pub(super) fn modify_instance(&mut self, params: &Params) -> Result<String, Failure> {
        let missing = || Failure::new("InvalidInstanceID.NotFound", params.get("InstanceId"));
        let instance = self.instances.get(params.get("InstanceId")).ok_or_else(missing)?;
        let [interface] = &instance.interfaces[..] else {
            return Err(Failure::new(
                "InvalidInstanceID",
                "There are multiple interfaces attached to the instance",
            ));
        };
        self.set_groups(&interface.clone(), params.list("GroupId"))
    }

    fn set_groups(&mut self, id: &str, groups: Vec<String>) -> Result<String, Failure> {
        let missing = || Failure::new("InvalidNetworkInterfaceID.NotFound", id);
        let vpc = &self.interfaces.get(id).ok_or_else(missing)?.vpc;
        if groups.is_empty() {
            return Err(Failure::new("InvalidParameterValue", "at least one group"));
        }
        if groups.len() > GROUPS_PER_INTERFACE {
            return Err(Failure::new("SecurityGroupsPerInterfaceLimitExceeded", "5"));
        }
        let is_unknown = |group: &&String| self.groups.get(*group).is_none_or(|group| group.vpc != *vpc);
        if let Some(group) = groups.iter().find(is_unknown) {
            return Err(Failure::new("InvalidGroup.NotFound", group));
        }
        self.interfaces.get_mut(id).unwrap().groups = groups;
        Ok(element("return", "true"))
    }
}
