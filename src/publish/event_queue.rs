//! The queue of Events: fair between namespaces, and merged instead of dropped where many wait. Pure.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::transitions::{MAX_NAMED, PortChange, Transition};
use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::{Problem, Verdict};

/// Most Events of one namespace that wait apart: each costs the API server a write. What comes on top is said
/// on the namespace.
pub(super) const MAX_WAITING: usize = 2048;

/// An Event that waits to be written. Of one object, at most one of each kind waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum QueuedEvent {
    Problems(Problems),
    Transition(Transition),
}

/// Problems of one object that differ only in their text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problems {
    object: ObjectRef,
    verdict: Verdict,
    reason: String,
    /// The texts of the first few
    texts: Vec<String>,
    /// The number of the others
    others: usize,
}

/// The object, the Event's reason, and that of a problem.
type EventKey = (ObjectRef, String, String);

/// The position in a namespace: intents come before their pods, of which there can be thousands.
type Position = (bool, u64);

/// Holds the Events that wait to be written.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    by_namespace: BTreeMap<String, Waiting>,
    /// The namespace of the Event taken last
    last: String,
    /// The number of Events queued so far
    count: u64,
}

/// The Events of one namespace.
#[derive(Debug, Default)]
struct Waiting {
    events: BTreeMap<Arc<EventKey>, (Position, QueuedEvent)>,
    order: BTreeMap<Position, Arc<EventKey>>,
}

impl EventQueue {
    /// Adds an Event; merges it with one that waits for the same object and reason.
    pub(super) fn push(&mut self, mut event: QueuedEvent) {
        let namespace = event.object().namespace.clone();
        let waiting = self.by_namespace.entry(namespace.clone()).or_default();
        let is_full = waiting.events.len() >= MAX_WAITING && !waiting.events.contains_key(&event.key());
        if is_full && !namespace.is_empty() {
            *event.object_mut() = ObjectRef {
                api_version: "v1".into(),
                kind: "Namespace".into(),
                namespace: String::new(),
                name: namespace,
                uid: String::new(),
            };
        }
        self.count += 1;
        let (key, mut position) = (Arc::new(event.key()), (event.object().kind == "Pod", self.count));
        if let Some((before, earlier)) = waiting.events.remove(&key) {
            waiting.order.remove(&before);
            event = earlier.merge(event);
            let opposite = event.opposite_key().and_then(|key| waiting.events.get(&key));
            // An opening that comes after a closing is also said after it.
            if opposite.is_none_or(|(between, _)| *between < before) {
                position = before;
            }
        }
        waiting.order.insert(position, Arc::clone(&key));
        waiting.events.insert(key, (position, event));
    }

    /// Takes the next Event: of the namespaces in turn, the one that has waited longest.
    pub(super) fn pop(&mut self) -> Option<QueuedEvent> {
        let after = (Excluded(self.last.clone()), Unbounded);
        let next = self.by_namespace.range::<String, _>(after).next().or(self.by_namespace.iter().next());
        let namespace = next?.0.clone();
        let waiting = self.by_namespace.get_mut(&namespace)?;
        let (_, key) = waiting.order.pop_first()?;
        let (_, event) = waiting.events.remove(&key)?;
        if waiting.events.is_empty() {
            self.by_namespace.remove(&namespace);
        }
        self.last = namespace;
        Some(event)
    }
}

impl QueuedEvent {
    pub(super) fn of_problem(Problem { object, verdict, reason, message }: Problem) -> Self {
        Self::Problems(Problems { object, verdict, reason, texts: vec![message], others: 0 })
    }

    pub(super) const fn object(&self) -> &ObjectRef {
        match self {
            Self::Problems(problems) => &problems.object,
            Self::Transition(transition) => &transition.object,
        }
    }

    const fn object_mut(&mut self) -> &mut ObjectRef {
        match self {
            Self::Problems(problems) => &mut problems.object,
            Self::Transition(transition) => &mut transition.object,
        }
    }

