//! How records lie in a batch.
//!
//! A batch is the unit that SQLite stores: the records that one commit appended to one topic, one after the other.
//! Numbers are little-endian. A record is
//!
//! ```text
//! length of the rest: u32, timestamp: i64, key: length u32 (MAX for none) and bytes,
//! headers: count u8, then for each: name length u8, name, value length u32, value,
//! value: what is left
//! ```

use bytes::{Buf, BufMut, Bytes};
use smallvec::SmallVec;

use crate::{
    engine::event_log::{LogError, NewRecord, Record},
    wire::Topic,
};

/// Records of one topic with consecutive offsets, as SQLite stores them. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    /// Offset of the first record.
    pub(super) base: i64,
    /// Offset of the last record.
    pub(super) last: i64,
    /// The latest timestamp.
    pub(super) max_ts: i64,
    /// The records.
    pub(super) records: Bytes,
}

const LENGTH: usize = size_of::<u32>();
const NO_KEY: u32 = u32::MAX;

/// Bytes that a record takes in a batch.
pub(super) fn encoded_len(record: &NewRecord) -> usize {
    let headers: usize =
        record.headers.iter().map(|(name, value)| 1 + name.len() + LENGTH + value.len()).sum();
    let key = record.key.as_ref().map_or(0, Bytes::len);
    LENGTH + size_of::<i64>() + LENGTH + key + 1 + headers + record.value.len()
}

/// Whether the counts and lengths of the headers fit.
pub(super) fn is_encodable(record: &NewRecord) -> bool {
    let max = usize::from(u8::MAX);
    record.headers.len() <= max && record.headers.iter().all(|(name, _)| name.len() <= max)
}

/// Appends a record to a batch.
pub(super) fn encode(record: &NewRecord, timestamp_ms: i64, batch: &mut Vec<u8>) {
    batch.put_u32_le((encoded_len(record) - LENGTH) as u32);
    batch.put_i64_le(timestamp_ms);
    match &record.key {
        Some(key) => {
            batch.put_u32_le(key.len() as u32);
            batch.put_slice(key);
        }
        None => batch.put_u32_le(NO_KEY),
    }
    batch.put_u8(record.headers.len() as u8);
    for (name, value) in &record.headers {
        batch.put_u8(name.len() as u8);
        batch.put_slice(name.as_bytes());
        batch.put_u32_le(value.len() as u32);
        batch.put_slice(value);
    }
    batch.put_slice(&record.value);
}

/// Reads the records of a batch one by one. What it returns shares the memory of the batch.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    rest: Bytes,
    next: i64,
}

impl Decoder {
    /// Begins with the first record.
    pub(super) fn new(batch: Batch) -> Self {
        Self { rest: batch.records, next: batch.base }
    }

    /// Offset of the record that comes next.
    pub(super) fn next_offset(&self) -> i64 {
        self.next
    }

    /// Whether no record is left.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Goes on to the record at `offset`.
    pub(super) fn skip_to(&mut self, offset: i64) -> Result<(), LogError> {
        while self.next < offset && !self.is_empty() {
            self.take()?;
        }
        Ok(())
    }

    /// Goes on to the first record that is not older than `timestamp_ms`.
    pub(super) fn skip_older(&mut self, timestamp_ms: i64) -> Result<(), LogError> {
        while !self.is_empty() {
            let mut ahead = self.clone();
            if ahead.take()?.try_get_i64_le().map_err(|_| damaged())? >= timestamp_ms {
                break;
            }
            *self = ahead;
        }
        Ok(())
    }

