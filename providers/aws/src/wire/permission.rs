//! Ingress rules and EC2's permissions, both ways.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{
    IpPermission, IpRange, Ipv6Range, PrefixListId, SecurityGroupRule, UserIdGroupPair,
};
use firewall_core::{IngressRule, PortRange, Protocol};
use ipnet::IpNet;

use crate::resource::{Stray, StraySource};

/// The protocol as EC2 wants it: TCP and UDP by name, SCTP by number.
/// Source: `IpPermission.IpProtocol` in the EC2 API reference.
fn protocol_text(protocol: Protocol) -> String {
    match protocol {
        Protocol::Tcp | Protocol::Udp => protocol.to_string(),
        Protocol::Sctp => protocol.number().to_string(),
    }
}

fn protocol(text: &str) -> Option<Protocol> {
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let by_number = known.into_iter().find(|protocol| protocol.number().to_string() == text);
    by_number.or_else(|| text.parse().ok())
}

fn ports(from: Option<i32>, to: Option<i32>) -> Option<PortRange> {
    let port = |number: Option<i32>| u16::try_from(number?).ok();
    PortRange::new(port(from)?, port(to)?).ok()
}

/// What a permission lets in, one source at a time: as a rule, or as a stray if it is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Atom {
    Rule(IngressRule),
    Stray(Stray),
}

fn atom(protocol_name: &str, from: Option<i32>, to: Option<i32>, source: StraySource) -> Atom {
    let cidr = match &source {
        StraySource::V4(cidr) | StraySource::V6(cidr) => cidr.parse::<IpNet>().ok(),
        StraySource::PrefixList(_) | StraySource::Group { .. } => None,
    };
    match (protocol(protocol_name), ports(from, to), cidr) {
        (Some(protocol), Some(ports), Some(source)) => Atom::Rule(IngressRule::new(protocol, ports, source)),
        _ => Atom::Stray(Stray { protocol: protocol_name.to_owned(), from, to, source }),
    }
}

/// Everything that permissions let in.
pub(crate) fn atoms(permissions: &[IpPermission]) -> (BTreeSet<IngressRule>, BTreeSet<Stray>) {
    let (mut rules, mut strays) = (BTreeSet::new(), BTreeSet::new());
    for permission in permissions {
        for source in sources(permission) {
            match atom(
                permission.ip_protocol().unwrap_or("-1"),
                permission.from_port(),
                permission.to_port(),
                source,
            ) {
                Atom::Rule(rule) => _ = rules.insert(rule),
                Atom::Stray(stray) => _ = strays.insert(stray),
            }
        }
    }
    (rules, strays)
}

fn sources(permission: &IpPermission) -> Vec<StraySource> {
    let v4 =
        permission.ip_ranges().iter().filter_map(IpRange::cidr_ip).map(|c| StraySource::V4(c.to_owned()));
    let v6 = permission.ipv6_ranges().iter().filter_map(Ipv6Range::cidr_ipv6);
    let v6 = v6.map(|cidr| StraySource::V6(cidr.to_owned()));
    let lists = permission.prefix_list_ids().iter().filter_map(PrefixListId::prefix_list_id);
    let lists = lists.map(|id| StraySource::PrefixList(id.to_owned()));
    let groups = permission.user_id_group_pairs().iter().map(|pair| StraySource::Group {
        id: pair.group_id().unwrap_or_default().to_owned(),
        account: pair.user_id().map(ToOwned::to_owned),
    });
    v4.chain(v6).chain(lists).chain(groups).collect()
}

/// What one rule with an id of its own lets in.
pub(crate) fn of_rule(rule: &SecurityGroupRule) -> Atom {
    let group = rule.referenced_group_info().map(|group| StraySource::Group {
        id: group.group_id().unwrap_or_default().to_owned(),
        account: group.user_id().map(ToOwned::to_owned),
    });
    let v4 = rule.cidr_ipv4().map(|cidr| StraySource::V4(cidr.to_owned()));
    let v6 = rule.cidr_ipv6().map(|cidr| StraySource::V6(cidr.to_owned()));
    let list = rule.prefix_list_id().map(|id| StraySource::PrefixList(id.to_owned()));
    let source = v4.or(v6).or(list).or(group).unwrap_or(StraySource::PrefixList(String::new()));
    atom(rule.ip_protocol().unwrap_or("-1"), rule.from_port(), rule.to_port(), source)
}

