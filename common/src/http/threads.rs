//! Threads with a scheduler of their own each. What begins on one stays there, so nothing of it is handed from one core to
//! another.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};
use tracing::warn;

use crate::shutdown::Shutdown;

/// Takes turns between its threads. They end some time after it.
pub(crate) struct Threads {
    threads: Vec<Thread>,
    next: AtomicUsize,
}

struct Thread {
    runtime: Handle,
    /// The thread goes on while it is there, and until the tasks have ended.
    _in_use: oneshot::Sender<()>,
}

impl Threads {
    /// So many threads, or fewer if the system does not give them.
    pub(crate) fn start(count: usize, shutdown: &Shutdown) -> Self {
        let start = |number| match Thread::start(number, shutdown.clone()) {
            Ok(thread) => Some(thread),
            Err(error) => {
                warn!(%error, "a thread for connections cannot be started");
                None
            }
        };
        Self { threads: (0..count).map_while(start).collect(), next: AtomicUsize::new(0) }
    }

    /// Where the next task belongs; without threads to the runtime that asks.
    pub(crate) fn next(&self) -> Handle {
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.threads.len().max(1);
        self.threads.get(place).map_or_else(Handle::current, |thread| thread.runtime.clone())
    }
}

impl Thread {
    fn start(number: usize, shutdown: Shutdown) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (in_use, ended) = oneshot::channel::<()>();
        let work = async move {
            // Nothing is sent: this is the end of what holds the other side.
            let _ = ended.await;
            if shutdown.is_requested() {
                shutdown.drained().await;
            }
        };
        std::thread::Builder::new().name(format!("http-{number}")).spawn(move || runtime.block_on(work))?;
        Ok(Self { runtime: handle, _in_use: in_use })
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn tasks_take_turns_and_stay_on_their_thread() {
        let shutdown = Shutdown::default();
        let threads = Threads::start(2, &shutdown);
        let on = async |handle: Handle| handle.spawn(async { thread::current().id() }).await.unwrap();
        let (first, second) = (on(threads.next()).await, on(threads.next()).await);
        assert!(first != second && first != thread::current().id() && second != thread::current().id());
        assert_eq!(on(threads.next()).await, first);
    }

    #[tokio::test]
    async fn threads_end_after_the_tasks_even_if_nobody_drains() {
        let shutdown = Shutdown::default();
        let threads = Threads::start(1, &shutdown);
        let (task, ended) = oneshot::channel::<()>();
        let runtime = threads.next();
        shutdown.spawn_on("open", async { drop(ended.await) }, &runtime);
        shutdown.request();
        drop(threads);
        runtime.spawn(async {}).await.expect("the open task has its thread");
        drop(task);
        // The thread takes what is left on it along.
        let left = tokio::time::timeout(std::time::Duration::from_secs(10), async {
            while runtime.spawn(async {}).await.is_ok() {}
        });
        left.await.expect("the thread ends");
    }

    #[tokio::test]
    async fn without_threads_tasks_belong_to_who_asks() {
        let threads = Threads::start(0, &Shutdown::default());
        let id = threads.next().spawn(async { thread::current().id() }).await.unwrap();
        assert_eq!(id, thread::current().id());
    }
}
