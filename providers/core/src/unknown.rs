//! Unknown demand: traffic that may be asked for although nobody is known to ask for it, because an object, a
//! kind or a machine is not known.
//!
//! What is unknown keeps what is open, and opens nothing. It is known by place: one gap does not keep
//! anything open elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use crate::{InstanceId, RuleSet};

/// Traffic that may be asked for, and the reasons why that is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubt {
    /// The traffic
    pub rules: RuleSet,
    /// What is missing, for people
    pub missing: BTreeSet<String>,
}

impl Doubt {
    fn add(&mut self, rules: &RuleSet, missing: &str) {
        self.rules = self.rules.union(rules);
        self.missing.insert(missing.to_owned());
    }
}

/// All traffic that may be asked for although nobody is known to ask for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown {
    /// The reasons for which all traffic may be asked for everywhere; none if only some may
    everything: BTreeSet<String>,
    /// By instance
    at: BTreeMap<InstanceId, Doubt>,
    /// On one of the instances that are not `located`
    elsewhere: Doubt,
    /// The instances of which it is known that they are not meant by `elsewhere`
    located: BTreeSet<InstanceId>,
}

impl Unknown {
    /// Returns the knowledge that nothing is known: no traffic may be closed anywhere.
    #[must_use]
    pub fn everything(missing: impl IntoIterator<Item = String>) -> Self {
        Self { everything: missing.into_iter().collect(), ..Self::default() }
    }

    /// Returns the reasons for which nothing may be closed at all, if there are any.
    #[must_use]
    pub fn why_everything(&self) -> Option<&BTreeSet<String>> {
        (!self.everything.is_empty()).then_some(&self.everything)
    }

    /// Returns true if nobody can ask for anything but those who are known to.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.everything.is_empty() && self.at.is_empty() && self.elsewhere.rules.is_empty()
    }

    /// Adds a reason for which no traffic may be closed anywhere.
    pub fn add_everything(&mut self, missing: String) {
        self.everything.insert(missing);
    }

    /// Adds traffic that may be asked for on the instance.
    pub fn add_at(&mut self, instance: &InstanceId, rules: &RuleSet, missing: &str) {
        self.at.entry(instance.clone()).or_default().add(rules, missing);
    }

    /// Adds traffic that may be asked for on an instance that is not known.
    pub fn add_elsewhere(&mut self, rules: &RuleSet, missing: &str) {
        self.elsewhere.add(rules, missing);
    }

    /// Records that the instance is a known one: what is asked for on an unknown one is not asked for there.
    pub fn locate(&mut self, instance: InstanceId) {
        self.located.insert(instance);
    }

    /// Returns the same where no id stands for one instance alone: what is unknown anywhere may be at any of them.
    #[must_use]
    pub fn unlocated(self) -> Self {
        Self { located: BTreeSet::new(), ..self }
    }

    /// Returns the traffic that may be asked for on the instance, apart from
    /// [`why_everything`](Self::why_everything).
    #[must_use]
    pub fn at(&self, instance: &InstanceId) -> Doubt {
        let mut doubt = self.at.get(instance).cloned().unwrap_or_default();
        if !self.located.contains(instance) && !self.elsewhere.rules.is_empty() {
            doubt.rules = doubt.rules.union(&self.elsewhere.rules);
            doubt.missing.extend(self.elsewhere.missing.iter().cloned());
        }
        doubt
    }

    /// Returns the traffic alone that may be asked for on the instance: see [`at`](Self::at).
    #[must_use]
    pub(crate) fn rules_at(&self, instance: &InstanceId) -> RuleSet {
        let own = self.at.get(instance).map(|doubt| &doubt.rules);
        let elsewhere = (!self.located.contains(instance)).then_some(&self.elsewhere.rules);
        own.into_iter().chain(elsewhere).fold(RuleSet::default(), |all, rules| all.union(rules))
    }

    /// Returns the same by other ids: those under which a cloud's resources know each instance. One that has
    /// no other ids here is not located: what is unknown there may be anywhere.
    #[must_use]
    pub fn by_ids(&self, ids: impl Fn(&InstanceId) -> BTreeSet<InstanceId>) -> Self {
        let mut unknown = Self {
            everything: self.everything.clone(),
            elsewhere: self.elsewhere.clone(),
            ..Self::default()
        };
        for (instance, doubt) in &self.at {
            let ids = ids(instance);
            for missing in &doubt.missing {
                if ids.is_empty() {
                    unknown.elsewhere.add(&doubt.rules, missing);
                }
                for id in &ids {
                    unknown.add_at(id, &doubt.rules, missing);
                }
            }
        }
        unknown.located = self.located.iter().flat_map(ids).collect();
        unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::conformance::rule;

    fn rules(text: &str) -> RuleSet {
        RuleSet::from_iter([rule(text)])
    }

    #[test]
    fn unlocated_traffic_is_in_doubt_wherever_no_known_machine_is() {
        let [here, there] = ["i-0", "i-1"].map(InstanceId::new);
        let mut unknown = Unknown::default();
        assert!(unknown.is_nothing());
        unknown.add_elsewhere(&rules("tcp/80 0.0.0.0/0"), "node n is not known");
        unknown.add_at(&here, &rules("udp/53 0.0.0.0/0"), "Ingress web cannot be read");
        unknown.locate(here.clone());
        assert_eq!(unknown.at(&here).rules, rules("udp/53 0.0.0.0/0"));
        assert_eq!(unknown.at(&there).rules, rules("tcp/80 0.0.0.0/0"));
        assert!(unknown.at(&there).missing.contains("node n is not known"));
    }

    #[test]
    fn doubt_without_ids_is_about_all_that_are_not_located() {
        let [known, lost, other] = ["i-0", "i-1", "10.0.0.9"].map(InstanceId::new);
        let mut unknown = Unknown::default();
        unknown.locate(known.clone());
        unknown.add_at(&known, &rules("tcp/443 0.0.0.0/0"), "a");
        unknown.add_at(&lost, &rules("tcp/80 0.0.0.0/0"), "b");
        let address = |instance: &InstanceId| match instance.as_str() {
            "i-0" => BTreeSet::from([InstanceId::new("10.0.0.1")]),
            _ => BTreeSet::new(),
        };
        let by_address = unknown.by_ids(address);
        assert_eq!(by_address.at(&InstanceId::new("10.0.0.1")).rules, rules("tcp/443 0.0.0.0/0"));
        assert_eq!(by_address.at(&other).rules, rules("tcp/80 0.0.0.0/0"));
    }
}
