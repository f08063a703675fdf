//! Lends a few things to many who want one, fairly.
//!
//! Addresses of clients take turns, and so do the user names of one address. When too many wait, the newest of those who
//! wait most often is refused. So a flood from one address costs the others a turn each, and a flood for one user name
//! costs everybody else behind the same address a turn each.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::StatusCode;
use common::http::Problem;
use serde_json::json;
use tokio::sync::oneshot;

use crate::domain::turns::{Queue, Turns};

/// For whom something is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asker {
    /// Address of the client; `None` for the platform itself.
    pub(crate) address: Option<IpAddr>,
    /// What he calls himself.
    pub(crate) name: String,
}

/// Why somebody gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Too many wait, and most of them are his.
    TooMany,
    /// He has waited for the longest time, in whole seconds.
    TooLong(u32),
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            // The words of dojot's gateway (dojot-api.md 1.4).
            Refused::TooMany => {
                let body = json!({ "message": "API rate limit exceeded" });
                Self::with_body(StatusCode::TOO_MANY_REQUESTS, body).retry_after(1)
            }
            Refused::TooLong(seconds) => {
                Self::unavailable("too many password checks are waiting").retry_after(seconds)
            }
        }
    }
}

/// The things, and who waits for them. Cheap to clone.
pub(crate) struct Admission<T>(Arc<Shared<T>>);

struct Shared<T> {
    /// Held between awaits only.
    state: Mutex<State<T>>,
    most_waiting: usize,
    longest_wait: Duration,
}

/// Those who wait with the same address and the same name.
type Line<T> = VecDeque<oneshot::Sender<Lent<T>>>;

struct State<T> {
    /// Empty while somebody waits. The one that was used last is lent first: others may never be needed.
    free: Vec<T>,
    waiting: Turns<Option<IpAddr>, Turns<String, Line<T>>>,
}

/// Whole seconds, at least one.
fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1)
}

/// A thing that goes to the next who waits, when it is dropped.
pub(crate) struct Lent<T> {
    thing: Option<T>,
    owner: Admission<T>,
}

impl<T> Clone for Admission<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Admission<T> {
    /// Lends these things. At most `most_waiting` wait, and nobody longer than `longest_wait`.
    pub(crate) fn new(things: Vec<T>, most_waiting: usize, longest_wait: Duration) -> Self {
        let state = Mutex::new(State { free: things, waiting: Turns::default() });
        Self(Arc::new(Shared { state, most_waiting, longest_wait }))
    }

    /// Waits for a thing. Who stops waiting loses his place.
    pub(crate) async fn borrow(&self, asker: Asker) -> Result<Lent<T>, Refused> {
        let place = match self.begin(asker) {
            Ok(lent) => return Ok(lent),
            Err(place) => place,
        };
        match tokio::time::timeout(self.0.longest_wait, place).await {
            Ok(Ok(lent)) => Ok(lent),
            Ok(Err(_)) => Err(Refused::TooMany),
            Err(_) => Err(Refused::TooLong(seconds(self.0.longest_wait))),
        }
    }

    fn begin(&self, asker: Asker) -> Result<Lent<T>, oneshot::Receiver<Lent<T>>> {
        let mut state = self.state();
        if let Some(thing) = state.free.pop() {
            return Ok(Lent { thing: Some(thing), owner: self.clone() });
        }
        let (turn, place) = oneshot::channel();
        state.waiting.line(asker.address).line(asker.name).push_back(turn);
        if state.waiting.len() > self.0.most_waiting {
            state.waiting.retain(&|turn| !turn.is_closed());
        }
        if state.waiting.len() > self.0.most_waiting {
            // Its receiver learns it from being dropped.
            state.waiting.cut();
        }
        Err(place)
    }

