//! Requests whose end two servers could see in different places.

use crate::support::{Stack, status_of};

/// A second request that a server would see which believes the shorter of two lengths.
const HIDDEN: &str = "GET /device/hidden HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer good\r\n\r\n";

fn cases() -> Vec<(&'static str, String)> {
    let post = "POST /device/first HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer good\r\n";
    let old =
        "POST /device/first HTTP/1.0\r\nHost: t\r\nConnection: keep-alive\r\nAuthorization: Bearer good\r\n";
    let length = HIDDEN.len();
    let chunk = format!("0\r\n\r\n{HIDDEN}");
    vec![
        (
            "CL.TE",
            format!("{post}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}", chunk.len()),
        ),
        (
            "TE.CL",
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n{chunk}", chunk.len()),
        ),
        ("CL 0 + TE", format!("{post}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}")),
        ("two lengths", format!("{post}Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{HIDDEN}")),
        (
            "two lengths, other way",
            format!("{post}Content-Length: {length}\r\nContent-Length: 0\r\n\r\n{HIDDEN}"),
        ),
        ("length list", format!("{post}Content-Length: 0, {length}\r\n\r\n{HIDDEN}")),
        ("signed length", format!("{post}Content-Length: +{length}\r\n\r\n{HIDDEN}")),
        ("negative length", format!("{post}Content-Length: -1\r\n\r\n{HIDDEN}")),
        ("hexadecimal length", format!("{post}Content-Length: 0x0\r\n\r\n{HIDDEN}")),
        ("overlong length", format!("{post}Content-Length: 99999999999999999999999\r\n\r\n{HIDDEN}")),
        (
            "chunked twice",
            format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"),
        ),
        ("chunked, chunked", format!("{post}Transfer-Encoding: chunked, chunked\r\n\r\n{chunk}")),
        ("gzip, chunked", format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n{chunk}")),
        ("chunked, identity", format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n{chunk}")),
        ("xchunked", format!("{post}Transfer-Encoding: xchunked\r\n\r\n{chunk}")),
        ("TE with a tab before the colon", format!("{post}Transfer-Encoding\t: chunked\r\n\r\n{chunk}")),
        ("TE with a space before the colon", format!("{post}Transfer-Encoding : chunked\r\n\r\n{chunk}")),
        ("TE with a vertical tab", format!("{post}Transfer-Encoding: \x0bchunked\r\n\r\n{chunk}")),
        (
            "folded TE",
            format!("{post}X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n{HIDDEN}"),
        ),
        ("HTTP/1.0 with TE", format!("{old}Transfer-Encoding: chunked\r\n\r\n{chunk}")),
        (
            "HTTP/1.0 with TE and CL",
            format!("{old}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"),
        ),
        ("bad chunk size", format!("{post}Transfer-Encoding: chunked\r\n\r\nzz\r\n{HIDDEN}")),
        (
            "overlong chunk size",
            format!("{post}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{HIDDEN}"),
        ),
        ("chunk ends without a line", format!("{post}Transfer-Encoding: chunked\r\n\r\n1\r\nab{HIDDEN}")),
        ("two hosts", format!("{post}Host: u\r\nContent-Length: 0\r\n\r\n{HIDDEN}")),
        ("no host", format!("POST /device/first HTTP/1.1\r\nContent-Length: 0\r\n\r\n{HIDDEN}")),
        ("bare CR in a header", format!("{post}X: a\rTransfer-Encoding: chunked\r\n\r\n{chunk}")),
        ("NUL in a header", format!("{post}X: a\0b\r\nContent-Length: 0\r\n\r\n{HIDDEN}")),
        ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("HTTP/0.9", "GET /device/first\r\n\r\n".to_owned()),
        ("HTTP/3.7", format!("GET /device/first HTTP/3.7\r\nHost: t\r\n\r\n{HIDDEN}")),
        (
            "premature websocket",
            format!(
                "{post}Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"
            ),
        ),
        (
            "premature h2c",
            format!("{post}Upgrade: h2c\r\nConnection: upgrade\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_ends_in_two_places_is_the_last_of_its_connection() {
    for stack in Stack::both().await {
        for (name, bytes) in cases() {
            let before = stack.fake.seen().len();
            let answer = stack.raw(&bytes).await;
            let new = stack.fake.seen().split_off(before);
            assert!(new.iter().all(|seen| !seen.target.contains("hidden")), "{name}: {answer}");
            let answers = answer.matches("HTTP/1.").count();
            assert!(answers <= 1, "{name}: {answer}");
            let status = status_of(&answer);
            match name {
                // The HTTP implementation believes the encoding, drops the length and closes, as RFC 9112 6.3 allows.
                "CL.TE" | "TE.CL" | "CL 0 + TE" => {
                    assert!([200, 400].contains(&status), "{name}: {answer}");
                    assert!(new.iter().all(|seen| seen.body.is_empty()), "{name}");
                }
                // Not a request at all: the connection just closes.
                "HTTP/0.9" | "HTTP/2 preface" | "HTTP/3.7" => {
                    assert!([0, 400, 505].contains(&status), "{name}: {answer}");
                }
                // Noticed only after the head was forwarded: the service did not answer, and never saw a whole body.
                "bad chunk size" | "overlong chunk size" | "chunk ends without a line" => {
                    assert!([0, 400, 502].contains(&status), "{name}: {answer}");
                    assert_eq!(new.len(), 0, "{name}");
                }
                _ => {
                    assert_eq!(status, 400, "{name}: {answer}");
                    assert_eq!(new.len(), 0, "{name}");
                }
            }
        }
        assert_eq!(stack.get("/device").await, 200, "everybody else is served");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_or_too_many_are_refused() {
    for stack in Stack::both().await {
        let head = "GET /device HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer good\r\n";
        let many = "X: y\r\n".repeat(200);
        let large = format!("X: {}\r\n", "y".repeat(1 << 20));
        let long = format!("GET /device/{} HTTP/1.1\r\nHost: t\r\n\r\n", "a".repeat(1 << 20));
        for (name, bytes) in
            [("many", format!("{head}{many}\r\n")), ("large", format!("{head}{large}\r\n")), ("long", long)]
        {
            let mut stream = tokio::net::TcpStream::connect(stack.addr).await.unwrap();
            let (mut reader, mut writer) = stream.split();
            let mut answer = Vec::new();
            // The server may close while the rest is still being written.
            let (_, _) = tokio::join!(
                tokio::io::AsyncWriteExt::write_all(&mut writer, bytes.as_bytes()),
                tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut answer),
            );
            let answer = String::from_utf8_lossy(&answer);
            assert!([0, 400, 414, 431].contains(&status_of(&answer)), "{name}: {answer}");
        }
        assert_eq!(stack.fake.seen().len(), 0);
    }
}
