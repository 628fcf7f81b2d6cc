//! Tests of the whole server through its ports, files, output and exit code.

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod cli;
mod cluster;
mod compaction;
mod configs;
mod configuration;
mod connections;
mod counting;
mod dump_log;
mod features;
mod fetch;
mod fetch_sessions;
mod groups;
mod health;
mod hostile;
mod lag;
mod leader_epochs;
mod list_offsets;
mod listeners;
mod memory;
mod metadata;
mod produce;
mod produce_refusals;
mod producer_ids;
mod quotas;
mod repetition;
mod shutdown;
mod startup;
mod thin_whole;
mod topic_ids;
mod topic_partitions;
mod topics;
mod transactions;
mod transactions_on_the_wire;

use support::kafka;
