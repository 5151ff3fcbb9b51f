//! A VPC network, and the names and URLs by which Compute Engine and its users refer to it.

use std::fmt;

use thiserror::Error;

/// One network of one project.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    /// The project that owns it: the host project, for a Shared VPC
    pub project: String,
    /// Its name in the project
    pub name: String,
}

/// Error of a text that names no network.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} names no network; write its name, projects/PROJECT/global/networks/NAME, or its URL beginning with \
     https://"
)]
pub struct NetworkError(pub String);

impl Network {
    /// Parses `NAME`, `global/networks/NAME`, `projects/PROJECT/global/networks/NAME` or the full URL of any
    /// API host and version. A text without a project means a network of `project`.
    ///
    /// Source: the field `network` of a firewall rule in the Compute Engine API.
    ///
    /// # Errors
    /// If the text is none of these.
    pub fn parse(text: &str, project: &str) -> Result<Self, NetworkError> {
        let error = || NetworkError(text.to_owned());
        let path = match text.split_once("://") {
            Some(("https" | "http", rest)) => {
                let start = rest.find("/projects/").ok_or_else(error)?;
                &rest[start + 1..]
            }
            Some(_) => return Err(error()),
            None => text,
        };
        let (project, name) = match path.split('/').collect::<Vec<_>>()[..] {
            ["projects", project, "global", "networks", name] => (project, name),
            ["global", "networks", name] | [name] => (project, name),
            _ => return Err(error()),
        };
        if is_project(project) && is_name(name) {
            Ok(Self { project: project.to_owned(), name: name.to_owned() })
        } else {
            Err(error())
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "projects/{}/global/networks/{}", self.project, self.name)
    }
}

/// Returns true if the text can be the name of a Compute Engine resource: RFC 1035, at most 63 characters.
pub(crate) fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.len() <= 63
        && text.bytes().all(allowed)
        && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && !text.ends_with('-')
}

/// Returns true if the text can be a project's id (`my-project`, `example.com:my-project`) or number.
pub(crate) fn is_project(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:".contains(&b);
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= 100
        && text.bytes().all(allowed)
        && text.bytes().next().is_some_and(alphanumeric)
        && text.bytes().last().is_some_and(alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_network_name_is_parsed() {
        for (text, network) in [
            ("web", "projects/mine/global/networks/web"),
            ("global/networks/web", "projects/mine/global/networks/web"),
            ("projects/host/global/networks/web", "projects/host/global/networks/web"),
            (
                "https://www.googleapis.com/compute/v1/projects/host/global/networks/web",
                "projects/host/global/networks/web",
            ),
            (
                "https://compute.googleapis.com/compute/beta/projects/example.com:host/global/networks/web",
                "projects/example.com:host/global/networks/web",
            ),
        ] {
            assert_eq!(Network::parse(text, "mine").map(|n| n.to_string()), Ok(network.to_owned()), "{text}");
        }
    }

    #[test]
    fn text_without_a_network_is_rejected() {
        for text in [
            "",
            "Web",
            "web-",
            "networks/web",
            "projects/host/regions/r/subnetworks/s",
            "https://www.googleapis.com/compute/v1/global/networks/web",
            "gs://projects/host/global/networks/web",
            "projects//global/networks/web",
        ] {
            assert_eq!(Network::parse(text, "mine"), Err(NetworkError(text.to_owned())));
        }
    }
}