    /// The next record.
    pub(super) fn read(&mut self, topic: &Topic) -> Result<Record, LogError> {
        let offset = self.next;
        let mut fields = self.take()?;
        let timestamp_ms = fields.try_get_i64_le().map_err(|_| damaged())?;
        let key = match fields.try_get_u32_le().map_err(|_| damaged())? {
            NO_KEY => None,
            length => Some(split(&mut fields, length as usize)?),
        };
        let mut headers = SmallVec::new();
        for _ in 0..fields.try_get_u8().map_err(|_| damaged())? {
            let length = fields.try_get_u8().map_err(|_| damaged())?;
            let name = split(&mut fields, usize::from(length))?;
            let name = std::str::from_utf8(&name).map_err(|_| damaged())?.into();
            let length = fields.try_get_u32_le().map_err(|_| damaged())?;
            headers.push((name, split(&mut fields, length as usize)?));
        }
        Ok(Record { topic: topic.clone(), partition: 0, offset, timestamp_ms, key, value: fields, headers })
    }

    /// The bytes of the next record after its length.
    fn take(&mut self) -> Result<Bytes, LogError> {
        let length = self.rest.try_get_u32_le().map_err(|_| damaged())?;
        let record = split(&mut self.rest, length as usize)?;
        self.next += 1;
        Ok(record)
    }
}

fn split(bytes: &mut Bytes, length: usize) -> Result<Bytes, LogError> {
    if length <= bytes.len() { Ok(bytes.split_to(length)) } else { Err(damaged()) }
}

fn damaged() -> LogError {
    LogError::Failed("a stored batch is damaged".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: Option<&'static str>, headers: &[(&'static str, &'static str)]) -> NewRecord {
        NewRecord {
            topic: Topic::parse("admin.device-data").unwrap(),
            key: key.map(Bytes::from),
            value: Bytes::from_static(b"{\"t\":20}"),
            headers: headers.iter().map(|(name, value)| (*name, Bytes::from(*value))).collect(),
        }
    }

    fn batch_of(records: &[NewRecord]) -> Batch {
        let mut bytes = Vec::new();
        for (n, record) in records.iter().enumerate() {
            encode(record, 1000 + n as i64, &mut bytes);
        }
        Batch { base: 7, last: 6 + records.len() as i64, max_ts: 1001, records: bytes.into() }
    }

    #[test]
    fn records_are_read_back_as_they_were_written() {
        let written =
            [record(None, &[]), record(Some(""), &[("a", "")]), record(Some("k"), &[("a", "b"), ("c", "d")])];
        let lengths: usize = written.iter().map(encoded_len).sum();
        let batch = batch_of(&written);
        assert_eq!(batch.records.len(), lengths);
        let mut decoder = Decoder::new(batch);
        for (n, written) in written.iter().enumerate() {
            let read = decoder.read(&written.topic).unwrap();
            assert_eq!((read.offset, read.timestamp_ms), (7 + n as i64, 1000 + n as i64));
            assert_eq!((&read.key, &read.value), (&written.key, &written.value));
            assert_eq!(read.headers.len(), written.headers.len());
            for (name, value) in &written.headers {
                assert_eq!(read.header(name), Some(value));
            }
        }
        assert!(decoder.is_empty());
    }

    #[test]
    fn a_decoder_goes_to_an_offset_or_a_time() {
        let batch = batch_of(&[record(None, &[]), record(Some("k"), &[]), record(None, &[])]);
        let mut by_offset = Decoder::new(batch.clone());
        by_offset.skip_to(9).unwrap();
        assert_eq!(by_offset.next_offset(), 9);
        let mut by_time = Decoder::new(batch);
        by_time.skip_older(1001).unwrap();
        assert_eq!(by_time.next_offset(), 8);
        by_time.skip_older(5000).unwrap();
        assert!(by_time.is_empty());
    }

    #[test]
    fn damaged_bytes_are_an_error_and_never_a_panic() {
        let batch = batch_of(&[record(Some("key"), &[("name", "value")])]);
        for length in 1..batch.records.len() {
            let cut = Batch { records: batch.records.slice(..length), ..batch.clone() };
            assert!(Decoder::new(cut.clone()).read(&record(None, &[]).topic).is_err(), "{length}");
            assert!(Decoder::new(cut).skip_older(i64::MAX).is_err(), "{length}");
        }
    }
}
