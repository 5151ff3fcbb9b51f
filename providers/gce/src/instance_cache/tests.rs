//! Tests of what is remembered about instances.

use std::time::Duration;

use super::*;
use crate::testing::instance_facts;

fn id(zone: &str, number: u8) -> InstanceId {
    InstanceId::new(format!("p/{zone}/node-{number}"))
}

/// Returns an answer with these instances, the number of each its address.
fn answer(instances: &[(&str, u8)], unread: &[(&str, UnreadZone)]) -> Answer {
    Answer {
        instances: instances
            .iter()
            .map(|(zone, number)| (id(zone, *number), instance_facts(*number)))
            .collect(),
        unread: unread.iter().map(|(zone, reason)| ((*zone).to_owned(), reason.clone())).collect(),
    }
}

#[test]
fn member_of_an_unread_zone_is_as_it_was() {
    let (mut cache, now) = (InstanceCache::default(), Instant::now());
    let members = BTreeSet::from([id("a", 1), id("b", 2), id("b", 3)]);
    cache.record(&members, answer(&[("a", 1), ("b", 2)], &[]), now);
    for reason in [UnreadZone::NoAnswer("503".into()), UnreadZone::NotFound("Unknown zone".into())] {
        let later = now + Duration::from_hours(1);
        let known = cache.record(&members, answer(&[("a", 1)], &[("b", reason)]), later);
        assert_eq!(known.instances.keys().collect::<Vec<_>>(), [&id("a", 1), &id("b", 2)]);
        assert_eq!(known.unknown.keys().collect::<Vec<_>>(), [&id("b", 2), &id("b", 3)]);
    }
}

#[test]
fn member_that_is_left_out_is_gone_after_a_minute() {
    for unread in [&[][..], &[("a", UnreadZone::NotFound("Unknown zone".into()))]] {
        let (mut cache, now) = (InstanceCache::default(), Instant::now());
        let members = BTreeSet::from([id("a", 1)]);
        let mut unknown_at = |seconds| {
            let at = now + Duration::from_secs(seconds);
            cache.record(&members, answer(&[], unread), at).unknown.len()
        };
        assert_eq!([0, 59, 60, 300].map(&mut unknown_at), [1, 1, 0, 0]);
    }
}

#[test]
fn nothing_is_remembered_for_ever() {
    let (mut cache, now) = (InstanceCache::default(), Instant::now());
    cache.record(&BTreeSet::from([id("a", 1)]), answer(&[("a", 1)], &[]), now);
    cache.record(&BTreeSet::new(), answer(&[], &[]), now);
    assert!(cache.facts.is_empty());
}
