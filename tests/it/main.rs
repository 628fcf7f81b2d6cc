//! The whole server, from outside: what goes over its ports, into its directory and out of its process.

#[path = "../support/mod.rs"]
mod support;

mod cli;
mod configuration;
mod connections;
mod dump_log;
mod groups;
mod health;
mod hostile;
mod shutdown;
mod startup;
mod thin_whole;
