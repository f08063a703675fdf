//! Reads an answer in pieces, so that its size costs time and not memory.

use std::{collections::VecDeque, mem};

use bytes::Bytes;
use common::{
    engine::{
        HistoryStore,
        history_store::{Cursor, HistoryError, Sample, Window},
    },
    http::Caller,
    wire::{DeviceId, Tenant},
};

use crate::domain::{accept::Form, csv, json};

/// The attributes of a device that are still to be read, and where.
#[derive(Clone)]
pub(crate) struct Samples {
    store: HistoryStore,
    tenant: Tenant,
    generation: i64,
    device: DeviceId,
    attrs: VecDeque<String>,
    window: Window,
    /// Samples that the current attribute may still have; `None` without a limit.
    left: Option<u64>,
    after: Option<Cursor>,
    page: u64,
}

/// What comes next.
pub(crate) enum Next {
    /// Samples of the current attribute, in order.
    Page(Vec<Sample>),
    /// The current attribute has no more.
    EndOf(String),
}

impl Samples {
    const FIRST_PAGE: u64 = 128;
    const LARGEST_PAGE: u64 = 2048;
    /// Pages are made smaller when they hold more than this.
    const PAGE_BYTES: usize = 1 << 20;
    /// What dojot stores for an attribute that was cleared; it is never answered.
    const CLEARED: &'static str = "\" \"";

    pub(crate) fn new(
        store: HistoryStore,
        caller: &Caller,
        device: DeviceId,
        attrs: Vec<String>,
        window: Window,
    ) -> Self {
        let attrs = VecDeque::from(attrs);
        let (tenant, generation) = (caller.tenant.clone(), caller.generation);
        let (left, page) = (window.limit, Self::FIRST_PAGE);
        Self { store, tenant, generation, device, attrs, window, left, after: None, page }
    }

    /// Reads on; `None` when all attributes are read.
    pub(crate) async fn next(&mut self) -> Result<Option<Next>, HistoryError> {
        let Some(attr) = self.attrs.front() else { return Ok(None) };
        let limit = self.left.map_or(self.page, |left| left.min(self.page));
        if limit == 0 {
            return Ok(self.end_of_attr());
        }
        let window = Window { limit: Some(limit), ..self.window };
        let Self { store, tenant, generation, device, after, .. } = &*self;
        let mut page = store.query_after(tenant, *generation, device, attr, window, *after).await?;
        let Some(last) = page.last() else { return Ok(self.end_of_attr()) };
        self.after = Some(Cursor::from(last));
        let is_last = (page.len() as u64) < limit;
        self.adapt(&page);
        page.retain(|sample| sample.value != Self::CLEARED);
        self.left = match self.left {
            // The store has no more, so the next call need not ask it again.
            _ if is_last => Some(0),
            Some(left) => Some(left - page.len() as u64),
            None => None,
        };
        Ok(Some(Next::Page(page)))
    }

    fn end_of_attr(&mut self) -> Option<Next> {
        self.left = self.window.limit;
        self.after = None;
        self.attrs.pop_front().map(Next::EndOf)
    }

    /// Large pages save round trips, but values may be large too.
    fn adapt(&mut self, page: &[Sample]) {
        let bytes: usize = page.iter().map(|sample| sample.value.len() + sample.metadata.len() + 100).sum();
        self.page = if bytes > Self::PAGE_BYTES {
            (self.page / 2).max(1)
        } else if bytes < Self::PAGE_BYTES / 2 {
            (self.page * 2).min(Self::LARGEST_PAGE)
        } else {
            self.page
        };
    }
}

/// Writes samples in the form that the client accepts.
pub(crate) struct Answer {
    samples: Samples,
    writer: Writer,
    /// Samples written so far.
    pub(crate) count: u64,
    has_begun: bool,
    is_complete: bool,
}

enum Writer {
    /// An array, or the members of an object of arrays.
    Json {
        is_object: bool,
        has_items: bool,
        in_attr: bool,
    },
    Csv {
        columns: Vec<String>,
    },
}

impl Answer {
    /// Pieces are sent when they have this size.
    const PIECE: usize = 64 * 1024;

    /// Begins an answer: as an object of arrays, or as one array. For CSV all samples are looked through once for
    /// the names in their metadata.
    pub(crate) async fn begin(samples: Samples, form: Form, is_object: bool) -> Result<Self, HistoryError> {
        let writer = match form {
            Form::Json => Writer::Json { is_object, has_items: false, in_attr: false },
            Form::Csv => Writer::Csv { columns: columns(samples.clone()).await? },
        };
        Ok(Self { samples, writer, count: 0, has_begun: false, is_complete: false })
    }

    /// Whether there is nothing more to come.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The next piece; `None` when there is none.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, HistoryError> {
        if self.is_complete {
            return Ok(None);
        }
        let mut out = Vec::new();
        if !mem::replace(&mut self.has_begun, true) {
            self.writer.begin(&mut out);
        }
        while out.len() < Self::PIECE {
            let Some(next) = self.samples.next().await? else {
                self.writer.end(&mut out);
                self.is_complete = true;
                break;
            };
            match next {
                Next::Page(page) => {
                    self.count += page.len() as u64;
                    for sample in &page {
                        self.writer.sample(&mut out, sample);
                    }
                }
                Next::EndOf(attr) => self.writer.end_of_attr(&mut out, &attr),
            }
        }
        Ok(Some(Bytes::from(out)))
    }
}

async fn columns(mut samples: Samples) -> Result<Vec<String>, HistoryError> {
    let mut columns = Vec::new();
    while let Some(next) = samples.next().await? {
        if let Next::Page(page) = next {
            for sample in &page {
                csv::add_columns(&mut columns, sample);
            }
        }
    }
    Ok(columns)
}

impl Writer {
    fn begin(&self, out: &mut Vec<u8>) {
        match self {
            Self::Json { is_object, .. } => out.push(if *is_object { b'{' } else { b'[' }),
            Self::Csv { columns } => csv::write_header(out, columns),
        }
    }

    fn sample(&mut self, out: &mut Vec<u8>, sample: &Sample) {
        match self {
            Self::Json { is_object, has_items, in_attr, .. } => {
                if *is_object && !*in_attr {
                    begin_member(out, &sample.attr, mem::replace(has_items, true));
                } else if mem::replace(has_items, true) {
                    out.push(b',');
                }
                *in_attr = true;
                json::write_item(out, sample);
            }
            Self::Csv { columns } => csv::write_line(out, columns, sample),
        }
    }

    fn end_of_attr(&mut self, out: &mut Vec<u8>, attr: &str) {
        if let Self::Json { is_object: true, has_items, in_attr, .. } = self {
            if !mem::replace(in_attr, false) {
                begin_member(out, attr, mem::replace(has_items, true));
            }
            out.push(b']');
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if let Self::Json { is_object, .. } = self {
            out.push(if *is_object { b'}' } else { b']' });
        }
    }
}

fn begin_member(out: &mut Vec<u8>, attr: &str, is_next: bool) {
    if is_next {
        out.push(b',');
    }
    json::write_text(out, attr);
    out.extend_from_slice(b":[");
}
