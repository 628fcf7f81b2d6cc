//! Property test: random events against the group's invariants.
//!
//! A few clients, each knowing only its last answers, join, sync, send heartbeats, commit, leave and stop in any order,
//! while writes are delayed or fail and the server restarts. The group's invariants are checked after every event. At the
//! end all clients follow the protocol, and the group must become stable.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::harness::{Answer, Harness, SESSION_MS, dynamic, fixed, protocols};
use super::*;
use crate::coordinator::group::protocol::Protocol;

const CLIENTS: usize = 5;

#[derive(Debug, Clone)]
enum Event {
    Join {
        client: usize,
        two_topics: bool,
    },
    Sync(usize),
    Heartbeat(usize),
    Commit(usize),
    Leave(usize),
    /// The client's process restarts and loses its member id.
    Forget(usize),
    Store {
        fails: bool,
    },
    Advance(u64),
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let client = 0..CLIENTS;
    prop_oneof![
        8 => (client.clone(), prop::bool::weighted(0.2))
            .prop_map(|(client, two_topics)| Event::Join { client, two_topics }),
        8 => client.clone().prop_map(Event::Sync),
        4 => client.clone().prop_map(Event::Heartbeat),
        2 => client.clone().prop_map(Event::Commit),
        1 => client.clone().prop_map(Event::Leave),
        1 => client.prop_map(Event::Forget),
        6 => prop::bool::weighted(0.1).prop_map(|fails| Event::Store { fails }),
        3 => prop_oneof![Just(1_u64), 1_000..8_000_u64, Just(SESSION_MS as u64), Just(40_000)]
            .prop_map(Event::Advance),
        1 => Just(Event::Restart),
    ]
}

/// State of one client. Clients 0 and 1 are static members.
#[derive(Debug, Default, Clone)]
struct Client {
    member_id: String,
    generation: i32,
    leads: Vec<String>,
    waiting: Option<Ticket>,
}

struct World {
    harness: Harness,
    limits: Limits,
    clients: Vec<Client>,
    /// Requests without an answer so far, and the clients that sent them.
    open: BTreeMap<Ticket, usize>,
    generation: i32,
    /// Assignment given to each member, by generation and member id.
    handed_out: BTreeMap<(i32, String), bytes::Bytes>,
}

impl World {
    fn new(initial_rebalance_delay_ms: i32) -> Self {
        let limits = Limits {
            initial_rebalance_delay_ms,
            max_size: CLIENTS - 1,
        };
        Self {
            harness: Harness::with(limits),
            limits,
            clients: vec![Client::default(); CLIENTS],
            open: BTreeMap::new(),
            generation: 0,
            handed_out: BTreeMap::new(),
        }
    }

