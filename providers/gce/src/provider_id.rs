//! Finds the instance behind a node from the node's `spec.providerID`.

use firewall_core::InstanceId;

use crate::network::{is_name, is_project};

/// The location of an instance: the parts of its [`InstanceId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location<'a> {
    pub(crate) project: &'a str,
    pub(crate) zone: &'a str,
    pub(crate) name: &'a str,
}

impl<'a> Location<'a> {
    /// Parses `project/zone/name`; `None` for any other form.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let [project, zone, name] = text.split('/').collect::<Vec<_>>()[..] else { return None };
        (is_project(project) && is_name(zone) && is_name(name)).then_some(Self { project, zone, name })
    }
}

/// Parses `gce://<project>/<zone>/<name>`; `None` if the id is another provider's.
///
/// Source: `splitProviderID` in kubernetes/cloud-provider-gcp, `providers/gce/gce_util.go`.
///
/// # Errors
/// The id is Google's but names no instance; the text gives the expected form.
pub(crate) fn instance(provider_id: &str) -> Option<Result<InstanceId, String>> {
    let path = provider_id.strip_prefix("gce://")?;
    Some(if Location::parse(path).is_some() {
        Ok(InstanceId::new(path))
    } else {
        Err(format!("{provider_id:?} names no instance; it should be gce://<project>/<zone>/<name>"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_zone_and_name_identify_the_instance() {
        for id in ["p/europe-west1-b/gke-a-1", "example.com:p/us-central1-a/n", "123456789/us-central1-a/n"] {
            assert_eq!(instance(&format!("gce://{id}")), Some(Ok(InstanceId::new(id))), "{id}");
        }
    }

    #[test]
    fn ids_of_other_providers_are_ignored() {
        for id in ["aws:///eu-west-1a/i-0abc", "i-0abc", "k3s://node", "", "node"] {
            assert_eq!(instance(id), None, "{id}");
        }
    }

    #[test]
    fn malformed_google_id_error_gives_the_expected_form() {
        let ids = ["", "p/z", "p/z/", "/z/n", "p//n", "p/z/n/x", "p/z/N", "p/z/n?x=1", "p/z/../n", "P/z/n"];
        for id in ids {
            let error = instance(&format!("gce://{id}")).expect("Google's").unwrap_err();
            assert!(error.contains("gce://<project>/<zone>/<name>"), "{id}: {error}");
        }
    }
}
