//! A node's machine in one of the clouds.

use serde_json::{Value, json};

/// A node's machine, as the seed made it.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) name: String,
    /// The network interface, on AWS
    pub(crate) interface: String,
    /// The node's own security group, on AWS
    pub(crate) node_group: String,
    /// The Node object
    pub(crate) node: Value,
}

impl Machine {
    /// A machine whose cloud knows it by its name.
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

    pub(crate) fn is_google(&self) -> bool {
        self.node["spec"]["providerID"].as_str().is_some_and(|id| id.starts_with("gce://"))
    }

    /// Its first internal address.
    pub(crate) fn address(&self) -> &str {
        self.node["status"]["addresses"][0]["address"].as_str().expect("an address")
    }
}
