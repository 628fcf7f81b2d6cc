//! Tests of every state transition, and of the precedence of errors.

use bytes::Bytes;

use super::harness::{
    Harness, REBALANCE_MS, SESSION_MS, dynamic, fixed, identity, leaving, protocols,
};
use super::*;
use crate::coordinator::group::classic::subscription;
use crate::coordinator::group::protocol::Protocol;

const NEW_MEMBER_MS: u64 = 5 * 60 * 1_000;

fn limits(initial_rebalance_delay_ms: i32, max_size: usize) -> Limits {
    Limits {
        initial_rebalance_delay_ms,
        max_size,
    }
}

fn generation(member: &MemberIdentity, generation: i32) -> MemberIdentity {
    MemberIdentity {
        generation,
        ..member.clone()
    }
}

fn instance(member: &MemberIdentity, instance: &str) -> MemberIdentity {
    MemberIdentity {
        group_instance_id: Some(instance.into()),
        ..member.clone()
    }
}

fn nobody() -> MemberIdentity {
    MemberIdentity {
        generation: -1,
        ..MemberIdentity::default()
    }
}

// ---- the first generation ----

#[test]
fn the_first_member_leads_the_first_generation() {
    let mut harness = Harness::new();
    let ticket = harness.join(dynamic(""));
    let joined = harness.joined(ticket);
    assert_eq!(joined.generation, 1);
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(harness.group.state(), GroupState::CompletingRebalance);
    assert!(harness.stores.is_empty(), "nothing to store yet");
}

#[test]
fn an_empty_group_waits_for_the_initial_rebalance_delay() {
    let mut harness = Harness::with(limits(3_000, 100));
    let first = harness.join(dynamic(""));
    assert_eq!(harness.group.state(), GroupState::PreparingRebalance);
    harness.advance(2_000);
    let second = harness.join(dynamic(""));
    harness.advance(1_000);
    assert!(
        harness.waits(first),
        "someone came, so another round is waited"
    );
    harness.advance(2_999);
    assert!(harness.waits(first));
    harness.advance(1);
    let (first, second) = (harness.joined(first), harness.joined(second));
    assert_eq!((first.generation, second.generation), (1, 1));
    assert_eq!(first.members.len(), 2);
    assert_eq!(second.leader, first.member_id);
}

#[test]
fn the_initial_rebalance_delay_is_extended_up_to_the_rebalance_timeout() {
    let mut harness = Harness::with(limits(3_000, 100));
    let join = || JoinGroup {
        rebalance_timeout_ms: 8_000,
        ..dynamic("")
    };
    let first = harness.join(join());
    let mut elapsed = 0;
    while harness.waits(first) {
        harness.join(join());
        harness.advance(1_000);
        elapsed += 1_000;
        assert!(elapsed <= 8_000, "{elapsed}");
    }
    assert_eq!(elapsed, 8_000);
}

#[test]
fn members_that_leave_do_not_end_the_initial_rebalance_delay() {
    let mut harness = Harness::with(limits(3_000, 100));
    let first = harness.join(dynamic(""));
    let second = harness.join(dynamic(""));
    harness.leave(&[leaving("member-001")]);
    assert_eq!(harness.join_error(first), GroupError::UnknownMemberId);
    assert!(harness.waits(second));
    harness.leave(&[leaving("member-002")]);
    assert_eq!(harness.group.state(), GroupState::PreparingRebalance);
    harness.advance(3_000);
    harness.advance(3_000);
    assert_eq!(harness.group.state(), GroupState::Empty);
}

#[test]
fn a_member_without_an_id_must_join_again_with_one() {
    let mut harness = Harness::new();
    let asking = JoinGroup {
        requires_member_id: true,
        ..dynamic("")
    };
    let ticket = harness.join(asking.clone());
    let GroupError::MemberIdRequired { member_id } = harness.join_error(ticket) else {
        panic!("an id was expected");
    };
    assert_eq!(harness.group.state(), GroupState::Empty);
    assert!(!harness.group.is_abandoned());
    let other_instance = harness.join(fixed("i", &member_id));
    assert_eq!(
        harness.join_error(other_instance),
        GroupError::UnknownMemberId
    );
    let ticket = harness.join(JoinGroup {
        member_id: member_id.clone(),
        ..asking
    });
    assert_eq!(harness.joined(ticket).member_id, member_id);
    assert!(harness.group.pending_joins.is_empty());
}

#[test]
fn an_unused_member_id_expires_with_the_session_timeout() {
    let mut harness = Harness::new();
    let ticket = harness.join(JoinGroup {
        requires_member_id: true,
        ..dynamic("")
    });
    assert!(matches!(
        harness.join_error(ticket),
        GroupError::MemberIdRequired { .. }
    ));
    harness.advance(SESSION_MS as u64 - 1);
    assert!(!harness.group.is_abandoned());
    harness.advance(1);
    assert!(harness.group.is_abandoned());
    let late = harness.join(dynamic("member-001"));
    assert_eq!(harness.join_error(late), GroupError::UnknownMemberId);
}

