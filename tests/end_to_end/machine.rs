//! A node's instance in one of the clouds.

use serde_json::{Value, json};

/// A node's instance, as the seed made it, with its Node object.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) name: String,
    /// The network interface's id, on AWS; else empty
    pub(crate) interface: String,
    /// The id of the node's own security group, on AWS; else empty
    pub(crate) node_group: String,
    /// The Node object
    pub(crate) node: Value,
}

impl Machine {
    /// Returns a machine whose cloud knows it by its name.
    pub(crate) fn new(name: &str, provider_id: &str, addresses: &[String]) -> Self {
        let addresses: Vec<Value> =
            addresses.iter().map(|address| json!({ "type": "InternalIP", "address": address })).collect();
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name },
            "spec": { "providerID": provider_id },
            "status": { "addresses": addresses, "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        Self { name: name.to_owned(), interface: String::new(), node_group: String::new(), node }
    }

    /// Returns true if the node's providerID is Google Cloud's.
    pub(crate) fn is_on_gce(&self) -> bool {
        self.node["spec"]["providerID"].as_str().is_some_and(|id| id.starts_with("gce://"))
    }

    /// Returns the node's first internal address.
    pub(crate) fn address(&self) -> &str {
        self.node["status"]["addresses"][0]["address"].as_str().expect("an address")
    }
}
