//! Tests of what is asked for next after each end of a request, and of what counts as a gap.

use super::*;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn refused(code: u16) -> End {
    End::Refused(Refusal { code, message: "no".into(), next: None })
}

fn broken() -> End {
    End::Broken("reset by peer".into())
}

/// Ends the next request, and returns the gap and the delay in milliseconds that follow.
fn end(session: &mut Session, end: &End, now: Duration) -> (Option<String>, u128) {
    let (_, request) = session.next();
    let gap = session.ended(&request, end, now);
    (gap, session.next().0.as_millis())
}

/// Returns a session that has listed everything at the time 0, and watches from version 1.
fn watching() -> Session {
    let mut session = Session::default();
    assert_eq!(session.next(), (Duration::ZERO, Request::StreamingList));
    session.opened(at(0));
    session.listed("1".into(), at(0));
    session
}

#[test]
fn watch_is_resumed_from_its_last_version_without_a_gap() {
    let mut session = watching();
    session.advanced("5".into());
    session.advanced(String::new());
    assert_eq!(end(&mut session, &broken(), at(290)), (None, 0), "the server ends it after 290 s");
    assert_eq!(session.next().1, Request::Watch("5".into()));
    session.opened(at(290));
    assert_eq!(session.patience(at(290)), SILENCE);
    assert_eq!(end(&mut session, &End::Silent, at(365)), (None, 0), "a dead connection");
    assert_eq!(end(&mut session, &broken(), at(366)), (None, 500));
    assert_eq!(end(&mut session, &refused(503), at(367)), (None, 1000));
    session.opened(at(368));
    assert_eq!(end(&mut session, &broken(), at(368 + 290)), (None, 0), "a quiet one is steady too");
}

#[test]
fn watch_that_is_not_resumed_in_time_is_a_gap_until_it_settles() {
    let mut session = watching();
    end(&mut session, &broken(), at(100));
    assert_eq!(end(&mut session, &broken(), at(101)).0, None);
    assert_eq!(end(&mut session, &broken(), at(110)), (Some("reset by peer".into()), 1000));
    session.opened(at(120));
    assert_eq!(session.patience(at(120)), SETTLING);
    session.advanced("9".into());
    assert!(!session.settles(at(121)));
    assert!(session.settles(at(122)) && !session.settles(at(122)), "once");
    assert_eq!(session.patience(at(122)), SILENCE);
    assert_eq!(end(&mut session, &broken(), at(130)), (None, 0));
    assert_eq!(session.next().1, Request::Watch("9".into()));
}

#[test]
fn expired_version_is_listed_anew_and_slower_each_time() {
    let mut session = watching();
    for (second, delay) in [(10, 500), (20, 1000), (30, 2000), (40, 4000)] {
        let (gap, waits) = end(&mut session, &refused(410), at(second));
        assert!(gap.is_some(), "what was listed may be old");
        assert_eq!((waits, session.next().1), (delay, Request::StreamingList));
        session.opened(at(second));
        session.listed("2".into(), at(second));
    }
    session.advanced("3".into());
    assert_eq!(end(&mut session, &refused(410), at(50)).1, 500, "a change shows that watching works");
}

#[test]
fn refused_watch_is_not_listed_back_to_back() {
    for code in [403, 500] {
        let mut session = Session::default();
        let (mut lists, mut requests, mut now, mut gaps) = (0, 0, Duration::ZERO, 0);
        while now < at(600) {
            let (delay, request) = session.next();
            now += delay;
            requests += 1;
            match request {
                Request::PagedList => {
                    lists += 1;
                    session.listed(lists.to_string(), now);
                    assert_eq!(session.ended(&request, &End::Listed, now), None);
                    assert_eq!(session.next().0, Duration::ZERO, "it is known at once that it is a gap");
                }
                _ => gaps += u32::from(session.ended(&request, &refused(code), now).is_some()),
            }
        }
        assert!((4..=6).contains(&lists), "{lists} lists in ten minutes");
        assert!(requests < 50, "{requests} requests in ten minutes");
        assert!(gaps >= 12, "{gaps} times the kind was incomplete");
    }
}

#[test]
fn server_without_streaming_lists_is_asked_for_pages_at_once() {
    for code in [400, 422] {
        let mut session = Session::default();
        assert_eq!(end(&mut session, &refused(code), at(0)), (None, 0));
        assert_eq!(session.next().1, Request::PagedList);
        assert_eq!(end(&mut session, &broken(), at(1)), (Some("reset by peer".into()), 500));
        assert_eq!(session.next().1, Request::PagedList, "it still has none");
    }
    for other in [refused(403), refused(500), End::Silent, End::Garbled("odd".into())] {
        let mut session = Session::default();
        assert_eq!(end(&mut session, &other, at(0)), (None, 0));
        assert_eq!(session.next().1, Request::PagedList);
        assert!(end(&mut session, &refused(500), at(1)).0.is_some());
        assert_eq!(session.next().1, Request::StreamingList, "it may have them by now");
    }
}

#[test]
fn busy_or_unreachable_server_is_not_asked_for_more() {
    for other in [refused(429), broken()] {
        let mut session = Session::default();
        assert!(end(&mut session, &other, at(0)).0.is_some());
        assert_eq!(session.next(), (MIN_DELAY, Request::StreamingList));
    }
    let mut session = Session::default();
    for second in 0..40 {
        end(&mut session, &broken(), at(second));
    }
    assert_eq!(session.next().0, MAX_DELAY);
}

#[test]
fn garbled_watch_is_listed_anew() {
    let mut session = watching();
    assert!(end(&mut session, &End::Garbled("odd".into()), at(60)).0.is_some());
    assert_eq!(session.next().1, Request::StreamingList);
}
