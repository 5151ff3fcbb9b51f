//! Source ranges: the CIDRs that may connect, as users write them, and the address families of a node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::family::Family;
use super::list;
use crate::k8s::objects::Node;

/// Parses a list of CIDRs that is separated by commas.
///
/// # Errors
/// If it is empty, too long, or an entry is not a CIDR without host bits; the text has the entry, and what to
/// write.
pub(crate) fn parse_strict(text: &str) -> Result<Vec<IpNet>, String> {
    list::split_by_commas(text)?.into_iter().map(parse_cidr).collect()
}

/// Parses one CIDR.
///
/// # Errors
/// If it is none, or has host bits; the text has what to write.
pub(crate) fn parse_cidr(entry: &str) -> Result<IpNet, String> {
    let range = parse_with_host_bits(entry).ok_or_else(|| match entry.parse::<IpAddr>() {
        Ok(address) => format!("{entry:?} is an address; write {} for that one alone", IpNet::from(address)),
        Err(_) => format!("{entry:?} is not a CIDR such as 198.51.100.0/24 or 2001:db8::/32"),
    })?;
    if range == range.trunc() {
        return refuse_mapped(range);
    }
    let (prefix, single) = (range.trunc(), IpNet::from(range.addr()));
    Err(format!("{entry:?} has bits set behind its prefix; write {prefix}, or {single} for the one address"))
}

/// Refuses an IPv4 range in IPv6 notation, `::ffff:198.51.100.0/120`: no cloud takes one as a source, and as an IPv6
/// range it would let in nobody.
///
/// # Errors
/// If it is one; the text has the IPv4 range to write.
fn refuse_mapped(range: IpNet) -> Result<IpNet, String> {
    const MAPPED_BITS: u8 = 96;
    let IpNet::V6(mapped) = range else { return Ok(range) };
    let Some(address) = mapped.addr().to_ipv4_mapped().filter(|_| mapped.prefix_len() >= MAPPED_BITS) else {
        return Ok(range);
    };
    let length = mapped.prefix_len() - MAPPED_BITS;
    Err(format!("\"{range}\" is an IPv4 range in IPv6 notation; write {address}/{length}"))
}

/// Parses a CIDR that may have host bits, but no leading zeros: some programs read these as octal, and
/// `010.0.0.0/8` would be 8.0.0.0/8 to them.
fn parse_with_host_bits(entry: &str) -> Option<IpNet> {
    let (address, length) = entry.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let range = IpNet::new(address, length.parse().ok()?).ok()?;
    (range.prefix_len().to_string() == length).then_some(range)
}

/// Parses a list as `HAProxy` does: separated by spaces or commas, bare addresses allowed, host bits ignored.
///
/// # Errors
/// If it is empty, too long, or an entry is neither an address nor a CIDR.
pub(crate) fn parse_lenient(text: &str) -> Result<Vec<IpNet>, String> {
    let range = |entry: &str| {
        let cidr = parse_with_host_bits(entry).map(|range| range.trunc());
        cidr.or_else(|| entry.parse::<IpAddr>().map(IpNet::from).ok())
            .ok_or_else(|| format!("{entry:?} is neither an address nor a CIDR"))
            .and_then(refuse_mapped)
    };
    list::split_by_spaces_or_commas(text)?.into_iter().map(range).collect()
}

/// Returns the address families of the node. One that lists no address yet is taken to have IPv4.
pub(crate) fn find_families(node: &Node) -> BTreeSet<Family> {
    let addresses = node.status.addresses.iter();
    let addresses = addresses.filter(|address| ["InternalIP", "ExternalIP"].contains(&address.kind.as_str()));
    let families: BTreeSet<Family> =
        addresses.filter_map(|address| address.address.parse().ok()).map(Family::of).collect();
    if families.is_empty() { BTreeSet::from([Family::V4]) } else { families }
}

/// Returns the ranges of these families.
pub(crate) fn filter_by_family(ranges: &[IpNet], families: &BTreeSet<Family>) -> Vec<IpNet> {
    ranges.iter().filter(|range| families.iter().any(|family| family.includes(range))).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::objects::builders::from_json;

    #[test]
    fn invalid_source_range_says_what_to_write() {
        let cases = [
            ("10.0.0.0/33", "10.0.0.0/33"),
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
            ("10.0.0.1", "write 10.0.0.1/32"),
            ("", "empty"),
            ("10.0.0.0/8,,", "\"\""),
            ("everyone", "everyone"),
            ("::ffff:198.51.100.0/120", "write 198.51.100.0/24"),
            ("::ffff:0:0/96", "write 0.0.0.0/0"),
        ];
        for (text, part) in cases {
            let error = parse_strict(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        assert!(parse_strict(&vec!["10.0.0.0/8"; 501].join(",")).is_err());
        assert!(parse_strict("::/0").is_ok(), "it has more than IPv4 addresses");
    }

    #[test]
    fn whitelist_is_parsed_as_haproxy_parses_it() {
        let ranges = parse_lenient("192.0.2.7  10.1.2.3/8\t2001:db8::1").unwrap();
        let expected = ["192.0.2.7/32", "10.0.0.0/8", "2001:db8::1/128"].map(|text| text.parse().unwrap());
        assert_eq!(ranges, expected);
        assert!(parse_lenient("10.0.0.0/33").is_err());
        let error = parse_lenient("::ffff:192.0.2.7").unwrap_err();
        assert!(error.contains("write 192.0.2.7/32"), "{error}");
        for nothing in ["", " ", ",", " , "] {
            assert!(parse_lenient(nothing).is_err(), "{nothing:?}");
        }
    }

    #[test]
    fn node_has_the_families_of_its_addresses() {
        let cases = [
            (vec![("InternalIP", "10.0.0.1")], "v4"),
            (vec![("InternalIP", "10.0.0.1"), ("InternalIP", "2001:db8::1")], "v4 v6"),
            (vec![("InternalIP", "2001:db8::1")], "v6"),
            (vec![("InternalIP", "10.0.0.1"), ("ExternalIP", "2001:db8::1")], "v4 v6"),
            (vec![("InternalDNS", "2001:db8::1"), ("Hostname", "a")], "v4"),
            (vec![("InternalIP", "not an address")], "v4"),
            (vec![], "v4"),
        ];
        for (addresses, expected) in cases {
            let addresses: Vec<_> = addresses
                .iter()
                .map(|(kind, address)| serde_json::json!({ "type": kind, "address": address }))
                .collect();
            let node = serde_json::json!({ "metadata": {}, "status": { "addresses": addresses } });
            let families = find_families(&from_json(node));
            let families: Vec<String> = families.iter().map(ToString::to_string).collect();
            assert_eq!(families.join(" "), expected, "{addresses:?}");
        }
    }
}
