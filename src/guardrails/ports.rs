//! Ports in the notation of guardrails.

use std::fmt;
use std::str::FromStr;

use firewall_core::{PortError, PortRange, Protocol};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::parse::ports::{self, PortRanges};

/// Ports of one protocol, or of every protocol: `25`, `8000-8100`, `30000-30100/udp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    range: PortRange,
    /// Every protocol if absent: a guardrail on port 53 means DNS, over TCP and over UDP
    protocol: Option<Protocol>,
}

/// Merges the ports of a guardrail into the fewest ranges.
pub(super) fn merge(ports: &[Ports]) -> PortRanges {
    let ranges = ports.iter().flat_map(|ports| {
        let all = Protocol::ALL.into_iter();
        all.filter(|protocol| ports.protocol.is_none_or(|only| only == *protocol))
            .map(|protocol| (protocol, ports.range))
    });
    ports::merge(ranges)
}

impl From<PortRange> for Ports {
    fn from(range: PortRange) -> Self {
        Self { range, protocol: None }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            None => write!(f, "{}", self.range),
            Some(protocol) => write!(f, "{}/{protocol}", self.range),
        }
    }
}

impl FromStr for Ports {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        match text.split_once('/') {
            None => Ok(Self { range: text.parse()?, protocol: None }),
            Some((range, protocol)) => Ok(Self { range: range.parse()?, protocol: Some(protocol.parse()?) }),
        }
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct NumberOrText;

        impl Visitor<'_> for NumberOrText {
            type Value = Ports;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port such as 25, 8000-8100 or 30000-30100/udp")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Ports, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Ports, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Ports, E> {
                text.parse().map_err(E::custom)
            }
        }
        source.deserialize_any(NumberOrText)
    }
}
