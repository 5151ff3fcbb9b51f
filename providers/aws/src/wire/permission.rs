//! Translation between ingress rules and EC2's permissions, both ways.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{
    IpPermission, IpRange, Ipv6Range, PrefixListId, SecurityGroupRule, UserIdGroupPair,
};
use firewall_core::{IngressRule, PortRange, Protocol};
use ipnet::IpNet;

use crate::resource::{ForeignPermission, PermissionSource};

/// Returns the protocol as EC2 takes it: TCP and UDP by name, SCTP by number.
/// Source: `IpPermission.IpProtocol` in the EC2 API reference.
fn protocol_name(protocol: Protocol) -> String {
    match protocol {
        Protocol::Tcp | Protocol::Udp => protocol.to_string(),
        Protocol::Sctp => protocol.number().to_string(),
    }
}

fn parse_protocol(text: &str) -> Option<Protocol> {
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let by_number = known.into_iter().find(|protocol| protocol.number().to_string() == text);
    by_number.or_else(|| text.parse().ok())
}

fn parse_ports(from: Option<i32>, to: Option<i32>) -> Option<PortRange> {
    let port = |number: Option<i32>| u16::try_from(number?).ok();
    PortRange::new(port(from)?, port(to)?).ok()
}

/// A permission with one source: an ingress rule, or a foreign permission if no rule expresses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ParsedPermission {
    Rule(IngressRule),
    Foreign(ForeignPermission),
}

fn parse_permission(
    protocol: &str,
    from: Option<i32>,
    to: Option<i32>,
    source: PermissionSource,
) -> ParsedPermission {
    let cidr = match &source {
        PermissionSource::V4(cidr) | PermissionSource::V6(cidr) => cidr.parse::<IpNet>().ok(),
        PermissionSource::PrefixList(_) | PermissionSource::Group { .. } => None,
    };
    match (parse_protocol(protocol), parse_ports(from, to), cidr) {
        (Some(protocol), Some(ports), Some(source)) => {
            ParsedPermission::Rule(IngressRule::new(protocol, ports, source))
        }
        _ => ParsedPermission::Foreign(ForeignPermission { protocol: protocol.to_owned(), from, to, source }),
    }
}

/// Parses permissions into ingress rules, and foreign permissions that no rule expresses.
pub(crate) fn parse_permissions(
    permissions: &[IpPermission],
) -> (BTreeSet<IngressRule>, BTreeSet<ForeignPermission>) {
    let (mut rules, mut foreign) = (BTreeSet::new(), BTreeSet::new());
    for permission in permissions {
        for source in list_sources(permission) {
            match parse_permission(
                permission.ip_protocol().unwrap_or("-1"),
                permission.from_port(),
                permission.to_port(),
                source,
            ) {
                ParsedPermission::Rule(rule) => _ = rules.insert(rule),
                ParsedPermission::Foreign(permission) => _ = foreign.insert(permission),
            }
        }
    }
    (rules, foreign)
}

fn list_sources(permission: &IpPermission) -> Vec<PermissionSource> {
    let v4 = permission
        .ip_ranges()
        .iter()
        .filter_map(IpRange::cidr_ip)
        .map(|c| PermissionSource::V4(c.to_owned()));
    let v6 = permission.ipv6_ranges().iter().filter_map(Ipv6Range::cidr_ipv6);
    let v6 = v6.map(|cidr| PermissionSource::V6(cidr.to_owned()));
    let lists = permission.prefix_list_ids().iter().filter_map(PrefixListId::prefix_list_id);
    let lists = lists.map(|id| PermissionSource::PrefixList(id.to_owned()));
    let groups = permission.user_id_group_pairs().iter().map(|pair| PermissionSource::Group {
        id: pair.group_id().unwrap_or_default().to_owned(),
        account: pair.user_id().map(ToOwned::to_owned),
    });
    v4.chain(v6).chain(lists).chain(groups).collect()
}

/// Parses a rule that has an id of its own, as `DescribeSecurityGroupRules` returns it.
pub(crate) fn parse_rule(rule: &SecurityGroupRule) -> ParsedPermission {
    let group = rule.referenced_group_info().map(|group| PermissionSource::Group {
        id: group.group_id().unwrap_or_default().to_owned(),
        account: group.user_id().map(ToOwned::to_owned),
    });
    let v4 = rule.cidr_ipv4().map(|cidr| PermissionSource::V4(cidr.to_owned()));
    let v6 = rule.cidr_ipv6().map(|cidr| PermissionSource::V6(cidr.to_owned()));
    let list = rule.prefix_list_id().map(|id| PermissionSource::PrefixList(id.to_owned()));
    let source = v4.or(v6).or(list).or(group).unwrap_or(PermissionSource::PrefixList(String::new()));
    parse_permission(rule.ip_protocol().unwrap_or("-1"), rule.from_port(), rule.to_port(), source)
}

