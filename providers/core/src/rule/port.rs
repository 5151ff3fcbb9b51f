//! Protocols and port ranges: the first two dimensions of an ingress rule.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A transport protocol that has ports, as Kubernetes knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// All protocols.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// Returns the IANA protocol number. EC2 takes SCTP only by number; it knows TCP and UDP by name.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = PortError;

    /// Reads a protocol name in any case, as pod manifests (`TCP`) and annotations (`tcp`) write it.
    fn from_str(text: &str) -> Result<Self, PortError> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(PortError::Protocol(text.to_owned())),
        }
    }
}

/// An inclusive range of ports, `1 <= first <= last <= 65535`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// All ports.
    pub const ALL: Self = Self { first: 1, last: u16::MAX };

    /// Returns the range from `first` to `last`, both included.
    ///
    /// # Errors
    /// [`PortError::Zero`] if the range contains port 0, [`PortError::Reversed`] if `first > last`.
    pub const fn new(first: u16, last: u16) -> Result<Self, PortError> {
        if first == 0 {
            return Err(PortError::Zero);
        }
        if first > last {
            return Err(PortError::Reversed { first, last });
        }
        Ok(Self { first, last })
    }

    /// Returns the range that contains only `port`.
    ///
    /// # Errors
    /// [`PortError::Zero`] for port 0.
    pub const fn single(port: u16) -> Result<Self, PortError> {
        Self::new(port, port)
    }

    /// Returns the lowest port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// Returns the highest port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Returns true if `port` is in the range.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Returns the number of ports in the range.
    #[must_use]
    pub fn count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// Returns the ports that both ranges have, if there are any.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last)).ok()
    }

    /// Returns the ports of the range that are not in `other`, in at most two ranges.
    pub fn difference(self, other: Self) -> impl Iterator<Item = Self> {
        let below =
            other.first.checked_sub(1).and_then(|last| Self::new(self.first, last.min(self.last)).ok());
        let above =
            other.last.checked_add(1).and_then(|first| Self::new(first.max(self.first), self.last).ok());
        [below, above].into_iter().flatten()
    }

    /// Returns true if every port of `other` is in the range.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl FromStr for PortRange {
    type Err = PortError;

    /// Reads `8080` or `30000-30100`.
    fn from_str(text: &str) -> Result<Self, PortError> {
        let port = |digits: &str| {
            // `u16::from_str` would accept a leading `+`, which is a typing error here.
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            match digits.parse::<u16>() {
                Ok(port) if plain => Ok(port),
                _ => Err(PortError::NotAPort(digits.to_owned())),
            }
        };
        match text.split_once('-') {
            Some((first, last)) => Self::new(port(first)?, port(last)?),
            None => Self::single(port(text)?),
        }
    }
}

/// The reason why a text or a number is not a protocol or a port range.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PortError {
    /// Port 0 cannot be bound, and means "all ports" to some clouds.
    #[error("port 0 is not a port; use 1 to 65535")]
    Zero,
    /// The first port is above the last.
    #[error("port range {first}-{last} is reversed; write {last}-{first}")]
    Reversed {
        /// The port before the hyphen
        first: u16,
        /// The port after the hyphen
        last: u16,
    },
    /// Not a number from 0 to 65535.
    #[error("{0:?} is not a port; use 1 to 65535")]
    NotAPort(String),
    /// Not TCP, UDP or SCTP.
    #[error("{0:?} is not a protocol with ports; use tcp, udp or sctp")]
    Protocol(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_range_reads_back_as_it_prints() {
        for text in ["1", "80", "65535", "30000-30100"] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_port_range_is_an_error_with_its_cause() {
        let cases = [
            ("0", PortError::Zero),
            ("0-10", PortError::Zero),
            ("99999", PortError::NotAPort("99999".into())),
            ("65536", PortError::NotAPort("65536".into())),
            ("+80", PortError::NotAPort("+80".into())),
            ("", PortError::NotAPort(String::new())),
            ("80-", PortError::NotAPort(String::new())),
            ("90-80", PortError::Reversed { first: 90, last: 80 }),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<PortRange>(), Err(error), "{text:?}");
        }
    }
}
