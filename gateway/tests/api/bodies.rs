//! Bodies that break off, are malformed, or that nobody wants.

use tokio::io::AsyncWriteExt;

use crate::support::{Connection, Stack, is_announced, status_of};

const TOKEN: &str = "Authorization: Bearer good\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_body_is_the_fault_of_the_client() {
    let head = format!("POST /device HTTP/1.1\r\nHost: t\r\n{TOKEN}Transfer-Encoding: chunked\r\n\r\n");
    let long = format!("186a0\r\n{}\r\n", "x".repeat(100_000));
    for stack in Stack::both().await {
        for body in [
            "zz\r\n",
            "3\r\nabcX",
            "3 3\r\n",
            "fffffffffffffffff\r\n",
            "3\r\nabc\r\n0\r\nbad trailer\r\n\r\n",
        ] {
            for before in ["", "1\r\na\r\n", &long] {
                let mut connection = Connection::to(&stack).await;
                connection.write(&format!("{head}{before}{body}")).await;
                let (head, answer) = connection.answer().await;
                assert_eq!(status_of(&head), 400, "{body:?}: {head}");
                assert_eq!(answer, r#"{"message":"malformed chunked body"}"#, "{body:?}");
                assert!(is_announced(&head), "{head}");
                assert!(connection.closes().await, "{body:?}");
            }
        }
        assert_eq!(stack.fake.seen().len(), 0, "no service takes it for a whole body");
        assert_eq!(stack.get("/device").await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_the_fault_of_the_client() {
    for stack in Stack::both().await {
        for framing in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n5\r\nabc"] {
            let mut connection = Connection::to(&stack).await;
            connection.write(&format!("POST /device HTTP/1.1\r\nHost: t\r\n{TOKEN}{framing}")).await;
            // It says that it will send no more, and listens still: who hangs up hears no answer.
            connection.stream.shutdown().await.unwrap();
            let (head, body) = connection.answer().await;
            assert_eq!(status_of(&head), 400, "{head}");
            assert_eq!(body, r#"{"message":"the body ended too early"}"#);
        }
        assert_eq!(stack.fake.seen().len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_goes_on_after_a_refused_request_with_a_small_body() {
    let denied = "Authorization: Bearer denied\r\n";
    for stack in Stack::both().await {
        let mut connection = Connection::to(&stack).await;
        for (target, headers, expected) in [
            ("PUT /device/1", "", 401),
            ("POST /device", denied, 403),
            ("POST /nowhere", TOKEN, 404),
            ("POST /device/%2f", TOKEN, 400),
            ("POST /auth/revoke", TOKEN, 403),
        ] {
            let long = "x".repeat(60_000);
            let chunk = format!("{:x}\r\n{long}\r\n", long.len());
            for (framing, body) in [
                ("Content-Length: 3\r\n", "abc".to_owned()),
                ("Content-Length: 60000\r\n", long),
                ("Transfer-Encoding: chunked\r\n", format!("{chunk}0\r\n\r\n")),
            ] {
                connection.write(&format!("{target} HTTP/1.1\r\nHost: t\r\n{headers}{framing}\r\n")).await;
                // In two halves, so that there is something to wait for.
                let (first, second) = body.split_at(body.len() / 2);
                connection.write(first).await;
                tokio::task::yield_now().await;
                connection.write(second).await;
                let (head, _) = connection.answer().await;
                assert_eq!(status_of(&head), expected, "{target}: {head}");
                assert!(!is_announced(&head), "{target} {framing}: {head}");
            }
        }
        connection.write(&format!("GET /device HTTP/1.1\r\nHost: t\r\n{TOKEN}\r\n")).await;
        assert_eq!(status_of(&connection.answer().await.0), 200);
        assert_eq!(stack.fake.seen().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_with_a_refusal_says_so() {
    for stack in Stack::both().await {
        for headers in [
            // More than is read for nothing.
            "Content-Length: 1000000\r\n",
            // The body does not come.
            "Content-Length: 3\r\n",
            "Transfer-Encoding: chunked\r\n",
            // The client waits for being told to send it.
            "Content-Length: 3\r\nExpect: 100-continue\r\n",
        ] {
            let mut connection = Connection::to(&stack).await;
            connection.write(&format!("PUT /device HTTP/1.1\r\nHost: t\r\n{headers}\r\n")).await;
            let (head, _) = connection.answer().await;
            assert_eq!(status_of(&head), 401, "{headers}: {head}");
            assert!(is_announced(&head), "{headers}: {head}");
            assert!(connection.closes().await, "{headers}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_end_of_the_body_ends_the_connection() {
    for stack in Stack::both().await {
        let mut connection = Connection::to(&stack).await;
        let head = format!("POST /device/early HTTP/1.1\r\nHost: t\r\n{TOKEN}Content-Length: 30000\r\n\r\n");
        connection.write(&head).await;
        // More than the gateway reads before it asks the service.
        connection.write(&"x".repeat(20_000)).await;
        let (head, _) = connection.answer().await;
        assert_eq!(status_of(&head), 409, "{head}");
        assert!(is_announced(&head), "{head}");
    }
}