    /// Returns the Event's reason.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Problems(problems) => problems.verdict.to_string(),
            Self::Transition(transition) => transition.change.to_string(),
        }
    }

    fn key(&self) -> EventKey {
        let detail = match self {
            Self::Problems(problems) => problems.reason.clone(),
            Self::Transition(_) => String::new(),
        };
        (self.object().clone(), self.reason(), detail)
    }

    /// Returns the key of the closing of what this opens, or the reverse.
    fn opposite_key(&self) -> Option<EventKey> {
        let Self::Transition(transition) = self else { return None };
        let opposite = match transition.change {
            PortChange::Opened => PortChange::Closed,
            PortChange::Closed => PortChange::Opened,
        };
        Some((transition.object.clone(), opposite.to_string(), String::new()))
    }

    /// Returns one Event for this and a later one of the same key.
    fn merge(self, later: Self) -> Self {
        match (self, later) {
            (Self::Problems(mut one), Self::Problems(later)) => {
                one.others += later.others;
                for text in later.texts {
                    if one.texts.contains(&text) {
                        continue;
                    }
                    if one.texts.len() < MAX_NAMED {
                        one.texts.push(text);
                    } else {
                        one.others += 1;
                    }
                }
                Self::Problems(one)
            }
            (Self::Transition(mut one), Self::Transition(later)) => {
                one.merge(later);
                Self::Transition(one)
            }
            (_, later) => later,
        }
    }

    /// Returns the text of the Event, as long as it may be.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Problems(Problems { reason, texts, others, .. }) => {
                let texts = texts.join("; ");
                let more = if *others == 0 { String::new() } else { format!("; and {others} more like it") };
                format!("{reason}: {texts}{more}")
            }
            Self::Transition(transition) => transition.text(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::objects::builders::object_ref;
    use crate::publish::transitions::Set;

    fn problem(kind: &'static str, namespace: &str, name: &str, message: &str) -> QueuedEvent {
        let (reason, message) = ("PortDenied".to_owned(), message.to_owned());
        let object = object_ref(kind, namespace, name);
        QueuedEvent::of_problem(Problem { object, verdict: Verdict::Rejected, reason, message })
    }

    fn transition(change: PortChange, node: &str) -> QueuedEvent {
        QueuedEvent::Transition(Transition {
            object: object_ref("Service", "shop", "web"),
            change,
            ports: Set::default(),
            nodes: [(node.to_owned(), ())].into_iter().collect(),
            resources: Set::default(),
            intents: Set::default(),
            facts: Set::default(),
        })
    }

    fn take_all(queue: &mut EventQueue) -> Vec<QueuedEvent> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn namespaces_take_turns_and_intents_come_before_pods() {
        let mut queue = EventQueue::default();
        for number in 0..3 {
            queue.push(problem("Pod", "loud", &number.to_string(), "22"));
        }
        queue.push(problem("Service", "loud", "web", "22"));
        queue.push(problem("Pod", "quiet", "a", "22"));
        queue.push(problem("Node", "", "n", "22"));
        let names: Vec<String> =
            take_all(&mut queue).iter().map(|event| event.object().name.clone()).collect();
        assert_eq!(names, ["web", "a", "n", "0", "1", "2"]);
    }

    #[test]
    fn problems_of_one_object_and_reason_become_one_event() {
        let mut queue = EventQueue::default();
        for number in 0..5000 {
            queue.push(problem("Service", "shop", "web", &format!("{number} is denied")));
            queue.push(problem("Service", "shop", "web", "0 is denied"));
        }
        let texts: Vec<String> = take_all(&mut queue).iter().map(QueuedEvent::text).collect();
        assert_eq!(texts, ["PortDenied: 0 is denied; 1 is denied; 2 is denied; and 4997 more like it"]);
    }

    #[test]
    fn events_beyond_the_limit_are_said_on_their_namespace() {
        let mut queue = EventQueue::default();
        let count = 3 * MAX_WAITING;
        for number in 0..count {
            queue.push(problem("Pod", "shop", &number.to_string(), &format!("{number} is denied")));
        }
        queue.push(problem("Pod", "quiet", "a", "22"));
        let all = take_all(&mut queue);
        assert_eq!(all.len(), MAX_WAITING + 2);
        let on_namespace: Vec<&QueuedEvent> =
            all.iter().filter(|event| event.object().kind == "Namespace").collect();
        let [only] = on_namespace[..] else { panic!("{on_namespace:?}") };
        let others = 2 * MAX_WAITING - MAX_NAMED;
        assert_eq!(only.object().name, "shop");
        assert!(only.text().ends_with(&format!("; and {others} more like it")), "{}", only.text());
    }

    #[test]
    fn last_change_is_said_last() {
        let mut queue = EventQueue::default();
        let changes = [(PortChange::Opened, "a"), (PortChange::Closed, "a"), (PortChange::Opened, "b")];
        for (change, node) in changes {
            queue.push(transition(change, node));
        }
        let reasons: Vec<String> = take_all(&mut queue).iter().map(QueuedEvent::reason).collect();
        assert_eq!(reasons, ["Closed", "Opened"]);
        assert_eq!(queue.pop(), None);
    }
}
