//! Settings that apply to all intents.

use ipnet::IpNet;

use crate::guardrails::Guardrails;

/// Defaults and guardrails, which only the administrator sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The sources of an intent that names none
    pub default_source_ranges: Vec<IpNet>,
    /// The limits of every intent
    pub guardrails: Guardrails,
    /// The namespace where k3s runs the pods of `ServiceLB`
    pub service_lb_namespace: String,
    /// True if hostnames are published
    pub external_dns: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let anywhere = ["0.0.0.0/0", "::/0"].map(|cidr| cidr.parse().expect("a constant CIDR"));
        Self {
            default_source_ranges: anywhere.to_vec(),
            guardrails: Guardrails::default(),
            service_lb_namespace: "kube-system".to_owned(),
            external_dns: false,
        }
    }
}
