//! Model clouds.

pub(crate) mod faults;
pub(crate) mod memory;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::checker::Cause;
use crate::landscape::Probes;
use crate::process::Process;

/// Hears of everything that happens in a model cloud.
pub(crate) trait Observer: Send + Sync {
    /// A process has sent a call that changes something.
    fn sent(&self, process: &Process, call: &str);

    /// A call has ended, by its effect.
    fn ended(&self, process: &Process, call: &str, outcome: &str);

    /// The cloud has been read.
    fn has_read(&self, process: &Process);

    /// The cloud has changed.
    fn changed(&self, view: &View, cause: Cause);
}

/// Everything that the checker sees of a cloud.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// What each machine lets in because of this cluster, by the providerID
    pub(crate) admits: BTreeMap<String, Probes>,
    /// Everything of others, as text
    pub(crate) foreign: String,
}

/// An observer that can be shared.
pub(crate) type SharedObserver = Arc<dyn Observer>;
