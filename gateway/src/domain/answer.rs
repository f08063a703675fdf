//! Reads the answers of services: head, then body. Strict about where an answer ends, because the next one begins there.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use bytes::{Bytes, BytesMut};
use httparse::Status;
use smallvec::SmallVec;

use super::framing;

/// Longest head of an answer, with the interim answers before it.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Most headers of an answer.
const MAX_HEADERS: usize = 100;
/// Longest line that begins a chunk, and longest trailers.
const MAX_LINE_BYTES: usize = 4 * 1024;

/// Why an answer cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadAnswer {
    #[error("it is no HTTP")]
    Syntax(#[from] httparse::Error),
    #[error("its head is too long")]
    TooLong,
    #[error("it has more than one length")]
    Length,
    #[error("only one transfer encoding is accepted: chunked")]
    TransferEncoding,
    #[error("a chunk does not end where it should")]
    Chunk,
    #[error("it ended too early")]
    BrokenOff,
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Decoder,
    /// Whether the service lets the connection be used again.
    pub(crate) keeps_connection: bool,
}

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// So many bytes; 0 is the end.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// Everything until the connection is closed.
    UntilClose,
}

/// What comes next of a body in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunk {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
}

/// Where a name or a value is.
type Place = std::ops::Range<usize>;

/// Reads the head of one answer as it arrives. Interim answers are left out, but not a switch of protocols.
pub(crate) struct HeadReader {
    /// Whether a HEAD request is answered: answers to it have no body.
    to_head: bool,
    /// So many bytes may come yet.
    left: usize,
    /// So many bytes of the buffer have been looked at, and did not suffice.
    seen: usize,
}

impl HeadReader {
    pub(crate) fn new(to_head: bool) -> Self {
        Self { to_head, left: MAX_HEAD_BYTES, seen: 0 }
    }

    /// Takes the head off the front of what has been read; `None` while it is incomplete.
    pub(crate) fn read(&mut self, buffer: &mut BytesMut) -> Result<Option<Head>, BadAnswer> {
        loop {
            let before = buffer.len();
            let parsed = if self.may_suffice(buffer) { parse(buffer)? } else { None };
            let length = if parsed.is_some() { before - buffer.len() } else { before };
            if length > self.left {
                return Err(BadAnswer::TooLong);
            }
            let Some((status, version, headers)) = parsed else {
                self.seen = before;
                return Ok(None);
            };
            if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                self.left -= length;
                self.seen = 0;
                continue;
            }
            let body = decoder(status, version, &headers, self.to_head)?;
            let keeps_connection =
                version == Version::HTTP_11 && body != Decoder::UntilClose && lets_live(status, &headers);
            return Ok(Some(Head { status, headers, body, keeps_connection }));
        }
    }

    /// Whether there is another line. A head has only so many, so one that drips is not parsed again for every byte.
    fn may_suffice(&self, buffer: &[u8]) -> bool {
        self.seen == 0 || buffer.get(self.seen..).is_some_and(|new| new.contains(&b'\n'))
    }
}

