//! Calls Compute Engine: retries, reads all pages, and waits for operations.

mod firewalls;
mod instances;

use std::time::Duration;

use firewall_core::{Fence, Fenced};
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
use tokio::time::Instant;

use crate::api_calls::ApiCall;
use crate::config::GceConfig;
use crate::wire::error::{CallError, is_throttled, is_transient};

/// Time limit of one attempt: Compute Engine responds within seconds or not at all.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Time limit of all attempts of a call, of which only throttling takes this long. Rate quotas are per
/// minute: a quota that is used up is full again in the next minute. Source: "Rate quotas" in the Compute
/// Engine documentation.
const THROTTLING_TIME_LIMIT: Duration = Duration::from_mins(4);

/// Most attempts of a failing call, and the time after which it is not attempted again. A pass lasts as long
/// as its slowest step, so a call that keeps failing is left to a later pass.
const MAX_ATTEMPTS: u32 = 4;
const FAILURE_TIME_LIMIT: Duration = Duration::from_secs(15);

/// Most items that one page may hold.
const PAGE_SIZE: u32 = 500;

/// The client of Compute Engine's API.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    firewalls: Firewalls,
    instances: Instances,
    networks: Networks,
    project: String,
    rule_project: String,
    /// Asked before each call that changes something
    pub(crate) fence: Fence,
}

/// Builds one of the library's clients, with the settings that all have in common.
macro_rules! build_client {
    ($service:ty, $config:expr, $credentials:expr) => {{
        let mut builder = <$service>::builder()
            .with_credentials($credentials.clone())
            .with_attempt_timeout(CALL_TIMEOUT)
            .with_retry_policy(RetryPolicyExt::with_time_limit(RetryTransient, THROTTLING_TIME_LIMIT))
            .with_backoff_policy(transient_backoff())
            .with_polling_error_policy(PollingErrorPolicyExt::with_time_limit(
                RetryTransient,
                THROTTLING_TIME_LIMIT,
            ))
            .with_polling_backoff_policy(polling_backoff());
        if let Some(endpoint) = &$config.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        builder.build().await
    }};
}

impl Client {
    /// Connects to Google's endpoint, or to the configured one.
    pub(crate) async fn new(config: &GceConfig, credentials: &Credentials) -> BuildResult<Self> {
        Ok(Self {
            firewalls: build_client!(Firewalls, config, credentials)?,
            instances: build_client!(Instances, config, credentials)?,
            networks: build_client!(Networks, config, credentials)?,
            project: config.project.clone(),
            rule_project: config.rule_project().to_owned(),
            fence: Fence::always_open(),
        })
    }

    /// Sends a call that changes something, with the library's retries, and waits until its operation has
    /// ended.
    async fn mutate(
        &self,
        call: ApiCall,
        object: &str,
        poller: impl Poller<Operation, Operation> + Send,
    ) -> Result<(), CallError> {
        let now = || Instant::now().into_std();
        let ended = self.fence.guard(now, poller.until_done()).await;
        let operation = ended
            .map_err(|Fenced| CallError::fenced(call, object))?
            .map_err(|error| CallError::new(call, object, &error))?;
        operation.to_result().map_err(|error| CallError::from_operation(call, object, &error))?;
        Ok(())
    }
}

/// The retry policy: retries throttled calls up to the time limit, and transient failures a few times. Every
/// mutating call has a request id, so that a repeated call takes effect once.
#[derive(Clone, Debug)]
struct RetryTransient;

impl RetryTransient {
    fn classify(error: Error, may_retry_failure: bool) -> RetryResult {
        if is_throttled(&error) || may_retry_failure && is_transient(&error) {
            tracing::warn!(%error, "a call to Compute Engine failed with a transient error");
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

/// Each poll of an operation is a call with retries of its own.
impl PollingErrorPolicy for RetryTransient {
    fn on_error(&self, state: &PollingState, error: Error) -> RetryResult {
        Self::classify(error, state.start.elapsed() < FAILURE_TIME_LIMIT)
    }
}

/// Returns delays of half a second, doubling up to half a minute.
fn transient_backoff() -> ExponentialBackoff {
    backoff(Duration::from_millis(500), Duration::from_secs(30), 2.0)
}

/// Returns delays for an operation, which takes a few seconds on firewall rules.
fn polling_backoff() -> ExponentialBackoff {
    backoff(Duration::from_millis(100), Duration::from_secs(5), 1.5)
}

fn backoff(initial: Duration, maximum: Duration, factor: f64) -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_delay(initial)
        .with_maximum_delay(maximum)
        .with_scaling(factor)
        .clamp()
}

/// Returns a new request id. Two calls with the same id are the same request.
fn new_request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Returns the object; `None` if it does not exist.
fn none_if_not_found<T>(
    call: ApiCall,
    object: &str,
    response: Result<T, Error>,
) -> Result<Option<T>, CallError> {
    match response.map_err(|error| CallError::new(call, object, &error)) {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
