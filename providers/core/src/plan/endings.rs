//! The facts that ended what is no longer desired, as the reasons of closings name them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{GroupKey, InstanceId};

/// Facts by the label of the firewall group, as resources name it, and by instance.
#[derive(Clone)]
pub(super) struct EndingsByLabel<'a>(BTreeMap<String, BTreeMap<&'a InstanceId, &'a str>>);

/// Most facts of one reason.
const MAX_FACTS: usize = 3;

impl<'a> EndingsByLabel<'a> {
    pub(super) fn new(endings: &'a BTreeMap<(GroupKey, InstanceId), String>) -> Self {
        let mut by_label: BTreeMap<String, BTreeMap<&InstanceId, &str>> = BTreeMap::new();
        for ((group, instance), fact) in endings {
            by_label.entry(group.to_string()).or_default().insert(instance, fact);
        }
        Self(by_label)
    }

    /// Returns the facts that ended these groups on these instances. Where resources know the instances by
    /// other ids, or none of the facts is about one of them, all facts that ended the groups.
    pub(super) fn describe(&self, labels: &BTreeSet<String>, instances: &BTreeSet<InstanceId>) -> String {
        let of_groups = || labels.iter().filter_map(|label| self.0.get(label)).flatten();
        let mut facts: BTreeSet<&str> = of_groups()
            .filter(|(instance, _)| instances.contains(*instance))
            .map(|(_, fact)| *fact)
            .collect();
        if facts.is_empty() {
            facts.extend(of_groups().map(|(_, fact)| *fact));
        }
        let more = facts.len().saturating_sub(MAX_FACTS);
        let mut texts: Vec<String> = facts.into_iter().take(MAX_FACTS).map(str::to_owned).collect();
        if more > 0 {
            texts.push(format!("and {more} more"));
        }
        if texts.is_empty() { "nothing in the cluster asks for this".to_owned() } else { texts.join("; ") }
    }
}
