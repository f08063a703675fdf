//! The sessions of this process, by device, and for some minutes what ended ones knew.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use common::wire::{DeviceId, Tenant};
use smallvec::SmallVec;

use crate::{
    domain::identity::Identity,
    link::{Close, Link},
};

/// A client id within its device: another device's client is never meant.
type ClientKey = (Identity, Box<str>);
type Devices = HashMap<DeviceId, SmallVec<[Arc<Link>; 1]>>;

/// The device has as many connections as it may have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// See the module.
pub(crate) struct Sessions {
    most_per_device: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tenants: HashMap<Tenant, Devices>,
    /// With the time at which each is forgotten.
    ended: HashMap<ClientKey, (i64, Arc<Link>)>,
    /// The same times, oldest first. One whose link was taken over in between no longer means anything.
    forget: VecDeque<(i64, ClientKey)>,
}

impl Sessions {
    /// How long what an ended session knew is kept: longer than clients wait before they connect again.
    const REMEMBER_MS: i64 = 5 * 60_000;
    /// How many ended sessions are remembered at most. What is forgotten early is looked for on the log.
    const REMEMBER_AT_MOST: usize = 50_000;

    pub(crate) fn new(most_per_device: usize) -> Self {
        Self { most_per_device, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session. The same client's session before it, if any, is closed and becomes its predecessor.
    pub(crate) fn enter(&self, link: &Arc<Link>) -> Result<(), TooMany> {
        let mut state = self.state();
        let Identity { tenant, device } = link.own.clone();
        let links = state.tenants.entry(tenant).or_default().entry(device).or_default();
        let same = links.iter().position(|other| other.client_id == link.client_id);
        if same.is_none() && links.len() >= self.most_per_device {
            return Err(TooMany);
        }
        let previous = same.map(|at| links.swap_remove(at));
        links.push(Arc::clone(link));
        let previous = previous
            .inspect(|previous| previous.close(Close::TakenOver))
            .or_else(|| Some(state.ended.remove(&(link.own.clone(), link.client_id.clone()))?.1));
        link.follow(previous);
        Ok(())
    }

    /// Removes a session. What it knows is kept if its client may ask for it.
    pub(crate) fn leave(&self, link: &Arc<Link>, now_ms: i64) {
        link.unregister();
        let mut state = self.state();
        // Taken over: its successor has its knowledge.
        if !state.remove(link) || !link.is_worth_remembering() {
            return;
        }
        let key = (link.own.clone(), link.client_id.clone());
        let until = now_ms + Self::REMEMBER_MS;
        state.ended.insert(key.clone(), (until, Arc::clone(link)));
        state.forget.push_back((until, key));
        state.forget_until(now_ms, Self::REMEMBER_AT_MOST);
    }

    /// Forgets ended sessions whose time is over.
    pub(crate) fn forget(&self, now_ms: i64) {
        self.state().forget_until(now_ms, Self::REMEMBER_AT_MOST);
    }

    /// The sessions of a device.
    pub(crate) fn of(&self, tenant: &Tenant, device: &DeviceId) -> SmallVec<[Arc<Link>; 1]> {
        let state = self.state();
        state.tenants.get(tenant).and_then(|devices| devices.get(device)).cloned().unwrap_or_default()
    }

    /// Closes the sessions of a tenant that match.
    pub(crate) fn close_tenant(&self, tenant: &Tenant, why: Close, matches: impl Fn(&Link) -> bool) {
        let state = self.state();
        let links = state.tenants.get(tenant).into_iter().flat_map(HashMap::values).flatten();
        links.filter(|link| matches(link)).for_each(|link| link.close(why));
    }

    /// Closes all sessions.
    pub(crate) fn close_all(&self, why: Close) {
        let state = self.state();
        let links = state.tenants.values().flat_map(HashMap::values).flatten();
        links.for_each(|link| link.close(why));
    }
}

impl State {
    fn remove(&mut self, link: &Arc<Link>) -> bool {
        let Identity { tenant, device } = &link.own;
        let Some(devices) = self.tenants.get_mut(tenant) else { return false };
        let Some(links) = devices.get_mut(device) else { return false };
        let before = links.len();
        links.retain(|other| !Arc::ptr_eq(other, link));
        let removed = links.len() < before;
        if links.is_empty() {
            devices.remove(device);
        }
        if devices.is_empty() {
            self.tenants.remove(tenant);
        }
        removed
    }

    fn forget_until(&mut self, now_ms: i64, most: usize) {
        while let Some((at, _)) = self.forget.front() {
            if *at > now_ms && self.forget.len() <= most {
                break;
            }
            let Some((at, key)) = self.forget.pop_front() else { break };
            if self.ended.get(&key).is_some_and(|(until, _)| *until == at) {
                self.ended.remove(&key);
            }
        }
        if self.forget.is_empty() {
            (self.forget, self.ended) = Default::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{dialect::Dialect, identity::UserName},
        link::{Login, Outcome, Slot},
        packet::Ack,
    };

    fn link(user: &str, client: &str) -> Arc<Link> {
        let own = UserName::parse(user).unwrap().identity;
        Arc::new(Link::new(own, client, Login::Password { issued_ms: 0 }, Dialect::Dojot))
    }

    fn remember_something(link: &Link) {
        let slot =
            Slot { ack: Some(Ack::Acknowledged), id: 1, short: 1, remember: true, outcome: Outcome::Durable };
        link.begin(slot).unwrap();
    }

    #[test]
    fn a_client_takes_over_its_own_session_and_nobody_elses() {
        let sessions = Sessions::new(10);
        let others = [link("t1:d2", "c"), link("t2:d1", "c"), link("t1:d1", "c2")];
        for other in &others {
            sessions.enter(other).unwrap();
        }
        let (old, new) = (link("t1:d1", "c"), link("t1:d1", "c"));
        sessions.enter(&old).unwrap();
        sessions.enter(&new).unwrap();
        assert_eq!(old.closed(), Some(Close::TakenOver));
        assert!(others.iter().chain([&new]).all(|other| other.closed().is_none()));
        assert!(Arc::ptr_eq(&new.previous().unwrap(), &old));
        // The old one's farewell does not remove the new one.
        sessions.leave(&old, 0);
        assert_eq!(sessions.of(&new.own.tenant, &new.own.device).len(), 2);
    }

    #[test]
    fn a_device_has_a_limit() {
        let sessions = Sessions::new(2);
        sessions.enter(&link("t1:d1", "a")).unwrap();
        sessions.enter(&link("t1:d1", "b")).unwrap();
        assert_eq!(sessions.enter(&link("t1:d1", "c")), Err(TooMany));
        sessions.enter(&link("t1:d1", "b")).unwrap();
        sessions.enter(&link("t1:d2", "c")).unwrap();
    }

    #[test]
    fn what_a_session_knew_is_remembered_for_a_while() {
        let sessions = Sessions::new(10);
        let (empty, old) = (link("t1:d1", "empty"), link("t1:d1", "c"));
        for link in [&empty, &old] {
            sessions.enter(link).unwrap();
        }
        remember_something(&old);
        sessions.leave(&empty, 0);
        sessions.leave(&old, 0);
        let new = link("t1:d1", "c");
        sessions.enter(&new).unwrap();
        assert!(Arc::ptr_eq(&new.previous().unwrap(), &old));
        let empty = link("t1:d1", "empty");
        sessions.enter(&empty).unwrap();
        assert!(empty.previous().is_none());

        sessions.leave(&new, 0);
        sessions.forget(Sessions::REMEMBER_MS);
        let late = link("t1:d1", "c");
        sessions.enter(&late).unwrap();
        assert!(late.previous().is_none());
    }

    #[test]
    fn sessions_are_closed_by_what_they_have_in_common() {
        let sessions = Sessions::new(10);
        let (a, b, c) = (link("t1:d1", "a"), link("t1:d2", "b"), link("t2:d1", "c"));
        for link in [&a, &b, &c] {
            sessions.enter(link).unwrap();
        }
        sessions.close_tenant(&a.own.tenant, Close::Revoked, |link| &*link.client_id == "a");
        assert_eq!([&a, &b, &c].map(|link| link.closed()), [Some(Close::Revoked), None, None]);
        sessions.close_tenant(&a.own.tenant, Close::Revoked, |_| true);
        assert_eq!([&b, &c].map(|link| link.closed()), [Some(Close::Revoked), None]);
        sessions.close_all(Close::ShuttingDown);
        assert_eq!(c.closed(), Some(Close::ShuttingDown));
    }
}
