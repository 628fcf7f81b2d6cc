//! The newest Apache Kafka 4.x: one broker in KRaft mode, with the settings, heap and garbage collector of its start
//! script.
//!
//! Maven fetches it once into the cache. To fetch a newer one, remove the cache.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::{Server, jmx_exporter, maven, serves};
use crate::context::Context;
use crate::process::Process;

const START_LIMIT: Duration = Duration::from_secs(180);
/// Any 16 bytes in Kafka's encoding.
const CLUSTER_ID: &str = "c3RyZWFtbGluZS1iZW5jaA";
/// Java options of `bin/kafka-server-start.sh` and `bin/kafka-run-class.sh`.
const JAVA: &[&str] = &[
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];
const POM: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>streamline</groupId>
  <artifactId>bench-kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>[4.0.0,5.0.0-alpha)</version>
    </dependency>
  </dependencies>
</project>
"#;

/// Kafka's jars.
#[derive(Debug, Clone)]
pub struct Kafka {
    classpath: String,
    pub version: String,
}

/// Fetches the newest version, or returns the one fetched before.
pub fn fetch(cache: &Path) -> Result<Kafka> {
    let folder = cache.join("kafka");
    let classpath = folder.join("classpath");
    if !classpath.is_file() {
        eprintln!("fetching Apache Kafka with Maven");
        maven::classpath(&folder, POM, &classpath)?;
    }
    let classpath = fs::read_to_string(classpath)?.trim().to_owned();
    let version = classpath
        .split(':')
        .filter_map(|jar| {
            Path::new(jar)
                .file_stem()?
                .to_str()?
                .strip_prefix("kafka_2.13-")
        })
        .next()
        .context("no kafka_2.13 among the jars")?
        .to_owned();
    Ok(Kafka { classpath, version })
}

/// Starts a broker in an empty directory with `settings` (lines of server.properties) besides its defaults.
pub fn start(context: &Context, settings: &[&str]) -> Result<Server> {
    let directory = formatted(context, settings)?;
    start_in(context, directory)
}

/// Starts a broker with the JMX exporter, which serves metrics at the server's `http`.
pub fn start_observed(context: &Context) -> Result<Server> {
    let agent = context.peers.jmx_exporter()?;
    let directory = formatted(context, &[])?;
    let rules = directory.path().join("rules.yml");
    fs::write(&rules, jmx_exporter::RULES)?;
    let [http, _] = free_ports()?;
    let option = format!("-javaagent:{}={http}:{}", agent.display(), rules.display());
    let mut server = start_with(context, directory, &[&option])?;
    server.http = Some(http);
    Ok(server)
}

/// Creates a directory formatted for Kafka.
fn formatted(context: &Context, settings: &[&str]) -> Result<TempDir> {
    let kafka = context.peers.kafka()?;
    let directory = context.directory()?;
    let properties = directory.path().join("server.properties");
    fs::write(&properties, server_properties(directory.path(), settings)?)?;
    let mut format = java(kafka);
    format
        .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
        .arg(&properties);
    let output = format.output().context("cannot start java")?;
    ensure!(
        output.status.success(),
        "kafka.tools.StorageTool: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(directory)
}

/// Starts a broker on the directory of an earlier one, with the same settings.
pub fn start_in(context: &Context, directory: TempDir) -> Result<Server> {
    start_with(context, directory, &[])
}

fn start_with(context: &Context, directory: TempDir, options: &[&str]) -> Result<Server> {
    let kafka = context.peers.kafka()?;
    let properties = directory.path().join("server.properties");
    let address = listener(&properties)?;
    let mut command = java(kafka);
    command
        .args(JAVA)
        .args(options)
        .arg("kafka.Kafka")
        .arg(&properties);
    let what = format!("Apache Kafka {}", kafka.version);
    let observed = if options.is_empty() { "" } else { ", observed" };
    context.note_command(&format!("{what}{observed}"), &shown(options, &properties));
    let log = directory.path().join("server.log");
    let mut process = Process::start_logged("Kafka", &mut command, &log)?;
    process.wait_for("broker that serves", START_LIMIT, || serves(address))?;
    Ok(Server {
        name: what,
        address,
        http: None,
        process,
        directory,
    })
}

fn java(kafka: &Kafka) -> Command {
    let mut command = Command::new("java");
    command.arg("-cp").arg(&kafka.classpath);
    command
}

/// Returns the command line for the report, without the hundred jars.
fn shown(options: &[&str], properties: &Path) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-cp", "JARS"])
        .args(JAVA)
        .args(options)
        .arg("kafka.Kafka")
        .arg(properties);
    command
}

fn server_properties(directory: &Path, settings: &[&str]) -> Result<String> {
    let [broker, controller] = free_ports()?;
    let data: PathBuf = directory.join("data");
    let mut lines = vec![
        "process.roles=broker,controller".to_owned(),
        "node.id=1".to_owned(),
        format!("controller.quorum.voters=1@{controller}"),
        format!("listeners=PLAINTEXT://{broker},CONTROLLER://{controller}"),
        format!("advertised.listeners=PLAINTEXT://{broker}"),
        "controller.listener.names=CONTROLLER".to_owned(),
        format!("log.dirs={}", data.display()),
        "offsets.topic.replication.factor=1".to_owned(),
        "transaction.state.log.replication.factor=1".to_owned(),
        "transaction.state.log.min.isr=1".to_owned(),
        "share.coordinator.state.topic.replication.factor=1".to_owned(),
    ];
    lines.extend(settings.iter().map(|line| (*line).to_owned()));
    Ok(lines.join("\n") + "\n")
}

/// Returns the broker's address from its properties.
fn listener(properties: &Path) -> Result<SocketAddr> {
    let text = fs::read_to_string(properties)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("listeners=PLAINTEXT://"))
        .context("no listener")?;
    let address = line.split(',').next().unwrap_or(line);
    Ok(address.parse()?)
}

/// Returns free ports: Kafka does not choose its own, nor its controller's.
fn free_ports() -> Result<[SocketAddr; 2]> {
    let listeners = [
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    ];
    let [broker, controller] = &listeners;
    Ok([broker.local_addr()?, controller.local_addr()?])
}