#[test]
fn static_members_need_no_second_join() {
    let mut harness = Harness::new();
    let ticket = harness.join(JoinGroup {
        requires_member_id: true,
        ..fixed("i", "")
    });
    assert_eq!(harness.joined(ticket).member_id, "i-001");
}

// ---- joining an existing group ----

#[test]
fn a_generation_waits_for_pending_members() {
    let mut harness = Harness::new();
    let (members, new) = harness.preparing(1);
    let pending = harness.join(JoinGroup {
        requires_member_id: true,
        ..dynamic("")
    });
    let GroupError::MemberIdRequired { member_id } = harness.join_error(pending) else {
        panic!("an id was expected");
    };
    let old = harness.join(dynamic(&members[0].member_id));
    assert!(harness.waits(old) && harness.waits(new));
    // The pending member leaves instead of joining.
    assert_eq!(harness.leave(&[leaving(&member_id)]), [Ok(())]);
    assert_eq!(
        harness.joined(old).generation,
        harness.joined(new).generation
    );
}

#[test]
fn a_pending_member_that_leaves_a_stable_group_causes_no_rebalance() {
    let mut harness = Harness::new();
    harness.stable(1);
    let pending = harness.join(JoinGroup {
        requires_member_id: true,
        ..dynamic("")
    });
    let GroupError::MemberIdRequired { member_id } = harness.join_error(pending) else {
        panic!("an id was expected");
    };
    assert_eq!(harness.leave(&[leaving(&member_id)]), [Ok(())]);
    assert_eq!(harness.group.state(), GroupState::Stable);
}

#[test]
fn a_new_member_makes_the_others_join_again() {
    let mut harness = Harness::new();
    let (members, new) = harness.preparing(2);
    assert_eq!(
        harness.heartbeat(&members[0]),
        Err(GroupError::RebalanceInProgress)
    );
    let again: Vec<_> = members
        .iter()
        .map(|member| harness.join(dynamic(&member.member_id)))
        .collect();
    let joined: Vec<_> = again
        .into_iter()
        .chain([new])
        .map(|ticket| harness.joined(ticket))
        .collect();
    let expected = members[0].generation + 1;
    assert!(joined.iter().all(|joined| joined.generation == expected));
    assert!(
        joined
            .iter()
            .all(|joined| joined.leader == members[0].member_id)
    );
    assert_eq!(joined[0].members.len(), 3);
    assert!(joined[1].members.is_empty() && joined[2].members.is_empty());
}

#[test]
fn members_that_do_not_join_again_in_time_are_removed() {
    let mut harness = Harness::new();
    let (members, new) = harness.preparing(2);
    let second = harness.join(dynamic(&members[1].member_id));
    // The leader keeps its session but does not join.
    for _ in 0..REBALANCE_MS / 5_000 {
        assert!(harness.waits(new));
        assert_eq!(
            harness.heartbeat(&members[0]),
            Err(GroupError::RebalanceInProgress)
        );
        harness.advance(5_000);
    }
    let (second, new) = (harness.joined(second), harness.joined(new));
    assert_eq!(second.leader, second.member_id);
    assert_eq!(new.leader, second.member_id);
    assert_eq!(
        harness.heartbeat(&members[0]),
        Err(GroupError::UnknownMemberId)
    );
}

#[test]
fn a_repeated_join_is_answered_again_without_a_rebalance() {
    let mut harness = Harness::new();
    let members = harness.completing(2);
    let leader = harness.join(dynamic(&members[0].member_id));
    let leader = harness.joined(leader);
    assert_eq!(leader.generation, members[0].generation);
    assert_eq!(leader.members.len(), 2);
    let follower = harness.join(dynamic(&members[1].member_id));
    assert_eq!(harness.joined(follower).members.len(), 0);
    harness.assign(&members);
    let follower = harness.join(dynamic(&members[1].member_id));
    assert_eq!(harness.joined(follower).generation, members[1].generation);
    assert_eq!(harness.group.state(), GroupState::Stable);
}

