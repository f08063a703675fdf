//! Groups: which member reads which topic, and how far the group has come.
//!
//! Every topic that a group subscribes to belongs to one of the members that want it, chosen by hashing member and
//! topic together. A member that comes or goes therefore moves its own share and nothing else. A topic that moves
//! is read from its committed offset: what the former owner did not commit comes again, nothing is skipped.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex},
};

use super::{
    EmbeddedLog, Shared, lock,
    queue::Request,
    reader::{From, Interest, Ready},
    topic::TopicLog,
};
use crate::{
    engine::event_log::{LogError, Record},
    wire::Topic,
};

/// A group and its members in this process.
pub(super) struct Group {
    pub(super) name: Box<str>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    joined: u64,
    members: BTreeMap<u64, Member>,
    assigned: HashMap<Topic, Assignment>,
    /// Offsets by number of the topic.
    committed: HashMap<i64, i64>,
}

struct Member {
    wanted: HashSet<Topic>,
    ready: Arc<Ready>,
}

struct Assignment {
    member: u64,
    interest: Arc<Interest>,
}

impl Group {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.into(), state: Mutex::default() }
    }

    /// Takes over offsets that are durable.
    pub(super) fn committed(&self, offsets: impl IntoIterator<Item = (i64, i64)>) {
        let mut state = lock(&self.state);
        for (number, next) in offsets {
            let committed = state.committed.entry(number).or_default();
            *committed = next.max(*committed);
        }
    }

    /// A topic was created; somebody may have waited for it.
    pub(super) fn topic_created(&self, topic: &Arc<TopicLog>) {
        lock(&self.state).place(&topic.topic, Some(topic));
    }

    /// A topic was deleted.
    pub(super) fn topic_deleted(&self, topic: &TopicLog) {
        let mut state = lock(&self.state);
        state.committed.remove(&topic.number);
        if state.assigned.get(&topic.topic).is_some_and(|it| it.interest.topic.number == topic.number) {
            state.assigned.remove(&topic.topic);
        }
    }

    fn join(&self, ready: &Arc<Ready>) -> u64 {
        let mut state = lock(&self.state);
        state.joined += 1;
        let member = state.joined;
        state.members.insert(member, Member { wanted: HashSet::new(), ready: Arc::clone(ready) });
        member
    }

    fn leave(&self, member: u64, shared: &Shared) {
        let mut state = lock(&self.state);
        let wanted = state.members.remove(&member).map(|member| member.wanted).unwrap_or_default();
        state.place_all(wanted.iter(), shared);
    }

    fn subscribe(&self, member: u64, topics: &[Topic], shared: &Shared) {
        let wanted: HashSet<Topic> = topics.iter().cloned().collect();
        let mut state = lock(&self.state);
        let Some(subscriber) = state.members.get_mut(&member) else { return };
        let former = std::mem::replace(&mut subscriber.wanted, wanted.clone());
        state.place_all(former.symmetric_difference(&wanted), shared);
    }
}

impl State {
    /// The lock of the group is held while the topics are looked up: a topic that is created at the same time is
    /// either found here, or its creation finds the subscription.
    fn place_all<'a>(&mut self, topics: impl Iterator<Item = &'a Topic>, shared: &Shared) {
        for topic in topics {
            self.place(topic, shared.topic(topic).as_ref());
        }
    }

    /// Gives a topic to the member that should have it.
    fn place(&mut self, topic: &Topic, log: Option<&Arc<TopicLog>>) {
        let owner = self.owner(topic);
        if let Some(present) = self.assigned.get(topic) {
            let is_right = Some(present.member) == owner
                && log.is_some_and(|log| log.number == present.interest.topic.number);
            if is_right {
                return;
            }
            present.interest.topic.unregister(&present.interest);
            self.assigned.remove(topic);
        }
        let (Some(owner), Some(log)) = (owner, log) else { return };
        let Some(member) = self.members.get(&owner) else { return };
        let from = self.committed.get(&log.number).copied().unwrap_or_default();
        let interest = Interest::new(log, &member.ready, From::Offset(from));
        if log.register(&interest).is_some() {
            self.assigned.insert(topic.clone(), Assignment { member: owner, interest });
        }
    }

    fn owner(&self, topic: &Topic) -> Option<u64> {
        let members = self.members.iter().filter(|(_, member)| member.wanted.contains(topic));
        members.map(|(member, _)| *member).max_by_key(|member| {
            let mut hasher = DefaultHasher::new();
            (member, topic.as_str()).hash(&mut hasher);
            hasher.finish()
        })
    }
}

