//! Calls to Compute Engine: retried, paged, and awaited to the end of their operations.

mod firewalls;
mod instances;

use std::time::Duration;

use google_cloud_auth::credentials::Credentials;
use google_cloud_compute_v1::client::{Firewalls, Instances, Networks};
use google_cloud_compute_v1::model::Operation;
use google_cloud_gax::client_builder::Result as BuildResult;
use google_cloud_gax::error::Error;
use google_cloud_gax::exponential_backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use google_cloud_gax::polling_error_policy::{PollingErrorPolicy, PollingErrorPolicyExt};
use google_cloud_gax::polling_state::PollingState;
use google_cloud_gax::retry_policy::{RetryPolicy, RetryPolicyExt};
use google_cloud_gax::retry_result::RetryResult;
use google_cloud_gax::retry_state::RetryState;
use google_cloud_lro::Poller;

use crate::api_calls::ApiCall;
use crate::config::GceConfig;
use crate::wire::error::{CallError, is_passing, is_throttled};

/// How long one call may take: Compute Engine answers within seconds or not at all.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to go on after throttling. Rates are counted by the minute: when one is used up, the next minute brings it
/// back. Source: "Rate quotas" in the Compute Engine documentation.
const THROTTLING_TIME_LIMIT: Duration = Duration::from_mins(4);

/// How often a call is made that fails, and until when: a pass lasts as long as its slowest step, so what goes on failing
/// is left to a later one.
const MAX_ATTEMPTS: u32 = 4;
const FAILURE_TIME_LIMIT: Duration = Duration::from_secs(15);

/// The most that one page may hold.
const PAGE: u32 = 500;

/// The connection to Compute Engine.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    firewalls: Firewalls,
    instances: Instances,
    networks: Networks,
    project: String,
    rule_project: String,
}

/// Builds one of the library's clients with what is common to all.
macro_rules! client {
    ($service:ty, $config:expr, $credentials:expr) => {{
        let mut builder = <$service>::builder()
            .with_credentials($credentials.clone())
            .with_attempt_timeout(CALL_TIMEOUT)
            .with_retry_policy(RetryPolicyExt::with_time_limit(RetryTransient, THROTTLING_TIME_LIMIT))
            .with_backoff_policy(passing_trouble())
            .with_polling_error_policy(PollingErrorPolicyExt::with_time_limit(
                RetryTransient,
                THROTTLING_TIME_LIMIT,
            ))
            .with_polling_backoff_policy(polling());
        if let Some(endpoint) = &$config.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        builder.build().await
    }};
}

impl Client {
    pub(crate) async fn new(config: &GceConfig, credentials: &Credentials) -> BuildResult<Self> {
        Ok(Self {
            firewalls: client!(Firewalls, config, credentials)?,
            instances: client!(Instances, config, credentials)?,
            networks: client!(Networks, config, credentials)?,
            project: config.project.clone(),
            rule_project: config.rule_project().to_owned(),
        })
    }
}

/// Goes on after whatever may pass by itself: after throttling as long as it takes, after failures a few times. Every
/// mutating call carries a request id, so that the same one twice has one effect.
#[derive(Clone, Debug)]
struct RetryTransient;

impl RetryTransient {
    fn classify(error: Error, may_fail_again: bool) -> RetryResult {
        if is_throttled(&error) || may_fail_again && is_passing(&error) {
            tracing::warn!(%error, "a call to Compute Engine failed for now");
            RetryResult::Continue(error)
        } else {
            RetryResult::Permanent(error)
        }
    }
}

impl RetryPolicy for RetryTransient {
    fn on_error(&self, state: &RetryState, error: Error) -> RetryResult {
        Self::classify(
            error,
            state.attempt_count < MAX_ATTEMPTS && state.start.elapsed() < FAILURE_TIME_LIMIT,
        )
    }
}

/// Each look at an operation is a call with repetitions of its own.
impl PollingErrorPolicy for RetryTransient {
    fn on_error(&self, state: &PollingState, error: Error) -> RetryResult {
        Self::classify(error, state.start.elapsed() < FAILURE_TIME_LIMIT)
    }
}

/// Half a second, doubling to half a minute.
fn passing_trouble() -> ExponentialBackoff {
    backoff(Duration::from_millis(500), Duration::from_secs(30), 2.0)
}

/// A firewall operation takes a few seconds.
fn polling() -> ExponentialBackoff {
    backoff(Duration::from_millis(100), Duration::from_secs(5), 1.5)
}

fn backoff(first: Duration, longest: Duration, factor: f64) -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_delay(first)
        .with_maximum_delay(longest)
        .with_scaling(factor)
        .clamp()
}

/// A request id: the same one twice is the same request.
fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// What was asked for; `None` if it is not there.
fn found<T>(method: ApiCall, object: &str, answer: Result<T, Error>) -> Result<Option<T>, CallError> {
    match answer.map_err(|error| CallError::new(method, object, &error)) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits until the operation has ended, and says how.
async fn finished(
    method: ApiCall,
    object: &str,
    poller: impl Poller<Operation, Operation>,
) -> Result<(), CallError> {
    let operation = poller.until_done().await.map_err(|error| CallError::new(method, object, &error))?;
    operation.to_result().map_err(|error| CallError::of_operation(method, object, &error))?;
    Ok(())
}
