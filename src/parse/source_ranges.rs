//! Source ranges: who may connect, as people write it, and who may if nobody says.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::family::Family;
use super::list;
use crate::k8s::objects::Node;

/// Reads a list of CIDRs that is separated by commas.
///
/// # Errors
/// If it is empty, too long, or an entry is not a CIDR without host bits; the text says which, and what to write.
pub(crate) fn strict(text: &str) -> Result<Vec<IpNet>, String> {
    list::by_commas(text)?.into_iter().map(source_range).collect()
}

/// Reads one CIDR.
///
/// # Errors
/// If it is none, or has host bits; the text says what to write.
pub(crate) fn source_range(entry: &str) -> Result<IpNet, String> {
    let range = parsed(entry).ok_or_else(|| match entry.parse::<IpAddr>() {
        Ok(address) => format!("{entry:?} is an address; write {} for that one alone", IpNet::from(address)),
        Err(_) => format!("{entry:?} is not a CIDR such as 198.51.100.0/24 or 2001:db8::/32"),
    })?;
    if range == range.trunc() {
        return Ok(range);
    }
    let (prefix, single) = (range.trunc(), IpNet::from(range.addr()));
    Err(format!("{entry:?} has bits set behind its prefix; write {prefix}, or {single} for the one address"))
}

/// A CIDR without leading zeros, which some programs read as octal: `010.0.0.0/8` would be 8.0.0.0/8 to them.
fn parsed(entry: &str) -> Option<IpNet> {
    let (address, length) = entry.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let range = IpNet::new(address, length.parse().ok()?).ok()?;
    (range.prefix_len().to_string() == length).then_some(range)
}

/// Reads a list as `HAProxy` does: separated by spaces or commas, bare addresses allowed, host bits ignored.
///
/// # Errors
/// If it is empty, too long, or an entry is neither an address nor a CIDR.
pub(crate) fn lenient(text: &str) -> Result<Vec<IpNet>, String> {
    let range = |entry: &str| {
        let cidr = parsed(entry).map(|range| range.trunc());
        cidr.or_else(|| entry.parse::<IpAddr>().map(IpNet::from).ok())
            .ok_or_else(|| format!("{entry:?} is neither an address nor a CIDR"))
    };
    list::by_spaces_or_commas(text)?.into_iter().map(range).collect()
}

/// The families that the node has an address of. One that lists no address yet is taken to have IPv4.
pub(crate) fn families(node: &Node) -> BTreeSet<Family> {
    let addresses = node.status.addresses.iter();
    let addresses = addresses.filter(|address| ["InternalIP", "ExternalIP"].contains(&address.kind.as_str()));
    let families: BTreeSet<Family> =
        addresses.filter_map(|address| address.address.parse().ok()).map(Family::of).collect();
    if families.is_empty() { BTreeSet::from([Family::V4]) } else { families }
}

/// The ranges of these families.
pub(crate) fn of_families(ranges: &[IpNet], families: &BTreeSet<Family>) -> Vec<IpNet> {
    ranges.iter().filter(|range| families.iter().any(|family| family.holds(range))).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::objects::builders::from_json;

    #[test]
    fn what_is_not_a_source_range_says_what_to_write() {
        let cases = [
            ("10.0.0.0/33", "10.0.0.0/33"),
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
            ("10.0.0.1", "write 10.0.0.1/32"),
            ("", "empty"),
            ("10.0.0.0/8,,", "\"\""),
            ("everyone", "everyone"),
        ];
        for (text, part) in cases {
            let error = strict(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        assert!(strict(&vec!["10.0.0.0/8"; 501].join(",")).is_err());
    }

    #[test]
    fn a_whitelist_is_read_as_haproxy_reads_it() {
        let ranges = lenient("192.0.2.7  10.1.2.3/8\t2001:db8::1").unwrap();
        let expected = ["192.0.2.7/32", "10.0.0.0/8", "2001:db8::1/128"].map(|text| text.parse().unwrap());
        assert_eq!(ranges, expected);
        assert!(lenient("10.0.0.0/33").is_err());
        for nothing in ["", " ", ",", " , "] {
            assert!(lenient(nothing).is_err(), "{nothing:?}");
        }
    }

    #[test]
    fn the_families_of_a_node_are_those_of_its_addresses() {
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
            let families = families(&from_json(node));
            let families: Vec<String> = families.iter().map(ToString::to_string).collect();
            assert_eq!(families.join(" "), expected, "{addresses:?}");
        }
    }
}
