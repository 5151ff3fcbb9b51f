//! Sends a provider's calls at a share of its cloud's limits, and bounds the time in which they are tried
//! again.
//!
//! Throttling is not the trouble of the call that it happens to, but of all calls under the same limit: their
//! [`TokenBucket`] slows down, and speeds up again. The call itself waits for its next token, as a call that
//! failed for a moment waits for its next attempt, for [`RETRY_TIMEOUT`] in all. Calls under other limits
//! notice nothing.

mod pacer;
mod retries;
mod token_bucket;

pub use pacer::{Attempt, CallFailure, Pacer, RateLimit, Retryable};
pub use retries::{RETRY_TIMEOUT, Retries};
pub use token_bucket::{Ticket, TokenBucket};
