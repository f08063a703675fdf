//! Tickets open one socket, once, for a while.

use common::{
    http::{Caller, client::Service},
    testing::{client, eventually, user_of},
};
use futures_util::{StreamExt, stream};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Stack, close, config, connect, text};

#[tokio::test(flavor = "multi_thread")]
async fn users_get_tickets() {
    for stack in Stack::both().await {
        let ticket = stack.ticket().await;
        assert_eq!(ticket.len(), 64);
        assert!(ticket.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{ticket}");
        assert_ne!(ticket, stack.ticket().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_gets_one() {
    for stack in Stack::both().await {
        let path = "/kafka-ws/v1/ticket";
        assert_eq!(stack.plain(Method::GET, path).await, (401, json!({ "message": "Missing JWT token" })));
        assert_eq!(stack.plain(Method::POST, path).await, (404, json!({ "message": "Not Found" })));
        let forged = client().get(format!("{}{path}", stack.base)).header("x-tatami-caller", "a.b");
        let answer = forged.send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.text().await.unwrap(), r#"{"message":"Invalid JWT token"}"#);
        let service = Caller::service("persister", &stack.tenant);
        let answer = stack.test.request(Method::GET, &stack.base, path, &service).send().await.unwrap();
        assert_eq!(answer.status(), 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_simultaneous_uses_one_succeeds() {
    for stack in Stack::both().await {
        // Two instances share the tickets.
        let bases = [stack.base.clone(), stack.another().await];
        for _ in 0..3 {
            let path =
                format!("/kafka-ws/v1/topics/{}.device-data?ticket={}", stack.tenant, stack.ticket().await);
            let attempts = (0..100).map(|i| connect(&bases[i % 2], &path));
            let outcomes: Vec<_> = stream::iter(attempts).buffer_unordered(100).collect().await;
            let refused = (StatusCode::UNAUTHORIZED, json!({ "message": "Invalid ticket" }));
            assert!(
                outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).all(|error| *error == refused)
            );
            assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_expires() {
    for stack in Stack::both_with(&kafka_ws::Config { ticket_lifetime_s: 1, ..config() }).await {
        let path =
            format!("/kafka-ws/v1/topics/{}.device-data?ticket={}", stack.tenant, stack.ticket().await);
        assert_eq!(stack.plain(Method::GET, &path).await.0, 426);
        eventually("the ticket expires", async || {
            (stack.plain(Method::GET, &path).await.0 == 401).then_some(())
        })
        .await;
        assert_eq!(stack.connect(&path).await.unwrap_err().0, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_requests_are_told_what_is_missing_and_spend_nothing() {
    for stack in Stack::both().await {
        let topic = format!("/kafka-ws/v1/topics/{}.device-data", stack.tenant);
        let ticket = stack.ticket().await;
        for (path, status, message) in [
            (topic.clone(), 401, "Missing ticket"),
            (format!("{topic}?ticket="), 401, "Missing ticket"),
            (format!("{topic}?ticket=nonsense"), 401, "Invalid ticket"),
            (format!("{topic}?ticket={}", "0".repeat(64)), 401, "Invalid ticket"),
            (format!("{topic}?ticket={}", ticket.to_uppercase()), 401, "Invalid ticket"),
            (format!("{topic}?ticket={ticket}"), 426, "This path takes websocket connections only"),
            (format!("{topic}?ticket={ticket}&ticket={ticket}"), 401, "Invalid ticket"),
            ("/kafka-ws/v1/topics".to_owned(), 404, "Not Found"),
            ("/kafka-ws/v1/topics/a/b".to_owned(), 404, "Not Found"),
        ] {
            assert_eq!(
                stack.plain(Method::GET, &path).await,
                (status, json!({ "message": message })),
                "{path}"
            );
        }
        assert!(stack.connect(&format!("{topic}?ticket={ticket}")).await.is_ok(), "it was not spent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_with_bad_tickets_fail_before_the_upgrade() {
    for stack in Stack::both().await {
        let topic = format!("/kafka-ws/v1/topics/{}.device-data", stack.tenant);
        for (query, message) in [("", "Missing ticket"), ("?ticket=nonsense", "Invalid ticket")] {
            let refused = stack.connect(&format!("{topic}{query}")).await.unwrap_err();
            assert_eq!(refused, (StatusCode::UNAUTHORIZED, json!({ "message": message })));
        }
        let ticket = stack.ticket().await;
        for filter in ["fields=a", "where=a%3D1%3B", "where=&where=a%3D1%3B"] {
            let refused = stack.connect(&format!("{topic}?ticket={ticket}&{filter}")).await.unwrap_err();
            let expected = json!({ "message": "filters are not supported yet" });
            assert_eq!(refused, (StatusCode::BAD_REQUEST, expected), "{filter}");
        }
        assert!(stack.connect(&format!("{topic}?ticket={ticket}&fields=&where=")).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_user_loses_sockets_and_tickets() {
    for stack in Stack::both().await {
        let (joe, ann) = (stack.fresh_user(), stack.fresh_user());
        let mut of_joe = stack.connect(&stack.path_of(&joe).await).await.unwrap();
        let mut of_ann = stack.connect(&stack.path_of(&ann).await).await.unwrap();
        let kept = stack.path_of(&joe).await;
        stack.revoke(&joe).await;
        assert_eq!(close(&mut of_joe).await, (4408, "Connection lifetime".to_owned()));
        assert_eq!(stack.connect(&kept).await.unwrap_err().0, StatusCode::UNAUTHORIZED, "its ticket is void");
        stack.append("device-data", r#"{"a":1}"#).await;
        assert_eq!(text(&mut of_ann).await, r#"{"a":1}"#, "others are not concerned");
        // With a new token everything goes on.
        let mut of_joe = stack.connect(&stack.path_of(&joe).await).await.unwrap();
        stack.append("device-data", r#"{"a":2}"#).await;
        assert_eq!(text(&mut of_joe).await, r#"{"a":2}"#);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_starts_knows_what_was_revoked_before() {
    for stack in Stack::both().await {
        let joe = stack.fresh_user();
        let before = stack.path_of(&joe).await;
        stack.revoke(&joe).await;
        let after = stack.path_of(&joe).await;
        let base = stack.another().await;
        let refused = connect(&base, &before).await.unwrap_err();
        assert_eq!(refused, (StatusCode::UNAUTHORIZED, json!({ "message": "Invalid ticket" })));
        assert!(connect(&base, &after).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_log_of_revocations_nobody_gets_in() {
    for stack in Stack::both().await {
        let kept = stack.path_of(&user_of(&stack.tenant)).await;
        let broker = stack.test.engines.client.urls().get(Service::DataBroker).unwrap();
        stack.test.engines.client.urls().set(Service::DataBroker, "http://127.0.0.1:9");
        let base = stack.another().await;
        assert_eq!(connect(&base, &kept).await.unwrap_err().0, StatusCode::SERVICE_UNAVAILABLE);
        stack.test.engines.client.urls().set(Service::DataBroker, broker);
        eventually("the ticket, which was not spent, is good", async || connect(&base, &kept).await.ok())
            .await;
    }
}
