//! Served machines: those that this controller serves, and not others of the cluster. Pure.

use std::sync::Arc;

use crate::desired::claims::CLOUDS;

/// The machines that this controller serves.
#[derive(Clone, Debug, Default)]
pub(super) struct ServedMachines(Arc<[String]>);

impl ServedMachines {
    /// Returns the machines whose providerIDs begin so.
    pub(super) fn new(prefixes: Vec<String>) -> Self {
        Self(prefixes.into())
    }

    /// Returns true for a machine that another controller can serve: of another project, or of a cloud that
    /// this one runs without. A machine of no known cloud is nobody's, and everybody reports that.
    pub(super) fn are_anothers(&self, provider_id: &str) -> bool {
        !self.0.iter().any(|prefix| provider_id.starts_with(prefix))
            && CLOUDS.iter().any(|cloud| (cloud.claims)(provider_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_of_another_project_or_cloud_is_anothers() {
        let machines = ServedMachines::new(vec!["gce://nodes-1234/".to_owned()]);
        for (id, expected) in [
            ("gce://nodes-1234/z/n", false),
            ("gce://nodes-12345/z/n", true),
            ("aws:///z/i-0abc", true),
            ("i-0abc", true),
            ("k3s://n", false),
            ("", false),
        ] {
            assert_eq!(machines.are_anothers(id), expected, "{id}");
        }
    }
}
