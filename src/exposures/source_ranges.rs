//! Source ranges: who may connect, as people write it, and who may if nobody says.

use std::net::IpAddr;

use ipnet::IpNet;

use super::host_port::Family;
use crate::objects::Node;

/// More source ranges than this are refused: they would fill a security group many times over.
const MOST: usize = 500;

/// Reads a list of CIDRs that is separated by commas.
///
/// # Errors
/// If it is empty, too long, or an entry is not a CIDR without host bits; the text says which, and what to write.
pub(super) fn strict(text: &str) -> Result<Vec<IpNet>, String> {
    let entries = bounded(text.split(',').map(str::trim).collect(), text)?;
    let cidr = |entry: &&str| {
        let range: IpNet = entry.parse().map_err(|_| match entry.parse::<IpAddr>() {
            Ok(address) => {
                format!("{entry:?} is an address; write {} for that one alone", IpNet::from(address))
            }
            Err(_) => format!("{entry:?} is not a CIDR such as 198.51.100.0/24 or 2001:db8::/32"),
        })?;
        if range == range.trunc() {
            Ok(range)
        } else {
            let (prefix, single) = (range.trunc(), IpNet::from(range.addr()));
            Err(format!(
                "{entry:?} has bits set behind its prefix; write {prefix}, or {single} for the one address"
            ))
        }
    };
    entries.iter().map(cidr).collect()
}

/// Reads a list as `HAProxy` does: separated by spaces or commas, bare addresses allowed, host bits ignored.
///
/// # Errors
/// As [`strict`], for what `HAProxy` would refuse as well.
pub(super) fn lenient(text: &str) -> Result<Vec<IpNet>, String> {
    let separator = |c: char| c.is_whitespace() || c == ',';
    let entries = bounded(text.split(separator).filter(|entry| !entry.is_empty()).collect(), text)?;
    let range = |entry: &&str| {
        let cidr = entry.parse::<IpNet>().map(|range| range.trunc());
        cidr.or_else(|_| entry.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| format!("{entry:?} is neither an address nor a CIDR"))
    };
    entries.iter().map(range).collect()
}

fn bounded<'a>(entries: Vec<&'a str>, text: &str) -> Result<Vec<&'a str>, String> {
    if text.trim().is_empty() {
        return Err("the list of source ranges is empty; leave the annotation out for the default".to_owned());
    }
    if entries.len() > MOST {
        return Err(format!("{} source ranges; at most {MOST} are taken", entries.len()));
    }
    Ok(entries)
}

/// The default sources, of the families that the node has an address of. A node that lists no address yet is
/// taken to have IPv4.
pub(super) fn defaults(ranges: &[IpNet], node: &Node) -> Vec<IpNet> {
    let addresses = node.status.addresses.iter().filter(|address| address.kind.ends_with("IP"));
    let mut families: Vec<Family> =
        addresses.filter_map(|address| address.address.parse().ok()).map(Family::of).collect();
    if families.is_empty() {
        families.push(Family::V4);
    }
    ranges.iter().filter(|range| families.iter().any(|family| family.holds(range))).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(lenient(" ").is_err());
    }
}
