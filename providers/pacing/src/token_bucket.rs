//! A share of a cloud's limit on calls, which slows down where the cloud throttles all the same. Pure.

use std::time::Duration;

/// The part of the full rate below which a bucket does not slow down: an eighth. Slow enough to leave the
/// limit to others, fast enough to notice within seconds that it is free again.
const SLOWEST_PART: f64 = 1.0 / 8.0;

/// The part of the full rate that a bucket gains in a second of calls that succeed: a slow one is fast again
/// in about 20 seconds.
const RECOVERY_PART: f64 = 1.0 / 20.0;

/// The least time between two gains of speed.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(1);

/// The part of a token that rounding may lack.
const ROUNDING: f64 = 1e-6;

/// The tokens for calls that share one limit, handed out in the order in which they are asked for.
///
/// All times are durations since any moment before the first use. The rate halves when the cloud throttles a
/// call, and grows back by equal steps while calls succeed: so several programs that share one limit without
/// knowing of each other come to share it evenly.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// The tokens that a full bucket holds
    burst: f64,
    /// Tokens per second, where nothing throttles
    full_rate: f64,
    /// Tokens per second now
    rate: f64,
    /// The tokens that have been asked for
    asked: f64,
    /// The tokens that there have been: at most a full bucket more than were asked for
    earned: f64,
    /// The time up to which tokens have been earned
    earned_at: Duration,
    /// The time before which no token is handed out
    paused_until: Duration,
    /// The first ticket whose call is sent after the last slowdown
    slowed_before: f64,
    /// The time of the last change of the rate
    rate_changed_at: Duration,
}

/// A place in the order of a [`TokenBucket`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ticket(f64);

impl TokenBucket {
    /// Returns a full bucket of `percent` of a limit of `burst` calls at once and `per_second` from then on:
    /// one call at once at least.
    #[must_use]
    pub fn new(burst: u32, per_second: u32, percent: u32) -> Self {
        let share = f64::from(percent) / 100.0;
        let (burst, rate) = ((f64::from(burst) * share).max(1.0), f64::from(per_second) * share);
        Self {
            burst,
            full_rate: rate,
            rate,
            asked: 0.0,
            earned: burst,
            earned_at: Duration::ZERO,
            paused_until: Duration::ZERO,
            slowed_before: 0.0,
            rate_changed_at: Duration::ZERO,
        }
    }

    /// Returns the next place in the order.
    pub fn take_ticket(&mut self, now: Duration) -> Ticket {
        self.earn(now);
        let ticket = Ticket(self.asked);
        self.asked += 1.0;
        ticket
    }

    /// Returns the time until the ticket's token is there, as it looks now: a slowdown meanwhile delays it.
    pub fn wait_time(&mut self, ticket: Ticket, now: Duration) -> Duration {
        self.earn(now);
        let lacking = ticket.0 + 1.0 - self.earned;
        let pause = self.pause(now);
        if lacking <= ROUNDING { pause } else { pause.max(Duration::from_secs_f64(lacking / self.rate)) }
    }

    /// Returns the time for which the cloud has asked not to be called.
    #[must_use]
    pub fn pause(&self, now: Duration) -> Duration {
        self.paused_until.saturating_sub(now)
    }

    /// Halves the rate and takes the tokens that are left, because the cloud throttled the ticket's call.
    /// Calls that were under way at the last slowdown do not slow down again.
    pub fn throttled(&mut self, ticket: Ticket, now: Duration) {
        self.earn(now);
        if ticket.0 < self.slowed_before {
            return;
        }
        self.rate = (self.rate / 2.0).max(self.full_rate * SLOWEST_PART);
        self.rate_changed_at = now;
        self.earned = self.earned.min(self.asked);
        self.slowed_before = self.earned.floor();
    }

    /// Hands out no token until `until`, because the cloud asked for that.
    pub fn pause_until(&mut self, until: Duration) {
        self.paused_until = self.paused_until.max(until);
    }