    fn identity(&self, client: usize) -> MemberIdentity {
        MemberIdentity {
            member_id: self.clients[client].member_id.clone(),
            group_instance_id: instance(client),
            generation: self.clients[client].generation,
        }
    }

    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Join { client, two_topics } => self.join(client, two_topics),
            Event::Sync(client) => self.sync(client),
            Event::Heartbeat(client) => {
                let identity = self.identity(client);
                let _ = self.harness.heartbeat(&identity);
            }
            Event::Commit(client) => {
                let identity = self.identity(client);
                let _ = self.harness.group.begin_commit(&identity, self.harness.now);
            }
            Event::Leave(client) => {
                let leaving = LeavingMember {
                    member_id: self.clients[client].member_id.clone(),
                    group_instance_id: instance(client),
                    reason: None,
                };
                self.harness.leave(&[leaving]);
            }
            Event::Forget(client) => self.clients[client] = Client::default(),
            Event::Store { fails } => {
                if !self.harness.stores.is_empty() {
                    let outcome = match fails {
                        true => Err(GroupError::CoordinatorNotAvailable),
                        false => Ok(()),
                    };
                    self.harness.stored(outcome);
                }
            }
            Event::Advance(ms) => self.harness.advance(ms),
            Event::Restart => self.restart(),
        }
        self.hear_answers();
        self.check();
    }

    fn join(&mut self, client: usize, two_topics: bool) {
        let id = self.clients[client].member_id.clone();
        let topics: &[&str] = if two_topics { &["t", "u"] } else { &["t"] };
        let join = JoinGroup {
            protocols: protocols(&["range", "sticky"], topics),
            requires_member_id: client.is_multiple_of(2),
            ..match instance(client) {
                Some(instance) => fixed(&instance, &id),
                None => dynamic(&id),
            }
        };
        let ticket = self.harness.join(join);
        self.open.insert(ticket, client);
        self.clients[client].waiting = Some(ticket);
    }

    fn sync(&mut self, client: usize) {
        let assignments = self.clients[client]
            .leads
            .iter()
            .map(|member| {
                let text = format!("{}@{}", member, self.clients[client].generation);
                (member.clone(), text.into())
            })
            .collect();
        let ticket = self.harness.sync_with(SyncGroup {
            group_id: "g".into(),
            member: self.identity(client),
            protocol_type: None,
            protocol_name: None,
            assignments,
        });
        self.open.insert(ticket, client);
        self.clients[client].waiting = Some(ticket);
    }

    /// Restarts the server: waiting requests are lost, and only stored rows remain.
    fn restart(&mut self) {
        self.open.clear();
        self.harness.stores.clear();
        let mut effects = Effects::new();
        self.harness.group = match self.harness.rows.last() {
            Some(row) => {
                StateMachine::restore(row.clone(), self.limits, self.harness.now, &mut effects)
            }
            None => StateMachine::new("g".into(), self.limits, self.harness.now),
        };
        assert!(effects.is_empty());
        self.generation = self.harness.group.generation;
        // A generation lost before its assignment was stored may be used again with other members.
        let kept = self.generation;
        self.handed_out
            .retain(|(generation, _), _| *generation <= kept);
    }

    fn hear_answers(&mut self) {
        let answers = std::mem::take(&mut self.harness.answers);
        for (ticket, answer) in answers {
            let Some(client) = self.open.remove(&ticket) else {
                panic!("{ticket:?} was answered twice or never sent");
            };
            if self.clients[client].waiting != Some(ticket) {
                continue;
            }
            self.clients[client].waiting = None;
            match answer {
                Answer::Join(Ok(joined)) => {
                    let client = &mut self.clients[client];
                    assert_eq!(
                        joined.leader == joined.member_id,
                        !joined.members.is_empty()
                    );
                    client.member_id = joined.member_id;
                    client.generation = joined.generation;
                    client.leads = joined
                        .members
                        .into_iter()
                        .map(|member| member.member_id)
                        .collect();
                }
                Answer::Join(Err(GroupError::MemberIdRequired { member_id })) => {
                    self.clients[client].member_id = member_id;
                }
                Answer::Sync(Ok(synced)) => {
                    let text = std::str::from_utf8(&synced.assignment).unwrap();
                    let made_for = format!("@{}", self.clients[client].generation);
                    assert!(text.is_empty() || text.ends_with(&made_for), "{text}");
                    let key = (
                        self.clients[client].generation,
                        self.clients[client].member_id.clone(),
                    );
                    let first = self
                        .handed_out
                        .entry(key)
                        .or_insert_with(|| synced.assignment.clone());
                    assert_eq!(*first, synced.assignment, "an assignment does not change");
                }
                Answer::Join(Err(error)) | Answer::Sync(Err(error)) => {
                    if matches!(
                        error,
                        GroupError::UnknownMemberId
                            | GroupError::FencedInstanceId
                            | GroupError::GroupMaxSizeReached
                    ) {
                        self.clients[client] = Client::default();
                    }
                }
            }
        }
    }

    fn check(&mut self) {
        let group = &self.harness.group;
        match group.state {
            GroupState::Empty => {
                assert!(group.members.is_empty());
                assert!(group.leader.is_none());
                assert!(group.join_timer.is_none() && group.sync_expires_at_ms.is_none());
            }
            GroupState::PreparingRebalance => {
                assert!(group.join_timer.is_some(), "a join phase has a deadline");
                assert!(group.pending_syncs.is_empty());
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                assert!(!group.members.is_empty());
                assert!(group.join_timer.is_none());
                assert!(group.members.len() <= self.limits.max_size);
                assert_eq!(
                    group.pending_syncs.is_empty(),
                    group.sync_expires_at_ms.is_none()
                );
                let protocol = group.protocol.as_ref().expect("chosen with the generation");
                assert!(
                    group
                        .members
                        .values()
                        .all(|member| member.supports(protocol))
                );
            }
            GroupState::Dead => panic!("no event deletes the group"),
        }
        if let Some(leader) = &group.leader {
            assert!(group.members.contains_key(leader), "the leader is a member");
        } else {
            assert!(
                group.members.is_empty(),
                "a group with members has a leader"
            );
        }
        assert!(group.generation >= self.generation, "generations only grow");
        self.generation = group.generation;
        let instances: Vec<_> = group
            .members
            .values()
            .filter_map(|member| member.group_instance_id.as_ref())
            .collect();
        let distinct: BTreeSet<_> = instances.iter().collect();
        assert_eq!(distinct.len(), instances.len(), "one member per instance");
        let waiting: BTreeSet<_> = group
            .members
            .values()
            .flat_map(|member| [member.waiting_join, member.waiting_sync])
            .flatten()
            .collect();
        let open: BTreeSet<_> = self.open.keys().copied().collect();
        assert_eq!(
            waiting, open,
            "the group knows exactly the waiting requests"
        );
        for member in group.members.values() {
            assert!(
                member.expires_at_ms.is_some() || member.is_waiting(),
                "every member can expire"
            );
            if member.waiting_sync.is_some() {
                assert_eq!(group.state, GroupState::CompletingRebalance);
            }
        }
        if let Some(at_ms) = group.next_deadline_ms() {
            assert!(
                at_ms > self.harness.now.monotonic_ms,
                "all due deadlines are handled"
            );
        }
    }

    /// Lets all clients follow the protocol. The group must become stable with as many members as fit.
    fn settle(&mut self) {
        for _ in 0..40 {
            while !self.harness.stores.is_empty() {
                self.apply(&Event::Store { fails: false });
            }
            for client in 0..self.limits.max_size {
                if self.clients[client]
                    .waiting
                    .is_some_and(|ticket| self.open.contains_key(&ticket))
                {
                    continue;
                }
                let identity = self.identity(client);
                let needs_join = self.harness.heartbeat(&identity).is_err();
                if needs_join {
                    if matches!(
                        self.harness.heartbeat(&identity),
                        Err(GroupError::FencedInstanceId)
                    ) {
                        self.clients[client] = Client::default();
                    }
                    self.apply(&Event::Join {
                        client,
                        two_topics: false,
                    });
                } else {
                    self.apply(&Event::Sync(client));
                }
            }
            self.apply(&Event::Advance(2_500));
        }
        let group = &self.harness.group;
        assert_eq!(group.state, GroupState::Stable, "{group:#?}");
        assert_eq!(group.members.len(), self.limits.max_size, "{group:#?}");
        assert!(self.open.is_empty());
    }
}

fn instance(client: usize) -> Option<String> {
    (client < 2).then(|| format!("instance-{client}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_under_random_events_and_the_group_becomes_stable(
        delay in prop_oneof![Just(0), Just(3_000)],
        events in prop::collection::vec(event(), 0..120),
    ) {
        let mut world = World::new(delay);
        for event in &events {
            world.apply(event);
        }
        world.settle();
    }
}