#[test]
fn a_leader_that_joins_again_causes_a_rebalance() {
    let mut harness = Harness::new();
    let members = harness.stable(2);
    let leader = harness.join(dynamic(&members[0].member_id));
    assert!(harness.waits(leader));
    assert_eq!(harness.group.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_member_with_new_metadata_causes_a_rebalance() {
    for assigned in [false, true] {
        let mut harness = Harness::new();
        let members = harness.completing(2);
        let mut waiting = None;
        if assigned {
            harness.assign(&members);
        } else {
            waiting = Some(harness.sync(&members[1], &[]));
        }
        let changed = harness.join(JoinGroup {
            protocols: protocols(&["range"], &["t", "u"]),
            ..dynamic(&members[0].member_id)
        });
        assert!(harness.waits(changed));
        assert_eq!(harness.group.state(), GroupState::PreparingRebalance);
        if let Some(waiting) = waiting {
            assert_eq!(harness.sync_error(waiting), GroupError::RebalanceInProgress);
        }
        let other = harness.join(dynamic(&members[1].member_id));
        assert_eq!(
            harness.joined(changed).generation,
            members[0].generation + 1
        );
        harness.joined(other);
        assert!(harness.group.is_subscribed_to("u"));
    }
}

#[test]
fn a_repeated_join_supersedes_the_waiting_one() {
    let mut harness = Harness::new();
    let (members, _new) = harness.preparing(2);
    let first = harness.join(dynamic(&members[0].member_id));
    let second = harness.join(dynamic(&members[0].member_id));
    assert_eq!(harness.join_error(first), GroupError::RebalanceInProgress);
    assert!(harness.waits(second));
}

#[test]
fn a_join_must_share_a_protocol_with_all_members() {
    let mut harness = Harness::new();
    let none = |harness: &mut Harness, protocol_type: &str, names: &[&str], member: &str| {
        let ticket = harness.join(JoinGroup {
            protocol_type: protocol_type.into(),
            protocols: protocols(names, &["t"]),
            ..dynamic(member)
        });
        assert_eq!(
            harness.join_error(ticket),
            GroupError::InconsistentGroupProtocol
        );
    };
    none(&mut harness, "", &["range"], "");
    none(&mut harness, "consumer", &[], "");
    let members = harness.stable(2);
    none(&mut harness, "connect", &["range"], "");
    none(&mut harness, "consumer", &["sticky"], "");
    none(&mut harness, "consumer", &["sticky"], &members[1].member_id);
    // The protocols are checked before the member id.
    none(&mut harness, "consumer", &["sticky"], "unknown");
    assert_eq!(harness.group.state(), GroupState::Stable);
}

#[test]
fn the_common_protocol_with_most_votes_is_selected() {
    let mut harness = Harness::with(limits(3_000, 100));
    let tickets = [
        &["a", "b", "c"][..],
        &["d", "c", "b", "a"],
        &["c", "b"],
        &["b", "c"],
        &["c", "a", "b"],
    ]
    .map(|names| {
        harness.join(JoinGroup {
            protocols: protocols(names, &["t"]),
            ..dynamic("")
        })
    });
    harness.advance(3_000);
    harness.advance(3_000);
    for ticket in tickets {
        assert_eq!(harness.joined(ticket).protocol_name.as_deref(), Some("c"));
    }
}

#[test]
fn a_full_group_rejects_new_members() {
    let mut harness = Harness::with(limits(0, 2));
    let members = harness.stable(2);
    let third = harness.join(dynamic(""));
    assert_eq!(harness.join_error(third), GroupError::GroupMaxSizeReached);
    assert_eq!(harness.group.state(), GroupState::Stable);
    // The first members to join again are accepted.
    let leader = harness.join(dynamic(&members[0].member_id));
    let third = harness.join(dynamic(""));
    assert!(harness.waits(leader) && harness.waits(third));
    let second = harness.join(dynamic(&members[1].member_id));
    assert_eq!(harness.join_error(second), GroupError::GroupMaxSizeReached);
    assert_eq!(
        harness.joined(leader).generation,
        harness.joined(third).generation
    );
    assert_eq!(
        harness.heartbeat(&members[1]),
        Err(GroupError::UnknownMemberId)
    );
}

// ---- syncing ----

#[test]
fn assignments_are_handed_out_once_they_are_stored() {
    let mut harness = Harness::new();
    let members = harness.completing(3);
    let follower = harness.sync(&members[1], &[]);
    let leader = harness.sync(
        &members[0],
        &[(&members[0].member_id, "x"), (&members[1].member_id, "y")],
    );
    assert!(harness.waits(leader) && harness.waits(follower));
    assert_eq!(harness.group.state(), GroupState::CompletingRebalance);
    let row = &harness.stores[0].0;
    assert_eq!((row.generation, row.members.len()), (3, 3));
    harness.stored(Ok(()));
    assert_eq!(harness.group.state(), GroupState::Stable);
    assert_eq!(harness.assignment(leader), "x");
    assert_eq!(harness.assignment(follower), "y");
    // A late member without an assignment.
    let late = harness.sync(&members[2], &[]);
    assert_eq!(harness.assignment(late), "");
    assert_eq!(harness.group.completed_rebalances(), 1);
}

#[test]
fn an_assignment_that_cannot_be_stored_is_not_handed_out() {
    let mut harness = Harness::new();
    let members = harness.completing(1);
    let leader = harness.sync(&members[0], &[]);
    harness.stored(Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(
        harness.sync_error(leader),
        GroupError::CoordinatorNotAvailable
    );
    assert_eq!(harness.group.state(), GroupState::PreparingRebalance);
    let again = harness.join(dynamic(&members[0].member_id));
    assert_eq!(harness.joined(again).generation, members[0].generation + 1);
}

#[test]
fn an_assignment_superseded_by_a_rebalance_is_dropped() {
    let mut harness = Harness::new();
    let members = harness.completing(1);
    let leader = harness.sync(&members[0], &[(&members[0].member_id, "old")]);
    let new = harness.join(dynamic(""));
    assert_eq!(harness.sync_error(leader), GroupError::RebalanceInProgress);
    let again = harness.join(dynamic(&members[0].member_id));
    let members = [
        identity(&harness.joined(again)),
        identity(&harness.joined(new)),
    ];
    harness.stored(Ok(()));
    assert_eq!(harness.group.state(), GroupState::CompletingRebalance);
    harness.assign(&members);
}

#[test]
fn a_sync_is_checked_for_member_instance_generation_and_protocol_in_this_order() {
    let mut harness = Harness::new();
    let member = harness.completing(1).remove(0);
    let wrong = MemberIdentity {
        member_id: "unknown".into(),
        group_instance_id: None,
        generation: 99,
    };
    let sync = |harness: &mut Harness, member: &MemberIdentity, kind: &str, name: &str| {
        let ticket = harness.sync_with(SyncGroup {
            group_id: "g".into(),
            member: member.clone(),
            protocol_type: Some(kind.into()),
            protocol_name: Some(name.into()),
            assignments: Vec::new(),
        });
        harness.sync_error(ticket)
    };
    let unknown = sync(&mut harness, &wrong, "x", "x");
    assert_eq!(unknown, GroupError::UnknownMemberId);
    let instance = instance(&generation(&member, 99), "i");
    assert_eq!(
        sync(&mut harness, &instance, "x", "x"),
        GroupError::UnknownMemberId
    );
    let old = sync(&mut harness, &generation(&member, 99), "x", "x");
    assert_eq!(old, GroupError::IllegalGeneration);
    for (kind, name) in [("x", "range"), ("consumer", "x")] {
        let refused = sync(&mut harness, &member, kind, name);
        assert_eq!(refused, GroupError::InconsistentGroupProtocol);
    }
}

#[test]
fn members_that_do_not_sync_in_time_are_removed() {
    let mut harness = Harness::new();
    let members = harness.completing(2);
    let follower = harness.sync(&members[1], &[]);
    // The leader sends heartbeats but no assignment.
    for _ in 0..REBALANCE_MS / 5_000 {
        assert!(harness.waits(follower));
        harness.heartbeat(&members[0]).unwrap();
        harness.advance(5_000);
    }
    assert_eq!(
        harness.sync_error(follower),
        GroupError::RebalanceInProgress
    );
    assert_eq!(
        harness.heartbeat(&members[0]),
        Err(GroupError::UnknownMemberId)
    );
    let again = harness.join(dynamic(&members[1].member_id));
    let joined = harness.joined(again);
    assert_eq!(joined.leader, members[1].member_id);
}

#[test]
fn a_follower_that_never_syncs_is_removed_from_a_stable_group() {
    let mut harness = Harness::new();
    let members = harness.completing(2);
    harness.sync(&members[0], &[]);
    harness.store_all();
    assert_eq!(harness.group.state(), GroupState::Stable);
    for _ in 0..REBALANCE_MS / 5_000 {
        assert_eq!(harness.group.state(), GroupState::Stable);
        for member in &members {
            harness.heartbeat(member).unwrap();
        }
        harness.advance(5_000);
    }
    assert_eq!(harness.group.state(), GroupState::PreparingRebalance);
    assert_eq!(
        harness.heartbeat(&members[1]),
        Err(GroupError::UnknownMemberId)
    );
}

#[test]
fn a_repeated_sync_supersedes_the_waiting_one() {
    let mut harness = Harness::new();
    let members = harness.completing(2);
    let first = harness.sync(&members[1], &[]);
    let second = harness.sync(&members[1], &[]);
    assert_eq!(harness.sync_error(first), GroupError::RebalanceInProgress);
    assert!(harness.waits(second));
}

#[test]
fn a_sync_during_the_join_phase_is_rejected() {
    let mut harness = Harness::new();
    let (members, _new) = harness.preparing(1);
    let early = harness.sync(&members[0], &[]);
    assert_eq!(harness.sync_error(early), GroupError::RebalanceInProgress);
}

// ---- sessions ----

#[test]
fn the_answer_to_a_heartbeat_depends_on_the_state() {
    let mut harness = Harness::new();
    let members = harness.completing(1);
    assert_eq!(harness.heartbeat(&members[0]), Ok(()));
    harness.assign(&members);
    assert_eq!(harness.heartbeat(&members[0]), Ok(()));
    let old = generation(&members[0], members[0].generation - 1);
    assert_eq!(harness.heartbeat(&old), Err(GroupError::IllegalGeneration));
    assert_eq!(
        harness.heartbeat(&nobody()),
        Err(GroupError::UnknownMemberId)
    );
    harness.join(dynamic(""));
    assert_eq!(
        harness.heartbeat(&members[0]),
        Err(GroupError::RebalanceInProgress)
    );
    assert_eq!(harness.heartbeat(&old), Err(GroupError::IllegalGeneration));
}

#[test]
fn an_expired_member_is_removed_and_the_others_rebalance() {
    let mut harness = Harness::new();
    let members = harness.stable(2);
    harness.advance(6_000);
    harness.heartbeat(&members[1]).unwrap();
    harness.advance(3_999);
    assert_eq!(harness.group.state(), GroupState::Stable);
    harness.advance(1);
    assert_eq!(harness.group.state(), GroupState::PreparingRebalance);
    assert_eq!(
        harness.heartbeat(&members[0]),
        Err(GroupError::UnknownMemberId)
    );
    let again = harness.join(dynamic(&members[1].member_id));
    assert_eq!(harness.joined(again).leader, members[1].member_id);
}

#[test]
fn the_group_is_empty_after_its_last_member_expires() {
    let mut harness = Harness::new();
    let members = harness.stable(1);
    harness.advance(SESSION_MS as u64);
    assert_eq!(harness.group.state(), GroupState::Empty);
    let (row, then) = harness.stores.last().unwrap();
    assert!(matches!(then, AfterStore::Nothing));
    assert_eq!(row.generation, members[0].generation + 1);
    assert_eq!(row.state_since_ms, harness.now.unix_ms);
    assert_eq!((row.members.len(), &row.leader), (0, &None));
    assert_eq!(row.protocol_type.as_deref(), Some("consumer"));
}

#[test]
fn an_established_member_with_a_waiting_join_does_not_expire() {
    let mut harness = Harness::new();
    let (members, new) = harness.preparing(2);
    let waiting = harness.join(dynamic(&members[0].member_id));
    // Longer than the session timeout, shorter than the rebalance timeout. The second member keeps the group waiting.
    for _ in 0..4 {
        harness.advance(5_000);
        let _ = harness.heartbeat(&members[1]);
    }
    assert!(harness.waits(waiting) && harness.waits(new));
    let last = harness.join(dynamic(&members[1].member_id));
    for ticket in [waiting, new, last] {
        harness.joined(ticket);
    }
    // Once answered, it must send heartbeats again.
    harness.advance(SESSION_MS as u64);
    assert_eq!(harness.group.member_count(), 0);
}

#[test]
fn a_new_member_whose_first_join_waits_too_long_is_removed() {
    let mut harness = Harness::new();
    let join = |id: &str| JoinGroup {
        rebalance_timeout_ms: i32::MAX,
        ..dynamic(id)
    };
    let first = harness.join(join(""));
    let member = identity(&harness.joined(first));
    harness.assign(std::slice::from_ref(&member));
    let new = harness.join(join(""));
    let mut waited = 0;
    while waited < NEW_MEMBER_MS {
        assert!(harness.waits(new));
        let _ = harness.heartbeat(&member);
        harness.advance(5_000);
        waited += 5_000;
    }
    assert_eq!(harness.join_error(new), GroupError::UnknownMemberId);
}

#[test]
fn a_leader_that_expires_before_it_assigns_is_replaced() {
    let mut harness = Harness::new();
    let members = harness.completing(2);
    let follower = harness.sync(&members[1], &[]);
    harness.advance(SESSION_MS as u64);
    assert_eq!(
        harness.sync_error(follower),
        GroupError::RebalanceInProgress
    );
    let again = harness.join(dynamic(&members[1].member_id));
    assert_eq!(harness.joined(again).leader, members[1].member_id);
}

// ---- leaving ----

#[test]
fn leaving_members_get_one_result_each_and_cause_one_rebalance() {
    let mut harness = Harness::new();
    let members = harness.stable(3);
    let answers = harness.leave(&[
        leaving(&members[0].member_id),
        leaving("unknown"),
        leaving(&members[2].member_id),
        leaving(""),
        leaving(&members[0].member_id),
    ]);
    let unknown = Err(GroupError::UnknownMemberId);
    assert_eq!(
        answers,
        [Ok(()), unknown.clone(), Ok(()), unknown.clone(), unknown]
    );
    let again = harness.join(dynamic(&members[1].member_id));
    let joined = harness.joined(again);
    assert_eq!(joined.generation, members[1].generation + 1);
    assert_eq!(joined.leader, members[1].member_id);
}

#[test]
fn waiting_requests_of_a_leaving_member_are_answered() {
    let mut harness = Harness::new();
    let (_members, new) = harness.preparing(1);
    let new_id = "member-002";
    assert_eq!(harness.leave(&[leaving(new_id)]), [Ok(())]);
    assert_eq!(harness.join_error(new), GroupError::UnknownMemberId);

    let mut harness = Harness::new();
    let members = harness.completing(2);
    let waiting = harness.sync(&members[1], &[]);
    harness.leave(&[leaving(&members[1].member_id)]);
    assert_eq!(harness.sync_error(waiting), GroupError::UnknownMemberId);
}

#[test]
fn a_join_phase_completes_when_the_last_missing_member_leaves() {
    let mut harness = Harness::new();
    let (members, new) = harness.preparing(1);
    assert!(harness.waits(new));
    harness.leave(&[leaving(&members[0].member_id)]);
    let joined = harness.joined(new);
    assert_eq!(joined.leader, joined.member_id);
}

#[test]
fn an_operator_removes_static_members_by_instance() {
    let mut harness = Harness::new();
    let ticket = harness.join(fixed("i", ""));
    let member = identity(&harness.joined(ticket));
    harness.assign(&[member]);
    let by_instance = |instance: &str, member_id: &str| LeavingMember {
        member_id: member_id.into(),
        group_instance_id: Some(instance.into()),
        reason: None,
    };
    let answers = harness.leave(&[
        by_instance("other", ""),
        by_instance("i", "someone"),
        by_instance("i", ""),
    ]);
    assert_eq!(
        answers,
        [
            Err(GroupError::UnknownMemberId),
            Err(GroupError::FencedInstanceId),
            Ok(())
        ]
    );
    assert_eq!(harness.group.state(), GroupState::Empty);
}

// ---- static members ----

/// A stable group of the static members `a`, the leader, and `b`.
fn static_pair(harness: &mut Harness) -> [MemberIdentity; 2] {
    let a = harness.join(fixed("a", ""));
    let a = harness.joined(a).member_id;
    let b = harness.join(fixed("b", ""));
    let a = harness.join(fixed("a", &a));
    let pair = [identity(&harness.joined(a)), identity(&harness.joined(b))];
    harness.assign(&pair);
    pair
}

#[test]
fn a_static_member_that_restarts_takes_over_without_a_rebalance() {
    let mut harness = Harness::new();
    let [a, b] = static_pair(&mut harness);
    let back = harness.join(fixed("b", ""));
    assert!(harness.waits(back), "until its new id is stored");
    harness.stored(Ok(()));
    let joined = harness.joined(back);
    assert_eq!(harness.group.state(), GroupState::Stable);
    assert_eq!(joined.generation, b.generation);
    assert_ne!(joined.member_id, b.member_id);
    assert!(!joined.skip_assignment, "a follower never assigns");
    let now = identity(&joined);
    let synced = harness.sync(&now, &[]);
    assert_eq!(harness.assignment(synced), b.member_id);
    assert_eq!(harness.heartbeat(&a), Ok(()));
    assert_eq!(
        harness.heartbeat(&instance(&b, "b")),
        Err(GroupError::FencedInstanceId)
    );
    assert_eq!(harness.heartbeat(&b), Err(GroupError::UnknownMemberId));
    let stored = &harness.rows.last().unwrap().members;
    assert!(
        stored
            .iter()
            .any(|member| member.member_id == now.member_id)
    );
}

#[test]
fn a_static_leader_that_restarts_keeps_the_assignment() {
    for supports_skipping_assignment in [true, false] {
        let mut harness = Harness::new();
        let [a, _b] = static_pair(&mut harness);
        let back = harness.join(JoinGroup {
            supports_skipping_assignment,
            ..fixed("a", "")
        });
        harness.stored(Ok(()));
        let joined = harness.joined(back);
        if supports_skipping_assignment {
            assert!(joined.skip_assignment);
            assert_eq!(joined.leader, joined.member_id);
            assert_eq!(joined.members.len(), 2, "needed to watch their topics");
        } else {
            // It must not be reported as the leader, or it would compute a new assignment.
            assert!(!joined.skip_assignment);
            assert_eq!(joined.leader, a.member_id);
            assert!(joined.members.is_empty());
        }
        let synced = harness.sync(&identity(&joined), &[]);
        assert_eq!(harness.assignment(synced), a.member_id);
    }
}

#[test]
fn a_static_member_that_restarts_with_other_topics_causes_a_rebalance() {
    let mut harness = Harness::new();
    let [a, _b] = static_pair(&mut harness);
    let back = harness.join(JoinGroup {
        protocols: protocols(&["range"], &["u"]),
        ..fixed("b", "")
    });
    assert!(harness.stores.is_empty());
    assert_eq!(harness.group.state(), GroupState::PreparingRebalance);
    let leader = harness.join(fixed("a", &a.member_id));
    assert_eq!(harness.joined(leader).generation, a.generation + 1);
    harness.joined(back);
}

#[test]
fn a_static_member_that_restarts_during_the_join_phase_joins_that_generation() {
    let mut harness = Harness::new();
    let [a, _b] = static_pair(&mut harness);
    let waiting = harness.join(fixed("a", &a.member_id));
    let back = harness.join(fixed("a", ""));
    assert_eq!(harness.join_error(waiting), GroupError::FencedInstanceId);
    let b = harness.join(fixed("b", ""));
    let (back, b) = (harness.joined(back), harness.joined(b));
    assert_eq!(back.generation, a.generation + 1);
    assert_eq!(
        b.leader, back.member_id,
        "leadership stays with the instance"
    );
}

#[test]
fn a_static_member_that_restarts_before_the_assignment_causes_a_rebalance() {
    let mut harness = Harness::new();
    let a = harness.join(fixed("a", ""));
    let a = identity(&harness.joined(a));
    let waiting = harness.sync(&a, &[]);
    let back = harness.join(fixed("a", ""));
    assert_eq!(harness.sync_error(waiting), GroupError::FencedInstanceId);
    assert_eq!(harness.joined(back).generation, a.generation + 1);
    harness.stored(Ok(()));
    assert_eq!(harness.group.state(), GroupState::CompletingRebalance);
}

#[test]
fn a_static_takeover_superseded_by_a_rebalance_joins_the_new_generation() {
    let mut harness = Harness::new();
    let [a, b] = static_pair(&mut harness);
    let back = harness.join(fixed("b", ""));
    let leader = harness.join(fixed("a", &a.member_id));
    assert_eq!(harness.joined(back).generation, b.generation + 1);
    harness.joined(leader);
    harness.stored(Ok(()));
}

#[test]
fn a_static_takeover_that_cannot_be_stored_fails_and_can_be_retried() {
    let mut harness = Harness::new();
    let [_a, b] = static_pair(&mut harness);
    let back = harness.join(fixed("b", ""));
    harness.stored(Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(
        harness.join_error(back),
        GroupError::CoordinatorNotAvailable
    );
    assert_eq!(harness.group.state(), GroupState::Stable);
    let back = harness.join(fixed("b", ""));
    harness.stored(Ok(()));
    let joined = harness.joined(back);
    let synced = harness.sync(&identity(&joined), &[]);
    assert_eq!(harness.assignment(synced), b.member_id);
}

#[test]
fn static_members_that_miss_a_join_phase_are_kept() {
    let mut harness = Harness::new();
    let [a, b] = static_pair(&mut harness);
    let leader = harness.join(fixed("a", &a.member_id));
    for _ in 0..REBALANCE_MS / 5_000 {
        assert!(harness.waits(leader));
        let _ = harness.heartbeat(&b);
        harness.advance(5_000);
    }
    let joined = harness.joined(leader);
    assert_eq!(joined.members.len(), 2, "it stays in the generation");
}

#[test]
fn a_join_phase_that_no_static_member_joins_lasts_until_sessions_expire() {
    let mut harness = Harness::new();
    let long = |instance: &str, id: &str| JoinGroup {
        session_timeout_ms: 100_000,
        ..fixed(instance, id)
    };
    let a = harness.join(long("a", ""));
    let a = harness.joined(a).member_id;
    let dynamic_ticket = harness.join(dynamic(""));
    let a = harness.join(long("a", &a));
    let pair = [
        identity(&harness.joined(a)),
        identity(&harness.joined(dynamic_ticket)),
    ];
    harness.assign(&pair);
    harness.leave(&[leaving(&pair[1].member_id)]);
    for _ in 0..3 {
        harness.advance(REBALANCE_MS as u64);
        assert_eq!(harness.group.state(), GroupState::PreparingRebalance);
    }
    harness.advance(10_000);
    assert_eq!(harness.group.state(), GroupState::Empty);
}

#[test]
fn a_fenced_member_is_rejected_by_every_request() {
    let mut harness = Harness::new();
    let [_a, b] = static_pair(&mut harness);
    let back = harness.join(fixed("b", ""));
    harness.stored(Ok(()));
    harness.joined(back);
    let fenced = instance(&b, "b");
    let join = harness.join(fixed("b", &b.member_id));
    assert_eq!(harness.join_error(join), GroupError::FencedInstanceId);
    let sync = harness.sync(&fenced, &[]);
    assert_eq!(harness.sync_error(sync), GroupError::FencedInstanceId);
    assert_eq!(
        harness.heartbeat(&fenced),
        Err(GroupError::FencedInstanceId)
    );
    assert_eq!(
        harness.group.begin_commit(&fenced, harness.now),
        Err(GroupError::FencedInstanceId)
    );
}

// ---- committing ----

#[test]
fn a_commit_is_accepted_by_state_member_and_generation() {
    let mut harness = Harness::new();
    let now = harness.now;
    let someone = MemberIdentity {
        member_id: "someone".into(),
        group_instance_id: None,
        generation: 1,
    };
    assert_eq!(harness.group.begin_commit(&nobody(), now), Ok(()));
    assert_eq!(
        harness.group.begin_commit(&someone, now),
        Err(GroupError::UnknownMemberId)
    );
    let members = harness.completing(2);
    let commit =
        |harness: &mut Harness, member: &MemberIdentity| harness.group.begin_commit(member, now);
    assert_eq!(
        commit(&mut harness, &members[0]),
        Err(GroupError::RebalanceInProgress)
    );
    assert_eq!(
        commit(&mut harness, &nobody()),
        Err(GroupError::UnknownMemberId)
    );
    harness.assign(&members);
    assert_eq!(commit(&mut harness, &members[1]), Ok(()));
    assert_eq!(
        commit(&mut harness, &nobody()),
        Err(GroupError::UnknownMemberId)
    );
    assert_eq!(
        commit(&mut harness, &someone),
        Err(GroupError::UnknownMemberId)
    );
    for old in [-1, members[0].generation - 1, members[0].generation + 1] {
        assert_eq!(
            commit(&mut harness, &generation(&members[0], old)),
            Err(GroupError::IllegalGeneration)
        );
    }
    // During the join phase, members can still commit what they have read.
    harness.join(dynamic(""));
    assert_eq!(commit(&mut harness, &members[0]), Ok(()));
}

#[test]
fn a_commit_counts_as_a_heartbeat() {
    let mut harness = Harness::new();
    let members = harness.stable(1);
    for _ in 0..5 {
        harness.advance(SESSION_MS as u64 - 1);
        harness
            .group
            .begin_commit(&members[0], harness.now)
            .unwrap();
    }
    assert_eq!(harness.group.state(), GroupState::Stable);
}

// ---- restarting, describing ----

#[test]
fn a_restored_group_equals_the_stored_one() {
    let mut harness = Harness::new();
    let members = harness.stable(2);
    let before = harness.group.describe();
    let row = harness.rows.last().unwrap().clone();
    let mut effects = Effects::new();
    harness.group = StateMachine::restore(row, limits(0, 100), harness.now, &mut effects);
    assert!(effects.is_empty());
    assert_eq!(harness.group.describe(), before);
    for member in &members {
        harness.heartbeat(member).unwrap();
        let synced = harness.sync(member, &[]);
        assert_eq!(harness.assignment(synced), member.member_id);
    }
    assert!(harness.group.is_subscribed_to("t"));
    harness.advance(SESSION_MS as u64);
    assert_eq!(harness.group.state(), GroupState::Empty);
}

#[test]
fn a_restored_group_above_the_size_limit_rebalances() {
    let mut harness = Harness::new();
    let members = harness.stable(2);
    let row = harness.rows.last().unwrap().clone();
    let mut effects = Effects::new();
    harness.group = StateMachine::restore(row, limits(0, 1), harness.now, &mut effects);
    assert_eq!(
        harness.heartbeat(&members[0]),
        Err(GroupError::RebalanceInProgress)
    );
    let kept = harness.join(dynamic(&members[1].member_id));
    let refused = harness.join(dynamic(&members[0].member_id));
    assert_eq!(harness.join_error(refused), GroupError::GroupMaxSizeReached);
    harness.joined(kept);
}

#[test]
fn a_row_without_a_protocol_is_restored_as_an_empty_group() {
    let mut harness = Harness::new();
    harness.stable(1);
    let mut row = harness.rows.last().unwrap().clone();
    row.protocol = None;
    let mut effects = Effects::new();
    let group = StateMachine::restore(row, limits(0, 100), harness.now, &mut effects);
    assert_eq!(group.state(), GroupState::Empty);
    assert_eq!(group.member_count(), 0);
}

#[test]
fn metadata_and_assignments_are_shown_once_the_group_is_stable() {
    let mut harness = Harness::new();
    let members = harness.completing(1);
    let shown = harness.group.describe();
    assert_eq!(shown.protocol, "");
    assert_eq!(shown.members[0].metadata, Bytes::new());
    assert_eq!(shown.members[0].client_host, "/127.0.0.1");
    harness.assign(&members);
    let shown = harness.group.describe();
    assert_eq!(shown.protocol, "range");
    assert_eq!(shown.members[0].metadata, subscription::encode(&["t"]));
    assert_eq!(shown.members[0].assignment, members[0].member_id);
}

#[test]
fn malformed_subscriptions_count_for_every_topic() {
    let mut harness = Harness::new();
    let ticket = harness.join(JoinGroup {
        protocols: vec![("range".into(), Bytes::from_static(b"?"))],
        ..dynamic("")
    });
    harness.joined(ticket);
    assert!(harness.group.is_subscribed_to("anything"));
    assert!(harness.group.subscribed.is_none());
}

#[test]
fn the_generation_wraps_to_one_on_overflow() {
    let mut harness = Harness::new();
    harness.group.generation = i32::MAX;
    let ticket = harness.join(dynamic(""));
    assert_eq!(harness.joined(ticket).generation, 1);
}
