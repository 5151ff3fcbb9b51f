//! Flags: the administrator's choices about intents.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use firewall_core::{Limits, PortRange};
use ipnet::IpNet;

use crate::controller::config::SettingsSource;
use crate::guardrails::{Guardrails, Ports};
use crate::intents::settings::Settings;
use crate::reconcile::pass::Options;

/// The administrator's choices about intents.
#[derive(Args, Debug)]
pub struct IntentArgs {
    /// Sources of an intent that names none; IPv6 only where the node has an IPv6 address
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',', default_value = "0.0.0.0/0,::/0")]
    pub default_source_ranges: Vec<IpNet>,
    /// Ports that may be exposed although they are denied by default (22, 2379-2380, 6443, 10248-10259; UDP 4789, 6081,
    /// 8472)
    #[arg(long, value_name = "PORTS,…", value_delimiter = ',')]
    pub allow_ports: Vec<PortRange>,
    /// YAML file of what no intent can exceed: ports, namespaces, source ranges, hostnames, rules; read again
    /// when it changes
    #[arg(long, value_name = "FILE")]
    pub guardrails: Option<PathBuf>,
    /// Namespace where k3s runs the pods of its `ServiceLB`
    #[arg(long, value_name = "NAMESPACE", default_value = "kube-system")]
    pub service_lb_namespace: String,
    /// Publish the hostnames that intents name, as external-dns' kind `DNSEndpoint`
    #[arg(long)]
    pub external_dns: bool,
    /// Changes that may be made at all
    #[arg(long, value_enum, default_value_t = Policy::Sync)]
    pub policy: Policy,
    /// Hold a plan that closes more than this share of the open ports, in percent, and at least 10 ports
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub mass_close_percent: u8,
    /// Apply a plan even if it exceeds the mass-close limit
    #[arg(long)]
    pub release_mass_close: bool,
}

/// Changes that may be made at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// Open and close
    Sync,
    /// Open, never close
    OpenOnly,
    /// Change nothing, log what would change
    Observe,
}

impl IntentArgs {
    /// Returns the settings of all intents, and the file that may hold their guardrails.
    pub(super) fn settings(&self) -> SettingsSource {
        let guardrails = Guardrails {
            allowed_ports: self.allow_ports.iter().copied().map(Ports::from).collect(),
            ..Guardrails::default()
        };
        SettingsSource {
            fixed: Settings {
                default_source_ranges: self.default_source_ranges.clone(),
                guardrails,
                service_lb_namespace: self.service_lb_namespace.clone(),
                external_dns: self.external_dns,
            },
            guardrails: self.guardrails.clone(),
        }
    }

    /// Returns the administrator's choices, for a command that runs once.
    pub(super) fn options(&self) -> Options {
        Options {
            policy: match self.policy {
                Policy::Sync => firewall_core::Policy::Sync,
                Policy::OpenOnly => firewall_core::Policy::OpenOnly,
                Policy::Observe => firewall_core::Policy::Observe,
            },
            limits: Limits {
                mass_close_percent: self.mass_close_percent.into(),
                mass_close_released: self.release_mass_close,
                ..Limits::default()
            },
            ..Options::default()
        }
    }
}
