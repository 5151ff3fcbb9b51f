//! A list while it is read: what matters of it, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{Content, Event, Received};
use crate::k8s::index::{NamespacedName, Object};
use crate::k8s::problem::Problem;

/// The objects of a list that is not complete yet.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Listing {
    objects: BTreeMap<NamespacedName, Box<Object>>,
    unreadable: BTreeMap<NamespacedName, Problem>,
    /// Those that changed while pages were read. What a page says of them may be older.
    changed: BTreeSet<NamespacedName>,
}

impl Listing {
    /// Adds an object of a page.
    pub(super) fn add_listed(&mut self, received: Received) {
        if !self.changed.contains(&received.name) {
            self.put(received);
        }
    }

    /// Adds a change that was watched while pages are read.
    pub(super) fn add_change(&mut self, event: Event) {
        let name = match &event {
            Event::Exists { received, .. } => &received.name,
            Event::Deleted { name, .. } => name,
            Event::Bookmark { .. } | Event::Refused(_) => return,
        };
        self.changed.insert(name.clone());
        self.add_event(event);
    }

    /// Adds an event of a streaming list.
    pub(super) fn add_event(&mut self, event: Event) {
        match event {
            Event::Exists { received, .. } => self.put(received),
            Event::Deleted { name, .. } => self.put(Received { name, content: Content::Irrelevant }),
            Event::Bookmark { .. } | Event::Refused(_) => {}
        }
    }

    /// Returns the objects, and those that cannot be read.
    pub(super) fn finish(self) -> (Vec<Object>, BTreeMap<NamespacedName, Problem>) {
        (self.objects.into_values().map(|object| *object).collect(), self.unreadable)
    }

    fn put(&mut self, Received { name, content }: Received) {
        self.objects.remove(&name);
        self.unreadable.remove(&name);
        match content {
            Content::Relevant(object) => _ = self.objects.insert(name, object),
            Content::Unreadable(problem) => _ = self.unreadable.insert(name, *problem),
            Content::Irrelevant => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::k8s::index::Watch;
    use crate::k8s::objects::builders::{from_json, host_port, pod};
    use crate::k8s::watcher::kind::Kind;

    fn web(name: &str, port: u16) -> Received {
        Received::new(Object::Pod(from_json(pod("shop", name, "n", &json!([host_port(port)])))))
    }

    fn exists(received: Received) -> Event {
        Event::Exists { received, resource_version: "2".into() }
    }

    fn deleted(name: &str) -> Event {
        Event::Deleted { name: ("shop".into(), name.into()), resource_version: "2".into() }
    }

    fn names(listing: Listing) -> (Vec<String>, Vec<String>) {
        let (objects, unreadable) = listing.finish();
        let objects = objects.iter().map(|object| object.name().1).collect();
        (objects, unreadable.into_keys().map(|(_, name)| name).collect())
    }

    #[test]
    fn only_what_matters_is_held() {
        let mut listing = Listing::default();
        let portless = Object::Pod(from_json(pod("shop", "portless", "n", &json!([]))));
        listing.add_listed(Received::new(portless));
        listing.add_listed(web("web", 80));
        let kind = Kind::new(Watch::Pods);
        let name = ("shop".to_owned(), "odd".to_owned());
        listing.add_listed(Received::unreadable(&kind, name, String::new(), "no".into()));
        assert_eq!(listing.objects.len(), 1);
        assert_eq!(names(listing), (vec!["web".into()], vec!["odd".into()]));
    }

    #[test]
    fn page_does_not_undo_a_change_that_was_watched() {
        let mut listing = Listing::default();
        listing.add_listed(web("first", 80));
        for event in [deleted("first"), deleted("later"), exists(web("new", 80)), exists(web("edited", 81))] {
            listing.add_change(event);
        }
        for name in ["later", "edited", "last"] {
            listing.add_listed(web(name, 80));
        }
        let edited = listing.objects[&("shop".to_owned(), "edited".to_owned())].clone();
        assert_eq!(Content::Relevant(edited), web("edited", 81).content);
        assert_eq!(names(listing).0, ["edited", "last", "new"]);
    }

    #[test]
    fn streaming_list_follows_changes() {
        let mut listing = Listing::default();
        for event in [exists(web("a", 80)), exists(web("b", 80)), deleted("a"), exists(web("b", 81))] {
            listing.add_event(event);
        }
        assert_eq!(names(listing).0, ["b"]);
    }
}
