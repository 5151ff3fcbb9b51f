//! The project's annotation keys on pods, Services and Ingresses, each once.

use std::collections::BTreeMap;

/// Lists the ports: names, numbers or ranges.
pub(super) const EXPOSE: &str = "hostport-firewall.dev/expose";

/// Lists the sources of all ports; with the suffix `.<port>`, of one.
pub(super) const SOURCE_RANGES: &str = "hostport-firewall.dev/source-ranges";

/// Lists the Service's ports whose node ports are opened.
pub(super) const EXPOSE_NODE_PORTS: &str = "hostport-firewall.dev/expose-node-ports";

/// Names the hostname to publish for the nodes where the ports are open.
pub(super) const HOSTNAME: &str = "hostport-firewall.dev/hostname";

/// Returns the annotations of an object; empty if it has none.
pub(super) fn annotations(metadata: &kube::core::ObjectMeta) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    metadata.annotations.as_ref().unwrap_or(&NONE)
}
