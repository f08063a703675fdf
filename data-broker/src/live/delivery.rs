//! Events on their way to sockets: a socket that does not keep up is ended, so that nothing piles up for it and it
//! never misses something without noticing.

use std::{
    collections::HashSet,
    sync::{MutexGuard, PoisonError},
};

use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::extract::SocketRef;

use super::{Live, session::Session};

impl Live {
    /// Emits an event to all sockets of a room. It is encoded once, and what waits for many sockets is there once.
    pub(super) async fn deliver(&self, room: &str, name: &str, payload: &RawValue) {
        let bytes = name.len() + payload.get().len();
        let sockets = self.io.within(room.to_owned()).sockets();
        if self.suspects().remove(room) {
            for socket in &sockets {
                Self::offer(socket, name, payload, bytes);
            }
            return;
        }
        for socket in sockets.iter().filter(|socket| !may_take(socket, bytes)) {
            end(socket);
        }
        // The library does not say whose queue is full. It does when the next event goes to each socket alone.
        if self.io.to(room.to_owned()).emit(name, payload).await.is_err() {
            self.suspects().insert(room.to_owned());
        }
    }

    /// Emits an event to one socket.
    pub(super) fn offer<T: ?Sized + Serialize>(socket: &SocketRef, name: &str, payload: &T, bytes: usize) {
        if !may_take(socket, bytes) || socket.emit(name, payload).is_err() {
            end(socket);
        }
    }

    fn suspects(&self) -> MutexGuard<'_, HashSet<String>> {
        self.shared.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn may_take(socket: &SocketRef, bytes: usize) -> bool {
    socket.extensions.get::<Session>().is_some_and(|session| session.account.charge(bytes))
}

/// Ends a socket at once: what waits for it would reach it too late, and nothing more could be sent to it.
fn end(socket: &SocketRef) {
    metrics::counter!("socketio_too_slow_total").increment(1);
    socket.leave_all();
    if let Some(session) = socket.extensions.get::<Session>() {
        session.account.cut();
    }
    let _ = socket.clone().disconnect();
}
