//! A process of the controller: it can be killed at any await, and is heard of no more from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A process. Everything that it sends goes through the model API server and the model clouds, which ask it
/// whether it still lives: what it has sent takes effect, but it sends nothing more, and no answer reaches it.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) number: usize,
    alive: Arc<AtomicBool>,
}

impl Process {
    pub(crate) fn new(number: usize) -> Self {
        Self { number, alive: Arc::new(AtomicBool::new(true)) }
    }

    pub(crate) fn kill(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Never returns if the process has been killed.
    pub(crate) async fn pause_if_dead(&self) {
        if !self.is_alive() {
            std::future::pending::<()>().await;
        }
    }
}
