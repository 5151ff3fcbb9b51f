//! Tests of a whole election against a Lease API in memory, on virtual time.

pub(in crate::controller) mod fake;

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tokio::time::sleep;

use super::super::candidate::RENEW_DEADLINE;
use super::*;
use fake::{Fault, Server, client, lock};

fn candidate(server: &Server, identity: &str) -> Election {
    let candidate = Candidate::new("hostport-firewall", identity, "test");
    let fence = Fence::closed(Instant::now().into_std());
    Election::new(client(server), "ns", candidate, fence, Metrics::default())
}

#[tokio::test(start_paused = true)]
async fn first_deadline_counts_from_the_sending() {
    let server = Server::default();
    let mut first = candidate(&server, "first");
    // The server has it at once, and answers 3 s later; from then on it answers nothing.
    lock(&server).faults = vec![Fault::Slow(Duration::from_hours(1)); 20];
    lock(&server).faults.push(Fault::Late(Duration::from_secs(3)));
    let sent = Instant::now();
    first.acquire().await;
    first.hold().await;
    assert!(sent.elapsed() <= RENEW_DEADLINE, "it leads {:?} after it was sent", sent.elapsed());
}

#[tokio::test(start_paused = true)]
async fn conflict_does_not_end_a_leader_that_still_holds() {
    let server = Server::default();
    let mut first = candidate(&server, "first");
    first.acquire().await;
    let late = Fault::Slow(Duration::from_secs(5));
    for fault in [Fault::Annotated, late] {
        lock(&server).faults.push(fault);
        let held = timeout(Duration::from_mins(1), first.hold()).await;
        assert!(held.is_err(), "{fault:?} ends the leader");
    }
}

#[tokio::test(start_paused = true)]
async fn annotations_do_not_keep_a_dead_holders_lease() {
    let server = Server::default();
    candidate(&server, "first").acquire().await;
    let annotating = Arc::clone(&server);
    tokio::spawn(async move {
        loop {
            sleep(Duration::from_secs(5)).await;
            lock(&annotating).annotate();
        }
    });
    let mut second = candidate(&server, "second");
    let taken = timeout(Duration::from_mins(1), second.acquire()).await;
    assert!(taken.is_ok(), "a Lease that only its annotations change is never taken over");
}

/// Returns what happens to the writes, which come from the leader: an outage is a run of them.
fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let delay = || (0_u64..20_000).prop_map(Duration::from_millis);
    let lost = Fault::Slow(Duration::from_hours(1));
    let fault = prop_oneof![
        2 => Just(lost),
        1 => delay().prop_map(Fault::Late),
        1 => delay().prop_map(Fault::Slow),
        1 => Just(Fault::Annotated),
        1 => Just(Fault::Late(Duration::ZERO)),
    ];
    let run = (fault, 1_usize..5).prop_map(|(fault, times)| vec![fault; times]);
    prop::collection::vec(run, 0..6).prop_map(|runs| runs.concat())
}

/// A process that stands for election again and again, as one that its kubelet restarts.
async fn stand_again(server: Server, name: &'static str, offset: u64, fence: Arc<Mutex<Fence>>) {
    sleep(Duration::from_millis(offset)).await;
    for number in 0.. {
        let mut election = candidate(&server, &format!("{name}_{number}"));
        *fence.lock().expect("nobody panics") = election.fence.clone();
        election.acquire().await;
        election.hold().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn never_may_two_replicas_write(faults in faults(), offset in 0_u64..2000) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let server = Server::default();
            lock(&server).faults = faults;
            let fences = [("one", 0), ("two", offset)].map(|(name, offset)| {
                let fence = Arc::new(Mutex::new(Fence::closed(Instant::now().into_std())));
                tokio::spawn(stand_again(Arc::clone(&server), name, offset, Arc::clone(&fence)));
                fence
            });
            let mut open = 0;
            for _ in 0..800 {
                sleep(Duration::from_millis(250)).await;
                let now = Instant::now().into_std();
                let allowed =
                    fences.iter().filter(|fence| fence.lock().expect("nobody panics").allows(now)).count();
                assert!(allowed < 2, "both may write");
                open = if allowed == 1 { open + 1 } else { 0 };
            }
            // The faults are over long before the end.
            assert!(open > 100, "nobody leads in the end");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn released_lease_is_taken_at_once_and_fenced_first() {
    let server = Server::default();
    let mut first = candidate(&server, "first");
    first.acquire().await;
    let (fence, start) = (first.fence.clone(), Instant::now());
    assert!(fence.allows(start.into_std()));
    lock(&server).faults.push(Fault::Annotated);
    first.release().await;
    assert!(!fence.allows(Instant::now().into_std()));
    candidate(&server, "second").acquire().await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}
