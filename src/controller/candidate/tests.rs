//! Tests of the candidate's decisions: each a list of what happens when, and of what follows.

use serde_json::json;

use super::*;

/// Returns the Lease, as it is read: its holder, and when it was renewed.
fn held_by(holder: &str, renewed: u32) -> Event {
    let lease = json!({
        "metadata": { "name": "l", "resourceVersion": "7", "annotations": { CLUSTER: "prod" } },
        "spec": {
            "holderIdentity": holder, "leaseDurationSeconds": 15,
            "renewTime": format!("2026-01-01T00:00:{renewed:02}.000000Z"),
        },
    });
    Event::Read(Some(Box::new(serde_json::from_value(lease).expect("a Lease"))))
}

/// Lets events happen at these seconds, and checks what follows each: an action, and until when it leads.
fn check(events: &[(f64, Event, &str, Option<f64>)]) {
    let mut candidate = Candidate::new("l", "me", "prod");
    for (second, event, expected, leads_until) in events {
        let action = match candidate.step(Duration::from_secs_f64(*second), event.clone()) {
            Action::Read => "read".to_owned(),
            Action::Write(lease) => {
                let spec = lease.spec.expect("a claim");
                assert_eq!(spec.holder_identity.as_deref(), Some("me"));
                format!("write, transitions {}", spec.lease_transitions.unwrap_or_default())
            }
            Action::Wait(until) => format!("wait until {}", until.as_secs_f64()),
            Action::Stop(Loss::Taken(holder)) => format!("stop, {} has it", holder.identity),
            Action::Stop(Loss::NotRenewed) => "stop".to_owned(),
        };
        assert_eq!(action, *expected, "{event:?} at {second}");
        assert_eq!(
            candidate.leads_until(),
            leads_until.map(Duration::from_secs_f64),
            "{event:?} at {second}"
        );
    }
}

#[test]
fn free_lease_is_led_from_when_it_was_written() {
    for (free, written) in
        [(Event::Read(None), "write, transitions 0"), (held_by("", 0), "write, transitions 1")]
    {
        check(&[
            (0.0, Event::Due, "read", None),
            (1.0, free, written, None),
            (3.5, Event::Written, "wait until 5.5", Some(11.0)),
            (5.5, Event::Due, "read", Some(11.0)),
            (6.0, held_by("me", 1), "write, transitions 0", Some(11.0)),
            (7.0, Event::Written, "wait until 9", Some(16.0)),
        ]);
    }
}

#[test]
fn lease_of_another_is_taken_once_it_has_run_out() {
    check(&[
        (0.0, held_by("other", 0), "wait until 2", None),
        (15.0, held_by("other", 0), "wait until 17", None),
        (16.0, held_by("other", 1), "wait until 18", None),
        (31.0, held_by("other", 1), "wait until 33", None),
        (31.5, held_by("other", 1), "write, transitions 1", None),
        (31.5, Event::Conflict, "read", None),
        (32.0, held_by("third", 2), "wait until 34", None),
    ]);
}

#[test]
fn leader_stops_when_another_holds_or_time_is_up() {
    let leading = || {
        vec![
            (0.0, Event::Read(None), "write, transitions 0", None),
            (0.5, Event::Written, "wait until 2.5", Some(10.0)),
        ]
    };
    let mut taken = leading();
    taken.push((3.0, held_by("other", 0), "stop, other has it", None));
    check(&taken);
    let mut not_renewed = leading();
    not_renewed.extend([
        (6.0, Event::Failed, "wait until 8", Some(10.0)),
        (9.0, Event::Failed, "wait until 10", Some(10.0)),
        (10.0, Event::Due, "stop", None),
    ]);
    check(&not_renewed);
    // An answer that comes too late does not count: others may hold by then what they have seen run out.
    let mut late = leading();
    late.push((10.0, Event::Written, "stop", None));
    check(&late);
}

#[test]
fn conflict_is_decided_by_the_holder() {
    check(&[
        (0.0, Event::Read(None), "write, transitions 0", None),
        (0.0, Event::Written, "wait until 2", Some(10.0)),
        (2.0, held_by("me", 0), "write, transitions 0", Some(10.0)),
        (2.0, Event::Conflict, "read", Some(10.0)),
        (2.0, held_by("me", 0), "write, transitions 0", Some(10.0)),
        (2.0, Event::Conflict, "read", Some(10.0)),
        (2.0, held_by("me", 0), "write, transitions 0", Some(10.0)),
        (2.0, Event::Conflict, "wait until 4", Some(10.0)),
        (4.0, Event::Due, "read", Some(10.0)),
        (4.0, held_by("me", 0), "write, transitions 0", Some(10.0)),
        (4.0, Event::Conflict, "read", Some(10.0)),
        (4.0, held_by("other", 0), "stop, other has it", None),
    ]);
}

#[test]
fn holder_of_another_cluster_is_told_apart() {
    for (own, is_another) in [("prod", false), ("test", true)] {
        let mut candidate = Candidate::new("l", "me", own);
        candidate.step(Duration::ZERO, held_by("other", 0));
        assert_eq!(candidate.is_held_by_another_cluster(), is_another, "{own}");
        candidate.step(Duration::ZERO, Event::Read(None));
        assert!(!candidate.is_held_by_another_cluster());
    }
}
