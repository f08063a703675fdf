//! Lists are written while they are read: neither the entries of a page nor their JSON are ever in memory as a whole, and a
//! client that does not read holds little.

use std::{collections::VecDeque, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use common::shutdown::Shutdown;
use futures_util::stream;
use tokio::sync::mpsc;
use tracing::warn;

use crate::{domain::listing::Pagination, error::Error, turns::Turn};

/// Entries that are read at a time.
const BATCH: usize = 100;
/// How much JSON is made at a time; an answer that is shorter is sent as a whole.
const CHUNK_BYTES: usize = 256 * 1024;
/// Who takes nothing for so long gets no more.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where the entries of a list come from.
pub(crate) trait Source: Send + Sync + 'static {
    /// What names an entry.
    type Id: Send + Sync + 'static;
    /// Some entries with what they need to be shown.
    type Batch: Batch;
    /// Name of the list in the answer.
    const NAME: &'static str;

    /// Reads entries, in the order of the list; those that are gone are left out.
    fn read(&self, ids: &[Self::Id]) -> impl Future<Output = Result<Self::Batch, Error>> + Send;
}

/// Entries that were read and wait to be written.
pub(crate) trait Batch: Default + Send + 'static {
    /// Writes the next one as JSON; false when there is none.
    fn write_next(&mut self, out: &mut Vec<u8>) -> serde_json::Result<bool>;
}

/// A list on its way out.
struct Writer<S: Source> {
    source: S,
    turn: Turn,
    left: VecDeque<S::Id>,
    batch: S::Batch,
    /// What comes after the entries.
    end: String,
    /// Whether an entry was written.
    has_entries: bool,
}

/// A piece of an answer, and whether it is the last.
type Piece = (Bytes, bool);

/// The answer with these entries.
pub(crate) async fn respond<S: Source>(
    source: S,
    turn: Turn,
    ids: Vec<S::Id>,
    pagination: Pagination,
    shutdown: &Shutdown,
) -> Result<Response, Error> {
    let (start, end) = frame(S::NAME, pagination).map_err(Error::internal)?;
    let (left, batch) = (ids.into(), S::Batch::default());
    let mut writer = Writer { source, turn, left, batch, end, has_entries: false };
    let (first, is_whole) = writer.piece(start.into_bytes()).await?;
    let json = [(header::CONTENT_TYPE, "application/json")];
    if is_whole {
        return Ok((json, first).into_response());
    }
    let (sender, receiver) = mpsc::channel(1);
    let stop = shutdown.clone();
    shutdown.spawn("list", async move {
        stop.unless_requested(writer.run((first, is_whole), sender)).await;
    });
    Ok((json, body(receiver)).into_response())
}

/// What is before and after the entries of a list. Keys are sorted, as everywhere.
fn frame(name: &str, pagination: Pagination) -> serde_json::Result<(String, String)> {
    let pagination = serde_json::to_string(&pagination)?;
    Ok(if name < "pagination" {
        (format!("{{\"{name}\":["), format!("],\"pagination\":{pagination}}}"))
    } else {
        (format!("{{\"pagination\":{pagination},\"{name}\":["), "]}".to_owned())
    })
}

impl<S: Source> Writer<S> {
    /// Hands over everything, for as long as the client takes it.
    async fn run(mut self, first: Piece, sender: mpsc::Sender<Piece>) {
        let mut piece = first;
        loop {
            let is_last = piece.1;
            let taken = tokio::time::timeout(PATIENCE, sender.send(piece)).await;
            if is_last || !matches!(taken, Ok(Ok(()))) {
                return;
            }
            piece = match self.piece(Vec::new()).await {
                Ok(piece) => piece,
                Err(error) => {
                    warn!(?error, "a list breaks off");
                    return;
                }
            };
        }
    }

    /// The next piece, appended to `out`.
    async fn piece(&mut self, mut out: Vec<u8>) -> Result<Piece, Error> {
        while out.len() < CHUNK_BYTES {
            let start = out.len();
            if self.has_entries {
                out.push(b',');
            }
            if self.batch.write_next(&mut out).map_err(Error::internal)? {
                self.has_entries = true;
                continue;
            }
            out.truncate(start);
            if self.left.is_empty() {
                out.extend_from_slice(self.end.as_bytes());
                return Ok((out.into(), true));
            }
            let ids: Vec<_> = self.left.drain(..BATCH.min(self.left.len())).collect();
            let _connection = self.turn.reading().await?;
            self.batch = self.source.read(&ids).await?;
        }
        Ok((out.into(), false))
    }
}

/// A body of pieces. One whose last piece does not come breaks off, so that nobody takes it for whole.
fn body(receiver: mpsc::Receiver<Piece>) -> Body {
    Body::from_stream(stream::unfold(Some(receiver), async |receiver| {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some((bytes, is_last)) => Some((Ok(bytes), (!is_last).then_some(receiver))),
            None => Some((Err("the list breaks off"), None)),
        }
    }))
}
