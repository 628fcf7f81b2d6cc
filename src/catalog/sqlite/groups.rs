//! The tables of groups and their members.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use crate::catalog::{Error, GroupRow, MemberRow};

pub(super) fn load(db: &Connection) -> Result<Vec<GroupRow>, Error> {
    let mut members: HashMap<String, Vec<MemberRow>> = HashMap::new();
    let mut statement = db.prepare(
        "SELECT group_id, member_id, group_instance_id, client_id, client_host, session_timeout_ms,
                rebalance_timeout_ms, subscription, assignment
         FROM group_members ORDER BY group_id, member_id",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let subscription: Vec<u8> = row.get(7)?;
        let assignment: Vec<u8> = row.get(8)?;
        members.entry(row.get(0)?).or_default().push(MemberRow {
            member_id: row.get(1)?,
            group_instance_id: row.get(2)?,
            client_id: row.get(3)?,
            client_host: row.get(4)?,
            session_timeout_ms: row.get(5)?,
            rebalance_timeout_ms: row.get(6)?,
            subscription: subscription.into(),
            assignment: assignment.into(),
        });
    }
    let mut statement = db.prepare(
        "SELECT id, protocol_type, generation, protocol, leader, state_since_ms FROM groups ORDER BY id",
    )?;
    let mut rows = statement.query([])?;
    let mut groups = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let members = members.remove(&id).unwrap_or_default();
        groups.push(GroupRow {
            id,
            protocol_type: row.get(1)?,
            generation: row.get(2)?,
            protocol: row.get(3)?,
            leader: row.get(4)?,
            state_since_ms: row.get(5)?,
            members,
        });
    }
    Ok(groups)
}

/// Replaces the group and all its members.
pub(super) fn store(db: &Connection, group: &GroupRow) -> Result<(), Error> {
    delete(db, &group.id)?;
    db.prepare_cached(
        "INSERT INTO groups (id, protocol_type, generation, protocol, leader, state_since_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        group.id,
        group.protocol_type,
        group.generation,
        group.protocol,
        group.leader,
        group.state_since_ms
    ])?;
    let mut insert = db.prepare_cached(
        "INSERT INTO group_members
             (group_id, member_id, group_instance_id, client_id, client_host, session_timeout_ms,
              rebalance_timeout_ms, subscription, assignment)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for member in &group.members {
        insert.execute(params![
            group.id,
            member.member_id,
            member.group_instance_id,
            member.client_id,
            member.client_host,
            member.session_timeout_ms,
            member.rebalance_timeout_ms,
            &member.subscription[..],
            &member.assignment[..],
        ])?;
    }
    Ok(())
}

pub(super) fn delete(db: &Connection, id: &str) -> Result<(), Error> {
    db.prepare_cached("DELETE FROM groups WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}

/// Deletes the group and its members if it has neither committed nor pending offsets.
pub(super) fn delete_without_offsets(db: &Connection, id: &str) -> Result<(), Error> {
    db.prepare_cached(
        "DELETE FROM groups WHERE id = ?1
         AND NOT EXISTS (SELECT 1 FROM committed_offsets WHERE group_id = ?1)
         AND NOT EXISTS (SELECT 1 FROM pending_offsets WHERE group_id = ?1)",
    )?
    .execute([id])?;
    Ok(())
}
