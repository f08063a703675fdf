//! Bodies that nobody has read to their end. A connection that is closed while the other side still sends takes the answer
//! with it: the gateway would say 502 where a service has said 413, 405 or 404.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::header,
    middleware::Next,
    response::Response,
};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

/// How long an answer waits for the rest of its request.
const PATIENCE: Duration = Duration::from_secs(1);

/// Middleware: reads what is left of a body, `most` bytes of it, before the answer goes out.
pub(crate) async fn read_rest(most: usize, request: Request, next: Next) -> Response {
    // Who waits for being told to send is not told to.
    if request.body().is_end_stream() || request.headers().contains_key(header::EXPECT) {
        return next.run(request).await;
    }
    let left = Left::default();
    let answer = next.run(request.map(|body| Body::new(Watched { body, left: left.clone() }))).await;
    if let Some(rest) = left.take() {
        let _ = tokio::time::timeout(PATIENCE, discard(rest, most)).await;
    }
    answer
}

async fn discard(mut body: Body, most: usize) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > most {
            return;
        }
    }
}

/// Where a body comes when nobody wants more of it.
#[derive(Clone, Default)]
struct Left(Arc<Mutex<Option<Body>>>);

impl Left {
    fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A body that is not lost when its reader drops it.
struct Watched {
    body: Body,
    left: Left,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            let rest = std::mem::take(&mut self.body);
            *self.left.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, middleware, routing::post};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    async fn serve(most: usize) -> TcpStream {
        let router = Router::new()
            .route("/refuse", post(async || StatusCode::CONFLICT))
            .layer(middleware::from_fn(move |request, next| read_rest(most, request, next)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "ends with the test")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        TcpStream::connect(address).await.unwrap()
    }

    async fn send(stream: &mut TcpStream, path: &str, body: &[u8]) {
        let head = format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
    }

    async fn status(stream: &mut TcpStream) -> String {
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).split(' ').nth(1).unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn the_connection_is_good_after_an_answer_that_needed_no_body() {
        let mut stream = serve(8 << 20).await;
        for (path, expected) in [("/refuse", "409"), ("/nowhere", "404"), ("/refuse", "409")] {
            send(&mut stream, path, &vec![b'x'; 4 << 20]).await;
            assert_eq!(status(&mut stream).await, expected);
        }
    }

    #[tokio::test]
    async fn nobody_is_waited_for_who_does_not_send() {
        let mut stream = serve(8 << 20).await;
        stream.write_all(b"POST /refuse HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\nx").await.unwrap();
        assert_eq!(status(&mut stream).await, "409");
    }
}