/// The permissions to authorize or revoke for `rules`, one for each protocol and port range.
///
/// A description is for authorizing; revoking goes by the other properties.
pub(crate) fn permissions<'a>(
    rules: impl IntoIterator<Item = &'a IngressRule>,
    description: Option<&str>,
) -> Vec<IpPermission> {
    let mut by_ports: BTreeMap<(Protocol, PortRange), Vec<IpNet>> = BTreeMap::new();
    for rule in rules {
        by_ports.entry((rule.protocol, rule.ports)).or_default().push(rule.source);
    }
    by_ports
        .into_iter()
        .map(|((protocol, ports), sources)| permission(protocol, ports, &sources, description))
        .collect()
}

fn permission(
    protocol: Protocol,
    ports: PortRange,
    sources: &[IpNet],
    description: Option<&str>,
) -> IpPermission {
    let mut permission = IpPermission::builder()
        .ip_protocol(protocol_text(protocol))
        .from_port(ports.first().into())
        .to_port(ports.last().into());
    for source in sources {
        let (cidr, text) = (source.to_string(), description.map(ToOwned::to_owned));
        permission = match source {
            IpNet::V4(_) => {
                permission.ip_ranges(IpRange::builder().cidr_ip(cidr).set_description(text).build())
            }
            IpNet::V6(_) => {
                permission.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(cidr).set_description(text).build())
            }
        };
    }
    permission.build()
}

/// The permissions to revoke for `strays`, exactly as they were read.
pub(crate) fn stray_permissions<'a>(strays: impl IntoIterator<Item = &'a Stray>) -> Vec<IpPermission> {
    strays.into_iter().map(stray_permission).collect()
}

fn stray_permission(stray: &Stray) -> IpPermission {
    let permission =
        IpPermission::builder().ip_protocol(&stray.protocol).set_from_port(stray.from).set_to_port(stray.to);
    match &stray.source {
        StraySource::V4(cidr) => permission.ip_ranges(IpRange::builder().cidr_ip(cidr).build()),
        StraySource::V6(cidr) => permission.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(cidr).build()),
        StraySource::PrefixList(id) => {
            permission.prefix_list_ids(PrefixListId::builder().prefix_list_id(id).build())
        }
        StraySource::Group { id, account } => {
            let pair = UserIdGroupPair::builder().group_id(id).set_user_id(account.clone());
            permission.user_id_group_pairs(pair.build())
        }
    }
    .build()
}

#[cfg(test)]
mod tests {
    use firewall_core::testing::conformance::rule;

    use super::*;

    #[test]
    fn rules_come_back_from_the_permissions_made_of_them() {
        let rules: BTreeSet<IngressRule> = [
            "tcp/80 0.0.0.0/0",
            "tcp/80 ::/0",
            "tcp/80 10.0.0.0/8",
            "udp/30000-30100 2001:db8::/32",
            "sctp/3868 198.51.100.7/32",
            "tcp/1-65535 192.0.2.0/24",
        ]
        .map(rule)
        .into();
        let permissions = permissions(&rules, Some("web"));
        assert_eq!(permissions.len(), 4, "one for each protocol and port range");
        assert_eq!(atoms(&permissions), (rules, BTreeSet::new()));
    }

    #[test]
    fn sctp_goes_by_number() {
        let permissions = permissions(&[rule("sctp/3868 10.0.0.0/8")], None);
        assert_eq!(permissions[0].ip_protocol(), Some("132"));
    }

    #[test]
    fn what_no_rule_can_express_is_kept_to_be_revoked_exactly() {
        let source = StraySource::V4("0.0.0.0/0".into());
        let strays = BTreeSet::from([
            Stray { protocol: "-1".into(), from: None, to: None, source: source.clone() },
            Stray { protocol: "icmp".into(), from: Some(8), to: Some(-1), source: source.clone() },
            Stray { protocol: "tcp".into(), from: Some(0), to: Some(65535), source },
            Stray {
                protocol: "tcp".into(),
                from: Some(80),
                to: Some(80),
                source: StraySource::Group { id: "sg-1".into(), account: Some("123456789012".into()) },
            },
            Stray {
                protocol: "udp".into(),
                from: Some(53),
                to: Some(53),
                source: StraySource::PrefixList("pl-1".into()),
            },
        ]);
        assert_eq!(atoms(&stray_permissions(&strays)), (BTreeSet::new(), strays));
    }

    #[test]
    fn host_bits_and_protocol_numbers_make_no_difference() {
        let range = IpRange::builder().cidr_ip("10.1.2.3/8").build();
        let permission =
            IpPermission::builder().ip_protocol("6").from_port(80).to_port(80).ip_ranges(range).build();
        assert_eq!(atoms(&[permission]).0, BTreeSet::from([rule("tcp/80 10.0.0.0/8")]));
    }
}
