//! The agent as devices see it: real sockets, a real log, and stand-ins for the services that it asks.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails should stop its test"
)]

mod actuation;
mod client;
mod connect;
mod hostile;
mod platform;
mod publish;
mod redelivery;
mod tls;

/// Each test against the embedded engines and against the real ones.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $name() {
                super::$name(common::testing::TestEngines::embedded().await).await;
            })*
        }
        mod real {
            $(#[tokio::test]
            async fn $name() {
                super::$name(common::testing::TestEngines::real().await).await;
            })*
        }
    };
}
use on_both_engines;
