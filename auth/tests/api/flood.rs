//! Many logins at a time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use auth::Config;
use common::testing::{client, eventually, fresh_tenant};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::stack::{ADMIN_PASSWORD, Stack, answer, config, fresh_name};

const CONNECTIONS: usize = 80;

/// Wrong passwords of one user from one address, on many connections. Each goes on until it is refused or told to stop.
struct Flood {
    state: Arc<State>,
    connections: JoinSet<()>,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    served: AtomicUsize,
    refused: AtomicUsize,
}

impl Flood {
    const ADDRESS: &str = "203.0.113.1";

    fn start(base: &str) -> Self {
        let state = Arc::<State>::default();
        let mut connections = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (state, base) = (Arc::clone(&state), base.to_owned());
            connections.spawn(async move {
                while !state.stop.load(Ordering::SeqCst) {
                    let (status, retry_after, body) = log_in(&base, Self::ADDRESS, "admin", "wrong").await;
                    if status == 429 {
                        let expected = json!({"message": "API rate limit exceeded"});
                        assert_eq!((retry_after, body), (Some(1), expected));
                        state.refused.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    assert_eq!(status, 403, "{body}");
                    state.served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { state, connections }
    }

    fn served(&self) -> usize {
        self.state.served.load(Ordering::SeqCst)
    }

    fn refused(&self) -> usize {
        self.state.refused.load(Ordering::SeqCst)
    }

    async fn end(mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.connections.join_next().await {
            ended.unwrap();
        }
    }
}

/// A login that the gateway forwards from an address. Returns status, seconds until the next try, and body.
async fn log_in(base: &str, address: &str, username: &str, password: &str) -> (u16, Option<u32>, Value) {
    let request = client()
        .post(format!("{base}/"))
        .header("X-Forwarded-For", address)
        .json(&json!({"username": username, "passwd": password}));
    let response = request.send().await.unwrap();
    let retry_after = response.headers().get("retry-after");
    let retry_after = retry_after.map(|seconds| seconds.to_str().unwrap().parse().unwrap());
    let (status, body) = answer(response).await;
    (status, retry_after, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_wrong_passwords_keeps_nobody_else_out() {
    const QUEUE: usize = 64;
    for stack in Stack::both(&Config { password_queue: QUEUE, password_wait_s: 60, ..config() }).await {
        let name = fresh_name();
        let (_, password) = stack.user(&fresh_tenant(), &name, json!("user")).await;
        let flood = Flood::start(&stack.base);
        eventually("the queue is full", async || (flood.refused() > 0).then_some(())).await;
        for (address, username, password) in [
            ("203.0.113.2", "admin", ADMIN_PASSWORD),
            ("2001:db8::1", name.as_str(), password.as_str()),
            // Somebody else behind the same address.
            (Flood::ADDRESS, &name, &password),
        ] {
            let before = flood.served();
            let (status, _, body) = log_in(&stack.base, address, username, password).await;
            assert_eq!(status, 200, "{username} from {address}: {body}");
            let overtaken_by = flood.served() - before;
            assert!(overtaken_by < QUEUE / 2, "{username} from {address} waited for {overtaken_by}");
        }
        let going_on = CONNECTIONS - flood.refused();
        assert!(going_on >= QUEUE - 3, "{going_on} of the flood wait");
        flood.end().await;
        stack.end().await;
    }
}