    /// Gives a thing to the next who still waits.
    fn give(&self, thing: T) {
        let mut state = self.state();
        let mut lent = Lent { thing: Some(thing), owner: self.clone() };
        while let Some(turn) = state.waiting.next() {
            match turn.send(lent) {
                Ok(()) => return,
                Err(back) => lent = back,
            }
        }
        state.free.extend(lent.thing.take());
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Lent<T> {
    /// The thing.
    pub(crate) fn get(&mut self) -> Option<&mut T> {
        self.thing.as_mut()
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        if let Some(thing) = self.thing.take() {
            self.owner.give(thing);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        task::{Context, Poll, Waker},
    };

    use super::*;

    const LONG: Duration = Duration::from_mins(10);

    fn asker(address: u8, name: &str) -> Asker {
        Asker { address: Some([192, 0, 2, address].into()), name: name.to_owned() }
    }

    type Wait<'a> = Pin<Box<dyn Future<Output = Result<Lent<()>, Refused>> + 'a>>;

    /// Begins to wait, and says what came of it so far.
    fn poll(wait: &mut Wait<'_>) -> Poll<Result<Lent<()>, Refused>> {
        wait.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn waits<'a>(admission: &'a Admission<()>, askers: &[(u8, &str)]) -> Vec<Wait<'a>> {
        let begin = |(address, name): &(u8, &str)| {
            let mut wait: Wait<'a> = Box::pin(admission.borrow(asker(*address, name)));
            assert!(poll(&mut wait).is_pending());
            wait
        };
        askers.iter().map(begin).collect()
    }

    #[tokio::test]
    async fn one_from_elsewhere_is_next_whatever_waits() {
        let admission = Admission::new(vec![()], 64, LONG);
        let first = admission.borrow(asker(1, "admin")).await.unwrap_or_else(|_| panic!("it is free"));
        let mut all =
            waits(&admission, &[(1, "admin"), (1, "admin"), (1, "admin"), (1, "joe"), (2, "admin")]);
        drop(first);
        let mut served = Vec::new();
        // Each is given back at once, so the next of them is served.
        while served.len() < all.len() {
            for (index, wait) in all.iter_mut().enumerate().filter(|(index, _)| !served.contains(index)) {
                if let Poll::Ready(lent) = poll(wait) {
                    assert!(lent.is_ok());
                    served.push(index);
                    break;
                }
            }
        }
        assert_eq!(served, [0, 4, 3, 1, 2]);
    }

    #[tokio::test]
    async fn who_floods_is_refused() {
        let admission = Admission::new(vec![()], 3, LONG);
        let first = admission.borrow(asker(1, "admin")).await;
        let mut flood = waits(&admission, &[(1, "admin"), (1, "admin"), (1, "admin")]);
        let mut same_name = pin!(admission.borrow(asker(1, "admin")));
        assert_eq!(same_name.as_mut().await.err(), Some(Refused::TooMany));
        // Others take the places of the newest of the flood.
        let others = waits(&admission, &[(2, "admin"), (1, "joe")]);
        assert!(poll(&mut flood[0]).is_pending());
        for refused in &mut flood[1..] {
            assert!(matches!(poll(refused), Poll::Ready(Err(Refused::TooMany))));
        }
        drop((first, others));
        assert!(matches!(poll(&mut flood[0]), Poll::Ready(Ok(_))));
    }

    #[tokio::test]
    async fn who_has_gone_takes_no_place() {
        let admission = Admission::new(vec![()], 1, LONG);
        let first = admission.borrow(asker(1, "admin")).await;
        drop(waits(&admission, &[(1, "admin")]));
        let mut next = waits(&admission, &[(2, "joe")]);
        drop(first);
        assert!(matches!(poll(&mut next[0]), Poll::Ready(Ok(_))));
        // What was given and never taken comes back too.
        let first = admission.borrow(asker(1, "admin")).await;
        let given = waits(&admission, &[(1, "admin")]);
        drop(first);
        drop(given);
        assert!(admission.borrow(asker(3, "ann")).await.is_ok());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let admission = Admission::new(vec![()], 1, Duration::from_millis(1));
        let first = admission.borrow(asker(1, "admin")).await;
        assert_eq!(admission.borrow(asker(2, "joe")).await.err(), Some(Refused::TooLong(1)));
        drop(first);
        assert!(admission.borrow(asker(2, "joe")).await.is_ok());
    }

    #[test]
    fn the_refused_are_told_when_to_try_again() {
        for (refused, status, retry_after) in
            [(Refused::TooMany, 429, "1"), (Refused::TooLong(seconds(Duration::from_secs(5))), 503, "5")]
        {
            let response = Problem::from(refused).into_response_as(common::http::Shape::MessageStatus, None);
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()["retry-after"], retry_after);
        }
    }
}
