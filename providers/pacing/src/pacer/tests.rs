//! Tests of pacing, on virtual time.

use std::cell::RefCell;
use std::fmt;

use super::*;

/// The calls of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Call {
    /// Replaces the groups of an interface
    Modify,
    /// Reads an interface by its id
    Read,
}

impl Call {
    /// Returns EC2's limit: calls at once, and calls per second.
    const fn size(self) -> (u32, u32) {
        match self {
            Self::Modify => (100, 5),
            Self::Read => (50, 10),
        }
    }
}

impl RateLimit for Call {
    fn bucket(self, percent: u32) -> TokenBucket {
        let (burst, per_second) = self.size();
        TokenBucket::new(burst, per_second, percent)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refused(Attempt);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused")
    }
}

impl Retryable for Refused {
    fn attempt(&self) -> Attempt {
        self.0
    }
}

const THROTTLED: Result<(), Refused> = Err(Refused(Attempt::Throttled(None)));

/// A model of the account's own buckets, which all programs in it empty together.
struct Account {
    /// The tokens of each call, and the time for which they are counted
    tokens: RefCell<BTreeMap<Call, (f64, Instant)>>,
    /// The calls per second that other programs make
    others: f64,
    throttled: RefCell<usize>,
}

impl Account {
    fn new(others: f64) -> Self {
        Self { tokens: RefCell::default(), others, throttled: RefCell::new(0) }
    }

    async fn answer(&self, call: Call) -> Result<(), Refused> {
        tokio::time::sleep(Duration::from_millis(80)).await;
        let (burst, per_second) = call.size();
        let mut tokens = self.tokens.borrow_mut();
        let full = (f64::from(burst), Instant::now());
        let (left, counted) = tokens.entry(call).or_insert(full);
        let others = if call == Call::Modify { self.others } else { 0.0 };
        let gained = counted.elapsed().as_secs_f64() * (f64::from(per_second) - others);
        (*left, *counted) = ((*left + gained).min(f64::from(burst)), Instant::now());
        if *left < 1.0 {
            *self.throttled.borrow_mut() += 1;
            return THROTTLED;
        }
        *left -= 1.0;
        Ok(())
    }
}

/// Attaches a group to so many nodes, sixteen at once, each with a read before and after; a step that fails
/// is tried again a second later. Returns the time that takes, and the number of throttled calls.
async fn attach(nodes: usize, percent: u32, others: f64) -> (Duration, usize) {
    let (pacer, account) = (Pacer::new(percent), Account::new(others));
    let (start, left) = (Instant::now(), RefCell::new(nodes));
    let worker = || async {
        loop {
            if *left.borrow() == 0 {
                return;
            }
            *left.borrow_mut() -= 1;
            let retries = Retries::default();
            for call in [Call::Read, Call::Modify, Call::Read] {
                while pacer.call(call, &retries, || account.answer(call)).await.is_err() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    };
    let mut workers: Vec<_> = (0..16).map(|_| Box::pin(worker())).collect();
    std::future::poll_fn(|context| {
        workers.retain_mut(|worker| worker.as_mut().poll(context).is_pending());
        if workers.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    let throttled = *account.throttled.borrow();
    (start.elapsed(), throttled)
}

#[tokio::test(start_paused = true)]
async fn five_thousand_nodes_take_as_long_as_the_share_allows() {
    for percent in [25, 50, 90] {
        let (took, throttled) = attach(5000, percent, 0.0).await;
        let bound = Call::Modify.bucket(percent).time_for(5000);
        let ratio = took.as_secs_f64() / bound.as_secs_f64();
        println!("{percent} %: {took:?}, bound {bound:?}, ratio {ratio:.4}");
        assert!(
            (1.0..=1.05).contains(&ratio) && throttled == 0,
            "{percent} %: {ratio}, {throttled} throttled"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_leave_is_used_without_many_throttled_calls() {
    // Others make four of the account's five calls per second, and half of the five is our share.
    let (took, throttled) = attach(1000, 50, 4.0).await;
    let left_by_others = Duration::from_mins(15);
    let ratio = took.as_secs_f64() / left_by_others.as_secs_f64();
    println!("{took:?} for what {left_by_others:?} would do, {throttled} throttled calls");
    assert!((1.0..=1.5).contains(&ratio) && throttled < 200, "{ratio}, {throttled}");
}

#[tokio::test(start_paused = true)]
async fn throttled_call_gives_up_in_time_and_delays_no_other_action() {
    let pacer = Pacer::new(50);
    let start = Instant::now();
    let throttled = async {
        let error = pacer.call(Call::Modify, &Retries::default(), || async { THROTTLED }).await;
        assert_eq!(error, Err(CallFailure::Failed(Refused(Attempt::Throttled(None)))));
        let took = start.elapsed();
        assert!(took > Duration::from_secs(5) && took <= RETRY_TIMEOUT, "{took:?}");
    };
    let other = async {
        for _ in 0..25 {
            pacer.call(Call::Read, &Retries::default(), || async { Ok::<_, Refused>(()) }).await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    };
    tokio::join!(throttled, other);
}

#[tokio::test(start_paused = true)]
async fn calls_of_one_step_share_the_time_for_retries() {
    let pacer = Pacer::new(50);
    let (start, retries) = (Instant::now(), Retries::default());
    let failing = || async { Err::<(), _>(Refused(Attempt::Transient(Duration::from_secs(4)))) };
    for _ in 0..5 {
        pacer.call(Call::Modify, &retries, failing).await.unwrap_err();
    }
    assert_eq!(start.elapsed().as_secs(), 12, "three delays of four seconds, and no fourth");
}

#[tokio::test(start_paused = true)]
async fn pause_that_the_cloud_asks_for_is_kept() {
    let pacer = Pacer::new(50);
    let sent = RefCell::new(0);
    let call = |pause: u64| {
        let (pacer, sent) = (&pacer, &sent);
        async move {
            let attempt = || async {
                *sent.borrow_mut() += 1;
                let pause = Attempt::Throttled(Some(Duration::from_secs(pause)));
                if *sent.borrow() % 2 == 1 { Err(Refused(pause)) } else { Ok(()) }
            };
            pacer.call(Call::Modify, &Retries::default(), attempt).await
        }
    };
    let start = Instant::now();
    assert_eq!(call(9).await, Ok(()), "a short one is waited for");
    assert_eq!((start.elapsed().as_secs(), *sent.borrow()), (9, 2));
    assert!(matches!(call(60).await, Err(CallFailure::Failed(_))), "a long one is left to a later pass");
    assert_eq!((start.elapsed().as_secs(), *sent.borrow()), (9, 3));
    assert_eq!(call(60).await, Err(CallFailure::Paused(Duration::from_mins(1))), "which sends nothing");
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!((call(60).await, *sent.borrow()), (Ok(()), 4));
}