/// Whether a service lets the connection be used again. One that announces a body where there is none may send it.
fn lets_live(status: StatusCode, headers: &HeaderMap) -> bool {
    let says_close =
        framing::tokens(headers, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case("close"));
    let may_have_body = status == StatusCode::NO_CONTENT
        && (headers.contains_key(header::TRANSFER_ENCODING)
            || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0"));
    !says_close && !may_have_body
}

fn parse(buffer: &mut BytesMut) -> Result<Option<(StatusCode, Version, HeaderMap)>, BadAnswer> {
    // The parser would skip empty lines.
    if matches!(buffer.first(), Some(b'\r' | b'\n')) {
        return Err(httparse::Error::NewLine.into());
    }
    let mut room = [const { std::mem::MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        buffer,
        &mut room,
    )?;
    let Status::Complete(length) = parsed else { return Ok(None) };
    let status =
        response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(httparse::Error::Status)?;
    let version = if response.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let base = buffer.as_ptr() as usize;
    let place = |part: &[u8]| {
        let start = part.as_ptr() as usize - base;
        start..start + part.len()
    };
    let places: SmallVec<[(Place, Place); 16]> =
        response.headers.iter().map(|header| (place(header.name.as_bytes()), place(header.value))).collect();
    let head = buffer.split_to(length).freeze();
    let mut headers = HeaderMap::with_capacity(places.len());
    for (name, value) in places {
        let name = HeaderName::from_bytes(&head[name]).map_err(|_| httparse::Error::HeaderName)?;
        // Shares the bytes of the head.
        let value =
            HeaderValue::from_maybe_shared(head.slice(value)).map_err(|_| httparse::Error::HeaderValue)?;
        headers.append(name, value);
    }
    Ok(Some((status, version, headers)))
}

/// Where the body of an answer ends (RFC 9112, 6.3). What leaves room for two opinions is refused.
fn decoder(
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
    to_head: bool,
) -> Result<Decoder, BadAnswer> {
    let encoding =
        framing::only(headers, &header::TRANSFER_ENCODING).map_err(|()| BadAnswer::TransferEncoding)?;
    let length = framing::only(headers, &header::CONTENT_LENGTH).map_err(|()| BadAnswer::Length)?;
    let length = length.map(|length| digits(length).ok_or(BadAnswer::Length)).transpose()?;
    if let Some(encoding) = encoding {
        let is_chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !is_chunked || version != Version::HTTP_11 || length.is_some() {
            return Err(BadAnswer::TransferEncoding);
        }
    }
    let has_none = to_head
        || matches!(
            status,
            StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    Ok(match (encoding, length) {
        _ if has_none => Decoder::Length(0),
        (Some(_), _) => Decoder::Chunked(Chunk::Size),
        (None, Some(length)) => Decoder::Length(length),
        (None, None) => Decoder::UntilClose,
    })
}

/// A number without a sign or anything else.
fn digits(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl Decoder {
    /// Whether everything has been taken.
    pub(crate) fn is_done(&self) -> bool {
        *self == Self::Length(0)
    }

    /// Takes what there is of the body off the front of what has been read; `None` when there is nothing of it, because it
    /// is done or more has to be read.
    pub(crate) fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, BadAnswer> {
        loop {
            match self {
                Self::Length(left) => return Ok(take(left, buffer)),
                Self::UntilClose => return Ok((!buffer.is_empty()).then(|| buffer.split().freeze())),
                Self::Chunked(chunk) => match chunk {
                    Chunk::Size => match chunk_size(buffer)? {
                        Some((line, size)) => {
                            let _ = buffer.split_to(line);
                            *chunk = if size == 0 { Chunk::Trailers } else { Chunk::Data(size) };
                        }
                        None => return Ok(None),
                    },
                    Chunk::Data(left) => {
                        let data = take(left, buffer);
                        if *left == 0 {
                            *chunk = Chunk::DataEnd;
                        }
                        return Ok(data);
                    }
                    Chunk::DataEnd => match &buffer[..] {
                        [b'\r', b'\n', ..] => {
                            let _ = buffer.split_to(2);
                            *chunk = Chunk::Size;
                        }
                        [] | [b'\r'] => return Ok(None),
                        _ => return Err(BadAnswer::Chunk),
                    },
                    // They belong to this connection, and nobody has asked for any.
                    Chunk::Trailers => match trailers(buffer)? {
                        Some(length) => {
                            let _ = buffer.split_to(length);
                            *self = Self::Length(0);
                        }
                        None => return Ok(None),
                    },
                },
            }
        }
    }
}

/// As many bytes as are left and there.
fn take(left: &mut u64, buffer: &mut BytesMut) -> Option<Bytes> {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= count as u64;
    (count > 0).then(|| buffer.split_to(count).freeze())
}

/// How long the line is that begins a chunk, and the chunk; `None` while the line is incomplete.
fn chunk_size(buffer: &[u8]) -> Result<Option<(usize, u64)>, BadAnswer> {
    // The parser takes a line without a digit for a 0.
    if buffer.first().is_some_and(|first| !first.is_ascii_hexdigit()) {
        return Err(BadAnswer::Chunk);
    }
    let may_be = &buffer[..buffer.len().min(MAX_LINE_BYTES)];
    match httparse::parse_chunk_size(may_be) {
        // Others would end an extension at any line feed.
        Ok(Status::Complete((line, _))) if may_be[..line - 1].contains(&b'\n') => Err(BadAnswer::Chunk),
        Ok(Status::Complete(found)) => Ok(Some(found)),
        Ok(Status::Partial) if may_be.len() < MAX_LINE_BYTES => Ok(None),
        Ok(Status::Partial) | Err(_) => Err(BadAnswer::Chunk),
    }
}

/// How long the trailers are, with the empty line at their end; `None` while they are incomplete.
fn trailers(buffer: &[u8]) -> Result<Option<usize>, BadAnswer> {
    let may_be = &buffer[..buffer.len().min(MAX_LINE_BYTES)];
    let mut room = [httparse::EMPTY_HEADER; MAX_HEADERS];
    match httparse::parse_headers(may_be, &mut room) {
        Ok(Status::Complete((length, _))) => Ok(Some(length)),
        Ok(Status::Partial) if may_be.len() < MAX_LINE_BYTES => Ok(None),
        Ok(Status::Partial) | Err(_) => Err(BadAnswer::Chunk),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an answer that arrives in pieces of `step` bytes: status, body, what is left over.
    fn read(text: &str, step: usize) -> Result<(u16, String, String, bool), BadAnswer> {
        let mut buffer = BytesMut::new();
        let mut pieces = text.as_bytes().chunks(step);
        let mut reader = HeadReader::new(false);
        let head = loop {
            if let Some(head) = reader.read(&mut buffer)? {
                break head;
            }
            buffer.extend_from_slice(pieces.next().ok_or(BadAnswer::BrokenOff)?);
        };
        let (mut decoder, mut body) = (head.body, Vec::new());
        loop {
            while let Some(data) = decoder.take(&mut buffer)? {
                body.extend_from_slice(&data);
            }
            if decoder.is_done() {
                break;
            }
            match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None if decoder == Decoder::UntilClose => break,
                None => return Err(BadAnswer::BrokenOff),
            }
        }
        for piece in pieces {
            buffer.extend_from_slice(piece);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((head.status.as_u16(), text(&body), text(&buffer), head.keeps_connection))
    }

    #[test]
    fn an_answer_is_the_same_in_whatever_pieces_it_arrives() {
        for (answer, status, body, rest, keeps) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP", 200, "ok", "HTTP", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "", "", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Close\r\n\r\nok", 200, "ok", "", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", "", false),
            ("HTTP/1.1 200\r\n\r\nuntil the end", 200, "until the end", "", false),
            ("HTTP/1.1 204 No Content\r\n\r\nX", 204, "", "X", true),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, "", "", true),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 1\r\n\r\nX", 204, "", "X", false),
            ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0", 204, "", "0", false),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", 304, "", "", true),
            ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01x", 101, "", "\x01x", true),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\
              Content-Length: 1\r\n\r\nx",
                200,
                "x",
                "",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\no\r\nA;x=y\r\n0123456789\r\n0\r\n\r\nX",
                200,
                "o0123456789",
                "X",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\nC: d\r\n\r\nX",
                200,
                "",
                "X",
                true,
            ),
        ] {
            for step in [1, 2, 3, 7, 1000] {
                let read = read(answer, step);
                assert_eq!(read, Ok((status, body.into(), rest.into(), keeps)), "{step} {answer}");
            }
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let ok = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}");
        let chunked = |rest: &str| ok(&format!("Transfer-Encoding: chunked\r\n\r\n{rest}"));
        let long = "x".repeat(MAX_LINE_BYTES + 1);
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        for (answer, expected) in [
            ("SSH-2.0-OpenSSH\r\n".to_owned(), Some(BadAnswer::Syntax(httparse::Error::Version))),
            ("HTTP/1.1 2x0 OK\r\n\r\n".to_owned(), Some(BadAnswer::Syntax(httparse::Error::Status))),
            (ok("A b: c\r\n\r\n"), Some(BadAnswer::Syntax(httparse::Error::HeaderName))),
            (ok("A: b\r\n c\r\n\r\n"), Some(BadAnswer::Syntax(httparse::Error::HeaderName))),
            (ok("A: \0\r\n\r\n"), Some(BadAnswer::Syntax(httparse::Error::HeaderValue))),
            (
                ok(&"A: b\r\n".repeat(MAX_HEADERS + 1)),
                Some(BadAnswer::Syntax(httparse::Error::TooManyHeaders)),
            ),
            (ok(&format!("A: {}", "x".repeat(MAX_HEAD_BYTES))), Some(BadAnswer::TooLong)),
            (ok("Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"), Some(BadAnswer::Length)),
            (ok("Content-Length: 1, 1\r\n\r\nx"), Some(BadAnswer::Length)),
            (ok("Content-Length: +1\r\n\r\nx"), Some(BadAnswer::Length)),
            (ok("Content-Length: \r\n\r\nx"), Some(BadAnswer::Length)),
            (ok("Content-Length: 99999999999999999999\r\n\r\nx"), Some(BadAnswer::Length)),
            (ok("Transfer-Encoding: gzip, chunked\r\n\r\n"), Some(BadAnswer::TransferEncoding)),
            (ok("Transfer-Encoding: identity\r\n\r\n"), Some(BadAnswer::TransferEncoding)),
            (
                ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
                Some(BadAnswer::TransferEncoding),
            ),
            (
                ok("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
                Some(BadAnswer::TransferEncoding),
            ),
            (
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
                Some(BadAnswer::TransferEncoding),
            ),
            (ok("Transfer-Encoding: chunked\r\n\r\nx\r\n"), Some(BadAnswer::Chunk)),
            (ok("Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n"), Some(BadAnswer::Chunk)),
            (ok("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"), Some(BadAnswer::Chunk)),
            (ok(&format!("Transfer-Encoding: chunked\r\n\r\n1;{long}")), Some(BadAnswer::Chunk)),
            (ok(&format!("Transfer-Encoding: chunked\r\n\r\n0\r\nA: {long}")), Some(BadAnswer::Chunk)),
            (chunked(&format!("1;{long}\r\nx\r\n0\r\n\r\n")), Some(BadAnswer::Chunk)),
            (chunked(&format!("0\r\nA: {long}\r\n\r\n")), Some(BadAnswer::Chunk)),
            (chunked("\r\n\r\n"), Some(BadAnswer::Chunk)),
            (chunked(" \r\n\r\n"), Some(BadAnswer::Chunk)),
            (chunked(";a\r\n\r\n"), Some(BadAnswer::Chunk)),
            (chunked("1;a\nb\r\nx\r\n0\r\n\r\n"), Some(BadAnswer::Chunk)),
            ("\r\nHTTP/1.1 204\r\n\r\n".to_owned(), Some(BadAnswer::Syntax(httparse::Error::NewLine))),
            (format!("{interim}\n"), Some(BadAnswer::Syntax(httparse::Error::NewLine))),
            (ok(&format!("A: {}\r\n\r\n", "x".repeat(MAX_HEAD_BYTES))), Some(BadAnswer::TooLong)),
            (interim.repeat(MAX_HEAD_BYTES / interim.len() + 1), Some(BadAnswer::TooLong)),
            (ok("Transfer-Encoding: chunked\r\n\r\n2\r\na"), Some(BadAnswer::BrokenOff)),
            (ok("Content-Length: 3\r\n\r\nab"), Some(BadAnswer::BrokenOff)),
            (ok("Content-Length: 3\r\n"), Some(BadAnswer::BrokenOff)),
        ] {
            for step in [1, 5, 100_000] {
                assert_eq!(read(&answer, step).err(), expected, "{step} {answer:.200}");
            }
        }
    }

    #[test]
    fn an_answer_to_head_has_a_length_and_no_body() {
        let mut buffer = BytesMut::from(&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP"[..]);
        let head = HeadReader::new(true).read(&mut buffer).unwrap().unwrap();
        assert!(head.body.is_done() && head.keeps_connection && head.headers[header::CONTENT_LENGTH] == "5");
        assert_eq!(&buffer[..], b"HTTP");
    }

    #[test]
    fn a_head_is_looked_at_again_for_every_line_but_not_for_every_byte() {
        let (mut reader, mut buffer) = (HeadReader::new(false), BytesMut::new());
        for (piece, is_news) in [
            ("HTTP/1.1 20", true),
            ("4 No", false),
            (" Content", false),
            ("\r\nA: b\r\nC", true),
            ("D: ", false),
            ("\r", false),
        ] {
            buffer.extend_from_slice(piece.as_bytes());
            assert_eq!(reader.may_suffice(&buffer), is_news, "{piece}");
            assert!(reader.read(&mut buffer).unwrap().is_none(), "{piece}");
        }
        buffer.extend_from_slice(b"\n\r\n");
        assert_eq!(reader.read(&mut buffer).unwrap().unwrap().status, 204);
    }
}