    /// Speeds up again, because a call succeeded.
    pub fn succeeded(&mut self, now: Duration) {
        if self.rate < self.full_rate && now >= self.rate_changed_at + RECOVERY_INTERVAL {
            self.earn(now);
            self.rate = (self.rate + self.full_rate * RECOVERY_PART).min(self.full_rate);
            self.rate_changed_at = now;
        }
    }

    /// Returns the time that so many calls take from a full bucket at the full rate.
    #[must_use]
    pub fn time_for(&self, calls: u32) -> Duration {
        Duration::from_secs_f64((f64::from(calls) - self.burst).max(0.0) / self.full_rate)
    }

    fn earn(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.earned_at).as_secs_f64();
        self.earned = (self.earned + elapsed * self.rate).min(self.asked + self.burst);
        self.earned_at = self.earned_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Sends `count` calls from `now` on, and returns when the last one is sent.
    fn send(bucket: &mut TokenBucket, mut now: Duration, count: usize) -> Duration {
        for _ in 0..count {
            let ticket = bucket.take_ticket(now);
            now += bucket.wait_time(ticket, now);
        }
        now
    }

    #[test]
    fn share_of_the_burst_passes_at_once_and_the_rest_at_its_rate() {
        let mut bucket = TokenBucket::new(50, 5, 50);
        assert_eq!(send(&mut bucket, Duration::ZERO, 25), Duration::ZERO);
        let end = send(&mut bucket, Duration::ZERO, 25).as_secs_f64();
        assert!((end - 10.0).abs() < 0.01, "{end}");
        assert!((bucket.time_for(50).as_secs_f64() - 10.0).abs() < 0.01);
        assert_eq!(bucket.time_for(25), Duration::ZERO);
    }

    #[test]
    fn tokens_are_handed_out_in_order() {
        let mut bucket = TokenBucket::new(1, 1, 100);
        let tickets: Vec<Ticket> = (0..4).map(|_| bucket.take_ticket(Duration::ZERO)).collect();
        let waits: Vec<u64> =
            tickets.iter().map(|ticket| bucket.wait_time(*ticket, Duration::ZERO).as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 3]);
        assert_eq!(bucket.wait_time(tickets[3], seconds(2)), seconds(1), "it keeps its place");
    }

    #[test]
    fn throttled_bucket_halves_once_and_recovers_by_success() {
        let mut bucket = TokenBucket::new(100, 10, 100);
        let sent: Vec<Ticket> = (0..16).map(|_| bucket.take_ticket(Duration::ZERO)).collect();
        for ticket in sent {
            bucket.throttled(ticket, seconds(1));
        }
        assert!((bucket.rate - 5.0).abs() < 0.01, "sixteen calls at once are one sign: {}", bucket.rate);
        let next = bucket.take_ticket(seconds(1));
        assert_eq!(bucket.wait_time(next, seconds(1)), Duration::from_millis(200), "the burst is gone");
        for _ in 0..10 {
            let ticket = bucket.take_ticket(seconds(2));
            bucket.throttled(ticket, seconds(2));
        }
        assert!((bucket.rate - 1.25).abs() < 0.01, "never slower than an eighth: {}", bucket.rate);
        let mut now = seconds(100);
        while bucket.rate < bucket.full_rate {
            now += Duration::from_millis(100);
            bucket.succeeded(now);
        }
        assert!((115..125).contains(&now.as_secs()), "{now:?}");
    }

    #[test]
    fn pause_holds_every_ticket() {
        let mut bucket = TokenBucket::new(100, 10, 100);
        let ticket = bucket.take_ticket(Duration::ZERO);
        bucket.pause_until(seconds(43));
        bucket.pause_until(seconds(9));
        assert_eq!(
            (bucket.wait_time(ticket, seconds(1)), bucket.pause(seconds(1))),
            (seconds(42), seconds(42))
        );
        assert_eq!(bucket.wait_time(ticket, seconds(43)), Duration::ZERO);
    }
}
