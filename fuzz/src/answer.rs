//! Answers of services are the same in whatever pieces they arrive, and what a naive reader sees. The first line of the input
//! is the method that is answered, with the sizes of the pieces: `GET 1 20 3`. The rest is the answer, and what comes after
//! it.

use axum::http::{HeaderMap, HeaderValue};
use bytes::BytesMut;

use crate::gateway::answer::{BadAnswer, Decoder, Head, HeadReader};

/// Longer answers may be too long at different moments.
const MAX_BYTES: usize = 32 * 1024;

/// What was read, and what is left or why it ended.
#[derive(Debug, PartialEq)]
struct Read {
    /// Status, headers, and whether the connection can be used again.
    head: Option<(u16, HeaderMap, bool)>,
    body: Vec<u8>,
    end: Result<Vec<u8>, BadAnswer>,
}

/// Checks one input.
pub fn check(data: &[u8]) {
    let (line, answer) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len()));
    let answer = answer.strip_prefix(b"\n").unwrap_or_default();
    if answer.len() > MAX_BYTES {
        return;
    }
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let to_head = words.next() == Some("HEAD");
    let sizes: Vec<usize> = words.filter_map(|word| word.parse().ok()).filter(|size| *size > 0).collect();

    let whole = read(&[answer], to_head);
    let mut pieces = Vec::new();
    let (mut left, mut sizes) = (answer, sizes.iter().cycle());
    while !left.is_empty() {
        let size = sizes.next().copied().unwrap_or(1);
        let (piece, rest) = left.split_at(size.min(left.len()));
        pieces.push(piece);
        left = rest;
    }
    let in_pieces = read(&pieces, to_head);
    // A line of a head is looked at when it has ended.
    let is_unfinished = matches!(whole.end, Err(BadAnswer::Syntax(_)))
        && in_pieces.end == Err(BadAnswer::BrokenOff)
        && !answer.ends_with(b"\n");
    assert!(in_pieces == whole || is_unfinished, "{in_pieces:?} is not {whole:?}");

    if let (Some(head), Ok(rest)) = (&whole.head, &whole.end) {
        let naive = naive(answer, to_head);
        assert_eq!((head.0, &whole.body[..], &rest[..]), (naive.status, &naive.body[..], naive.rest));
        assert_eq!(head.1.len(), naive.headers.len());
        for name in head.1.keys() {
            let values: Vec<&[u8]> = head.1.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            assert_eq!(values, naive.values(name.as_str()), "{name}");
        }
        assert!(!head.2 || naive.may_be_kept, "a connection is used again");
    }
}

fn read(pieces: &[&[u8]], to_head: bool) -> Read {
    let (mut head, mut body) = (None, Vec::new());
    let end = read_into(pieces, to_head, &mut head, &mut body);
    Read { head, body, end }
}

fn read_into(
    pieces: &[&[u8]],
    to_head: bool,
    head: &mut Option<(u16, HeaderMap, bool)>,
    body: &mut Vec<u8>,
) -> Result<Vec<u8>, BadAnswer> {
    let (mut pieces, mut buffer) = (pieces.iter(), BytesMut::new());
    let mut heads = HeadReader::new(to_head);
    let Head { status, headers, body: mut decoder, keeps_connection } = loop {
        if let Some(head) = heads.read(&mut buffer)? {
            break head;
        }
        buffer.extend_from_slice(pieces.next().ok_or(BadAnswer::BrokenOff)?);
    };
    *head = Some((status.as_u16(), headers, keeps_connection));
    loop {
        while let Some(data) = decoder.take(&mut buffer)? {
            assert!(!data.is_empty());
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
    Ok([&buffer[..], &pieces.copied().collect::<Vec<_>>().concat()].concat())
}

/// Names in lower case, and values.
type NaiveHeaders<'a> = Vec<(String, &'a [u8])>;

/// What a naive reader sees. It takes every answer for a good one.
struct Naive<'a> {
    status: u16,
    headers: NaiveHeaders<'a>,
    body: Vec<u8>,
    rest: &'a [u8],
    may_be_kept: bool,
}

impl Naive<'_> {
    fn values(&self, name: &str) -> Vec<&[u8]> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| *value).collect()
    }
}

fn naive(answer: &[u8], to_head: bool) -> Naive<'_> {
    let (first, headers, rest) = naive_head(answer);
    let status: u16 = str::from_utf8(&first[9..12]).unwrap().parse().unwrap();
    if status < 200 && status != 101 {
        return naive(rest, to_head);
    }
    let is_new = first.starts_with(b"HTTP/1.1");
    let mut naive = Naive { status, headers, body: Vec::new(), rest, may_be_kept: is_new };
    let lengths = naive.values("content-length");
    let length = lengths.first().map(|length| str::from_utf8(length).unwrap().parse::<usize>());
    let encodings = naive.values("transfer-encoding").join(&b',').to_ascii_lowercase();
    let is_chunked = !encodings.is_empty();
    assert!(lengths.len() + usize::from(is_chunked) <= 1, "it ends in two places");
    assert!(!is_chunked || (is_new && encodings == b"chunked"), "{encodings:?}");
    let closes = naive.values("connection").join(&b',').to_ascii_lowercase();
    let closes = closes.split(|byte| *byte == b',').any(|token| token.trim_ascii() == b"close");
    naive.may_be_kept &= !closes;
    if to_head || [101, 204, 304].contains(&status) {
    } else if is_chunked {
        (naive.body, naive.rest) = naive_chunks(rest);
    } else if let Some(length) = length {
        let (body, rest) = rest.split_at(length.unwrap());
        (naive.body, naive.rest) = (body.to_vec(), rest);
    } else {
        (naive.body, naive.rest, naive.may_be_kept) = (rest.to_vec(), b"", false);
    }
    naive
}

/// The first line, the headers, and what comes after the empty line.
fn naive_head(mut text: &[u8]) -> (&[u8], NaiveHeaders<'_>, &[u8]) {
    let mut next = || {
        let (line, rest) = text.split_at(text.iter().position(|byte| *byte == b'\n').unwrap() + 1);
        text = rest;
        line.trim_ascii_end()
    };
    let first = next();
    let mut headers = Vec::new();
    loop {
        let line = next();
        if line.is_empty() {
            return (first, headers, text);
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap();
        let name = str::from_utf8(&line[..colon]).unwrap().to_ascii_lowercase();
        headers.push((name, line[colon + 1..].trim_ascii()));
    }
}

fn naive_chunks(mut text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut body = Vec::new();
    loop {
        let end = text.windows(2).position(|window| window == b"\r\n").unwrap();
        let (line, rest) = (&text[..end], &text[end + 2..]);
        let size = line.split(|byte| b"; \t".contains(byte)).next().unwrap();
        assert!(!size.is_empty() && !line.contains(&b'\n'), "{line:?}");
        let size = usize::from_str_radix(str::from_utf8(size).unwrap(), 16).unwrap();
        if size == 0 {
            let with_line = &text[end..];
            return (body, naive_head(with_line).2);
        }
        body.extend_from_slice(&rest[..size]);
        text = rest[size..].strip_prefix(b"\r\n").unwrap();
    }
}
