//! Lists of users are written while they are read, a page at a time: however many there are, few are in memory.

use std::mem;

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use common::{engine::sql::SqlError, http::Problem};
use futures_util::stream;
use tracing::warn;

use super::user::UserOut;
use crate::{
    domain::user::{Scope, User},
    storage::{Selection, UserRepository},
};

/// A list on its way out. Who is changed meanwhile may be in it or not.
pub(crate) struct UserList {
    users: UserRepository,
    scope: Scope,
    selection: Selection,
    /// Read and not written.
    page: Vec<User>,
    /// The last of those that are written.
    last: Option<User>,
}

impl UserList {
    /// Reads the first page.
    pub(super) async fn begin(
        users: UserRepository,
        scope: Scope,
        selection: Selection,
    ) -> Result<Self, Problem> {
        let page = users.page(&scope, &selection, None).await?;
        Ok(Self { users, scope, selection, page, last: None })
    }

    /// Whether nobody is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.page.is_empty()
    }

    /// Whether nothing comes after the page that was read.
    fn is_complete(&self) -> bool {
        self.page.len() < UserRepository::PAGE
    }

    /// Writes the page that was read.
    fn write(&mut self) -> serde_json::Result<Vec<u8>> {
        let is_complete = self.is_complete();
        let mut out = Vec::new();
        if self.last.is_none() {
            out.extend_from_slice(b"{\"users\":[");
        }
        for user in mem::take(&mut self.page) {
            if self.last.replace(user.clone()).is_some() {
                out.push(b',');
            }
            serde_json::to_writer(&mut out, &UserOut::from(user))?;
        }
        if is_complete {
            out.extend_from_slice(b"]}");
        }
        Ok(out)
    }

    async fn read(&mut self) -> Result<(), SqlError> {
        self.page = self.users.page(&self.scope, &self.selection, self.last.as_ref()).await?;
        Ok(())
    }

    /// Writes a page and reads the next one. Returns what is left.
    async fn go_on(mut self) -> anyhow::Result<(Vec<u8>, Option<Self>)> {
        let is_complete = self.is_complete();
        let piece = self.write()?;
        if is_complete {
            return Ok((piece, None));
        }
        self.read().await?;
        Ok((piece, Some(self)))
    }
}

impl IntoResponse for UserList {
    fn into_response(mut self) -> Response {
        let json = [(header::CONTENT_TYPE, "application/json")];
        if self.is_complete() {
            return match self.write() {
                Ok(whole) => (json, whole).into_response(),
                Err(error) => Problem::internal(error).into_response(),
            };
        }
        let pieces = stream::unfold(Some(self), async |left| {
            match left?.go_on().await {
                Ok((piece, left)) => Some((Ok(piece), left)),
                Err(error) => {
                    warn!(error = format!("{error:#}"), "a list of users breaks off");
                    // So that nobody takes it for whole.
                    Some((Err("the list breaks off"), None))
                }
            }
        });
        (json, Body::from_stream(pieces)).into_response()
    }
}
