//! The annotations by which pods, Services and Ingresses ask: every key once.

use std::collections::BTreeMap;

/// Lists the ports: names, numbers or ranges.
pub(super) const EXPOSE: &str = "hostport-firewall.dev/expose";

/// Lists the sources of all ports; with `.<port>` behind it, of one.
pub(super) const SOURCE_RANGES: &str = "hostport-firewall.dev/source-ranges";

/// Lists the Service's ports whose node ports are opened.
pub(super) const EXPOSE_NODE_PORTS: &str = "hostport-firewall.dev/expose-node-ports";

/// Names the hostname that is to lead to the nodes where the ports are open.
pub(super) const HOSTNAME: &str = "hostport-firewall.dev/hostname";

pub(super) fn annotations(metadata: &kube::api::ObjectMeta) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    metadata.annotations.as_ref().unwrap_or(&NONE)
}
