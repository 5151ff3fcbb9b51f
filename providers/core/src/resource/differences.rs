//! The differences between what is known of resources and what an answer says.

use std::collections::BTreeSet;

use crate::{Resource, ResourceSet};

/// What an answer tells that was not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differences<K> {
    /// The resources that differ, if only in what the cloud assigns
    pub keys: BTreeSet<K>,
    /// True if one has another spec or owner, is new, or gone
    pub is_surprise: bool,
}

impl<R: Resource> ResourceSet<R> {
    /// Takes over an answer about all resources with such keys. One that it leaves out is gone, and nothing
    /// refers to it any more.
    pub fn take_over(&mut self, read: Vec<R>, is_meant: impl Fn(&R::Key) -> bool) -> Differences<R::Key> {
        let found: BTreeSet<R::Key> = read.iter().map(R::key).collect();
        let gone: BTreeSet<R::Key> =
            self.keys().filter(|key| is_meant(key) && !found.contains(key)).cloned().collect();
        let mut differences = Differences { keys: gone.clone(), is_surprise: !gone.is_empty() };
        for key in &gone {
            self.remove(key);
            for referrer in self.referrers(key).cloned().collect::<Vec<_>>() {
                differences.keys.insert(referrer.key());
                match referrer.without_references(&gone) {
                    Some(rest) => self.insert(rest.key(), rest),
                    None => self.remove(&referrer.key()),
                };
            }
        }
        for resource in read {
            let key = resource.key();
            let known = self.get(&key);
            if known == Some(&resource) {
                continue;
            }
            differences.is_surprise |= !known
                .is_some_and(|known| known.has_same_spec(&resource) && known.owner() == resource.owner());
            self.insert(key.clone(), resource);
            differences.keys.insert(key);
        }
        differences
    }

    /// Takes over what was read of one resource; `None` if it is not there.
    pub fn take_over_one(&mut self, key: &R::Key, read: Option<R>, differences: &mut Differences<R::Key>) {
        if self.get(key) == read.as_ref() {
            return;
        }
        match read {
            Some(read) => self.insert(key.clone(), read),
            None => self.remove(key),
        };
        differences.is_surprise = true;
        differences.keys.insert(key.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InstanceId;
    use crate::Owner;
    use crate::testing::conformance::rule;
    use crate::testing::memory::{MemoryKey, MemoryResource};

    fn group(name: &str, label: &str, rules: &[&str]) -> MemoryResource {
        MemoryResource {
            key: MemoryKey::Group("c".into(), name.into()),
            label: label.into(),
            owner: Owner::Ours,
            rules: rules.iter().map(|text| rule(text)).collect(),
            groups: BTreeSet::new(),
        }
    }

    fn attachment(groups: &[&MemoryResource]) -> MemoryResource {
        MemoryResource {
            key: MemoryKey::Attachment("c".into(), InstanceId::new("i-0")),
            groups: groups.iter().map(|group| group.key.clone()).collect(),
            ..group("", "", &[])
        }
    }

    #[test]
    fn answer_replaces_what_it_is_about() {
        let [web, dns] = [("web", "tcp/80 ::/0"), ("dns", "udp/53 ::/0")];
        let [web, dns] = [web, dns].map(|(name, rule)| group(name, name, &[rule]));
        let wide = group("web", "web", &["tcp/80 ::/0", "tcp/22 ::/0"]);
        let renamed = group("web", "another label", &["tcp/80 ::/0"]);
        let foreign = MemoryResource { owner: Owner::Foreign, ..web.clone() };
        let table = [
            ("the same", vec![web.clone(), dns.clone()], vec![], false),
            ("another label", vec![renamed, dns.clone()], vec![&web.key], false),
            ("other rules", vec![wide, dns.clone()], vec![&web.key], true),
            ("another owner", vec![foreign, dns.clone()], vec![&web.key], true),
            ("one more", vec![web.clone(), dns.clone(), group("new", "", &[])], vec![], true),
        ];
        for (name, read, keys, is_surprise) in table {
            let both = attachment(&[&web, &dns]);
            let mut known = ResourceSet::from([web.clone(), dns.clone(), both.clone()]);
            let differences = known.take_over(read.clone(), |key| matches!(key, MemoryKey::Group(..)));
            assert_eq!(differences.is_surprise, is_surprise, "{name}");
            assert!(keys.into_iter().all(|key| differences.keys.contains(key)), "{name}");
            assert_eq!(known, read.into_iter().chain([both]).collect(), "{name}");
        }
    }

    #[test]
    fn nothing_refers_to_what_is_gone() {
        let [web, dns] = ["web", "dns"].map(|name| group(name, name, &["tcp/80 ::/0"]));
        let both = attachment(&[&web, &dns]);
        let mut known = ResourceSet::from([web.clone(), dns.clone(), both.clone()]);
        let is_group = |key: &MemoryKey| matches!(key, MemoryKey::Group(..));
        let differences = known.take_over(vec![web.clone()], is_group);
        assert_eq!(differences.keys, BTreeSet::from([dns.key, both.key]));
        assert!(differences.is_surprise);
        assert_eq!(known, ResourceSet::from([web.clone(), attachment(&[&web])]));
    }
}