/// A member of a group. Dropping it leaves the group.
pub struct EmbeddedGroup {
    log: EmbeddedLog,
    group: Arc<Group>,
    member: u64,
    ready: Arc<Ready>,
    /// What records were returned from since the last commit, some of it repeatedly.
    read: Vec<Arc<Interest>>,
    /// How long `read` may become until it is looked through.
    most_read: usize,
}

impl EmbeddedGroup {
    const MOST_READ: usize = 1024;

    pub(super) fn join(log: EmbeddedLog, group: Arc<Group>) -> Self {
        let ready = Arc::default();
        let member = group.join(&ready);
        Self { log, group, member, ready, read: Vec::new(), most_read: Self::MOST_READ }
    }

    /// Drops repetitions. Without it `read` would grow for as long as nothing can be committed.
    fn look_through(&mut self) {
        if self.read.len() > self.most_read {
            self.read.sort_unstable_by_key(Arc::as_ptr);
            self.read.dedup_by(|one, next| Arc::ptr_eq(one, next));
            self.most_read = Self::MOST_READ.max(2 * self.read.len());
        }
    }

    /// See [`GroupConsumer::subscribe`](crate::engine::event_log::GroupConsumer::subscribe).
    pub fn subscribe(&mut self, topics: &[Topic]) {
        self.group.subscribe(self.member, topics, self.log.shared());
    }

    /// See [`GroupConsumer::next_batch`](crate::engine::event_log::GroupConsumer::next_batch).
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        self.look_through();
        self.ready.next_batch(&self.log.shared().store, max, &mut self.read).await
    }

    /// See [`GroupConsumer::commit`](crate::engine::event_log::GroupConsumer::commit).
    ///
    /// Offsets of topics that went to another member in the meantime are committed too: what was returned from
    /// here followed without a gap on what was committed before.
    pub async fn commit(&mut self) -> Result<(), LogError> {
        let mut offsets: HashMap<i64, i64> = HashMap::new();
        for interest in self.read.iter().filter(|interest| !interest.topic.is_deleted()) {
            let next = offsets.entry(interest.topic.number).or_default();
            *next = interest.next_offset().max(*next);
        }
        if !offsets.is_empty() {
            let group = Arc::clone(&self.group);
            let offsets = offsets.into_iter().collect();
            let request = |reply| Request::Commit { group, offsets, reply };
            self.log.shared().queue.request(request).await?;
        }
        self.read.clear();
        Ok(())
    }
}

impl Drop for EmbeddedGroup {
    fn drop(&mut self) {
        self.group.leave(self.member, self.log.shared());
        self.ready.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::event_log::{EventLog, Headers, NewRecord, TopicProfile},
        testing::TestEngines,
    };

    #[tokio::test]
    async fn a_member_that_cannot_commit_remembers_each_topic_a_few_times() {
        let engines = TestEngines::embedded().await;
        let EventLog::Embedded(log) = &engines.engines.log else { panic!("not embedded") };
        let topic = Topic::parse("t.device-data").unwrap();
        let profile = TopicProfile { partitions: 1, replication: 1, retention_ms: -1 };
        log.create_topic(&topic, profile).await.unwrap();
        let mut group = log.group("workers");
        group.subscribe(std::slice::from_ref(&topic));
        let records = 3 * EmbeddedGroup::MOST_READ;
        let record = NewRecord { topic, key: None, value: "{}".into(), headers: Headers::new() };
        let appends = (0..records).map(|_| engines.engines.log.append(record.clone()));
        futures_util::future::join_all(appends).await;
        for _ in 0..records {
            assert_eq!(group.next_batch(1).await.unwrap().len(), 1);
        }
        assert!(group.read.len() <= EmbeddedGroup::MOST_READ + 1, "{}", group.read.len());
        group.commit().await.unwrap();
        assert_eq!(
            lock(&group.group.state).committed.values().copied().collect::<Vec<_>>(),
            [records as i64]
        );
    }
}
