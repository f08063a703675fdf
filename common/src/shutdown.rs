//! Tasks have an owner and an end.

use std::{future::Future, time::Duration};

use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, error, info, warn};

/// Ends what it started: every task of a process belongs to one `Shutdown`. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Shutdown {
    /// Starts a task that `drain` will wait for. The task watches [`Shutdown::requested`].
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(task.instrument(tracing::debug_span!("task", name)));
    }

    /// The same, on another runtime.
    pub(crate) fn spawn_on<F>(&self, name: &'static str, task: F, runtime: &Handle)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn_on(task.instrument(tracing::debug_span!("task", name)), runtime);
    }

    /// Starts a task that cannot go on after an error: the error is logged and the whole process stops.
    pub(crate) fn spawn_vital<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let stop = self.clone();
        self.spawn(name, async move {
            if let Err(failure) = task.await {
                error!(task = name, error = format!("{failure:#}"), "a task failed, stopping");
                stop.request();
            }
        });
    }

    /// Asks every task to end.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Whether the end was asked for.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Completes when the end is asked for.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Runs `work` until it is done or the end is asked for; `None` in the second case.
    pub async fn unless_requested<F: Future>(&self, work: F) -> Option<F::Output> {
        self.token.run_until_cancelled(work).await
    }

    /// A `Shutdown` that ends with this one, or alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), tracker: TaskTracker::new() }
    }

    /// Completes when no task is left, whether or not somebody drains.
    pub(crate) async fn drained(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Waits for all tasks to end, for `grace` at most. Returns whether all did.
    pub async fn drain(&self, grace: Duration) -> bool {
        self.request();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_ok() {
            return true;
        }
        warn!(tasks = self.tracker.len(), "some tasks did not end in time and are dropped");
        false
    }

    /// Completes at SIGINT or SIGTERM, or when some task asks for the end.
    pub async fn wait_for_signal(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result?,
            _ = terminate.recv() => {}
            () = self.requested() => return Ok(()),
        }
        info!("asked to stop");
        Ok(())
    }
}