/// Returns the descriptions of the sources of permissions.
pub(crate) fn descriptions(permissions: &[IpPermission]) -> BTreeSet<String> {
    let v4 = permissions.iter().flat_map(IpPermission::ip_ranges).filter_map(IpRange::description);
    let v6 = permissions.iter().flat_map(IpPermission::ipv6_ranges).filter_map(Ipv6Range::description);
    v4.chain(v6).map(ToOwned::to_owned).collect()
}

/// Returns the permissions to authorize or revoke for `rules`, one for each protocol and port range.
///
/// Descriptions are for authorizing; EC2 compares the other properties when it revokes.
pub(crate) fn build_permissions<'a>(
    rules: impl IntoIterator<Item = &'a IngressRule>,
    description: impl Fn(Protocol, PortRange) -> Option<String>,
) -> Vec<IpPermission> {
    let mut by_ports: BTreeMap<(Protocol, PortRange), Vec<IpNet>> = BTreeMap::new();
    for rule in rules {
        by_ports.entry((rule.protocol, rule.ports)).or_default().push(rule.source);
    }
    by_ports
        .into_iter()
        .map(|((protocol, ports), sources)| {
            build_permission(protocol, ports, &sources, description(protocol, ports).as_deref())
        })
        .collect()
}

fn build_permission(
    protocol: Protocol,
    ports: PortRange,
    sources: &[IpNet],
    description: Option<&str>,
) -> IpPermission {
    let mut permission = IpPermission::builder()
        .ip_protocol(protocol_name(protocol))
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

/// Returns the permissions to revoke for foreign ones, exactly as they were read.
pub(crate) fn build_foreign_permissions<'a>(
    foreign: impl IntoIterator<Item = &'a ForeignPermission>,
) -> Vec<IpPermission> {
    foreign.into_iter().map(build_foreign_permission).collect()
}

fn build_foreign_permission(foreign: &ForeignPermission) -> IpPermission {
    let permission = IpPermission::builder()
        .ip_protocol(&foreign.protocol)
        .set_from_port(foreign.from)
        .set_to_port(foreign.to);
    match &foreign.source {
        PermissionSource::V4(cidr) => permission.ip_ranges(IpRange::builder().cidr_ip(cidr).build()),
        PermissionSource::V6(cidr) => permission.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(cidr).build()),
        PermissionSource::PrefixList(id) => {
            permission.prefix_list_ids(PrefixListId::builder().prefix_list_id(id).build())
        }
        PermissionSource::Group { id, account } => {
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
    fn rules_are_parsed_back_from_their_permissions() {
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
        let permissions = build_permissions(&rules, |_, _| Some("web".to_owned()));
        assert_eq!(permissions.len(), 4, "one for each protocol and port range");
        assert_eq!(parse_permissions(&permissions), (rules, BTreeSet::new()));
        assert_eq!(descriptions(&permissions), BTreeSet::from(["web".to_owned()]));
    }

    #[test]
    fn sctp_is_written_as_a_number() {
        let permissions = build_permissions(&[rule("sctp/3868 10.0.0.0/8")], |_, _| None);
        assert_eq!(permissions[0].ip_protocol(), Some("132"));
    }

    #[test]
    fn foreign_permission_is_kept_to_be_revoked_exactly() {
        let source = PermissionSource::V4("0.0.0.0/0".into());
        let foreign = BTreeSet::from([
            ForeignPermission { protocol: "-1".into(), from: None, to: None, source: source.clone() },
            ForeignPermission {
                protocol: "icmp".into(),
                from: Some(8),
                to: Some(-1),
                source: source.clone(),
            },
            ForeignPermission { protocol: "tcp".into(), from: Some(0), to: Some(65535), source },
            ForeignPermission {
                protocol: "tcp".into(),
                from: Some(80),
                to: Some(80),
                source: PermissionSource::Group { id: "sg-1".into(), account: Some("123456789012".into()) },
            },
            ForeignPermission {
                protocol: "udp".into(),
                from: Some(53),
                to: Some(53),
                source: PermissionSource::PrefixList("pl-1".into()),
            },
        ]);
        assert_eq!(parse_permissions(&build_foreign_permissions(&foreign)), (BTreeSet::new(), foreign));
    }

    #[test]
    fn host_bits_and_protocol_numbers_are_normalized() {
        let range = IpRange::builder().cidr_ip("10.1.2.3/8").build();
        let permission =
            IpPermission::builder().ip_protocol("6").from_port(80).to_port(80).ip_ranges(range).build();
        assert_eq!(parse_permissions(&[permission]).0, BTreeSet::from([rule("tcp/80 10.0.0.0/8")]));
    }
}
