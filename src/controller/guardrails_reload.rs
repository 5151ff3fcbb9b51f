//! Reads the guardrails again when their file changes.

use tokio::sync::watch;

use super::config::SettingsSource;
use super::guardrails_file::GuardrailsError;
use crate::intents::settings::Settings;
use crate::k8s::file_watcher::FileWatcher;

/// Settings that follow their file.
pub(super) struct GuardrailsReloader {
    source: SettingsSource,
    settings: watch::Sender<Settings>,
    /// None where there is no file
    changes: Option<FileWatcher>,
}

impl GuardrailsReloader {
    /// Reads the settings, and watches the file from now on.
    ///
    /// # Errors
    /// If the file cannot be read, understood or watched.
    pub(super) fn new(source: SettingsSource) -> Result<Self, GuardrailsError> {
        // Before it is read, so that no change falls between.
        let changes = source.guardrails.as_deref().map(|path| {
            FileWatcher::new(path).map_err(|error| GuardrailsError::Content {
                path: path.display().to_string(),
                message: format!("it cannot be watched for changes: {error}"),
            })
        });
        let changes = changes.transpose()?;
        let (settings, _) = watch::channel(source.read()?);
        Ok(Self { source, settings, changes })
    }

    /// Returns the settings as they are whenever they are borrowed.
    pub(super) fn settings(&self) -> watch::Receiver<Settings> {
        self.settings.subscribe()
    }

    /// Applies each change of the file, for ever. While the file cannot be understood, the guardrails stay as
    /// they were: nothing is opened that they forbade, and nothing closed because of a typing error.
    pub(super) async fn follow(mut self) {
        let Some(changes) = &mut self.changes else { return std::future::pending().await };
        loop {
            changes.next().await;
            match self.source.read() {
                Ok(new) => {
                    let differs = self.settings.send_if_modified(|settings| {
                        let differs = *settings != new;
                        *settings = new;
                        differs
                    });
                    if differs {
                        tracing::info!("the guardrails have changed");
                    }
                }
                Err(error) => tracing::error!("{error}; the guardrails stay as they were"),
            }
        }
    }
}
