//! The Prometheus JMX exporter as an agent in Kafka, which exposes the broker's metrics to Prometheus.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::maven;

const POM: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>streamline</groupId>
  <artifactId>bench-jmx-exporter</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>io.prometheus.jmx</groupId>
      <artifactId>jmx_prometheus_javaagent</artifactId>
      <version>[1.0.0,2.0.0-alpha)</version>
    </dependency>
  </dependencies>
</project>
"#;

/// Common rules: counters of rates, gauges, percentiles of timers, each by topic and partition.
pub const RULES: &str = r#"lowercaseOutputName: true
lowercaseOutputLabelNames: true
rules:
  - pattern: kafka.(\w+)<type=(.+), name=(.+)PerSec\w*, (.+)=(.+), (.+)=(.+)><>Count
    name: kafka_$1_$2_$3_total
    type: COUNTER
    labels: { "$4": "$5", "$6": "$7" }
  - pattern: kafka.(\w+)<type=(.+), name=(.+)PerSec\w*, (.+)=(.+)><>Count
    name: kafka_$1_$2_$3_total
    type: COUNTER
    labels: { "$4": "$5" }
  - pattern: kafka.(\w+)<type=(.+), name=(.+)PerSec\w*><>Count
    name: kafka_$1_$2_$3_total
    type: COUNTER
  - pattern: kafka.(\w+)<type=(.+), name=(.+), (.+)=(.+), (.+)=(.+)><>Value
    name: kafka_$1_$2_$3
    type: GAUGE
    labels: { "$4": "$5", "$6": "$7" }
  - pattern: kafka.(\w+)<type=(.+), name=(.+), (.+)=(.+)><>Value
    name: kafka_$1_$2_$3
    type: GAUGE
    labels: { "$4": "$5" }
  - pattern: kafka.(\w+)<type=(.+), name=(.+)><>Value
    name: kafka_$1_$2_$3
    type: GAUGE
  - pattern: kafka.(\w+)<type=(.+), name=(.+), (.+)=(.+)><>(\d+)thPercentile
    name: kafka_$1_$2_$3
    type: GAUGE
    labels: { "$4": "$5", quantile: "0.$6" }
"#;

/// Returns the agent's jar: the newest 1.x, or the one fetched before.
pub fn fetch(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("jmx-exporter");
    let classpath = folder.join("classpath");
    if !classpath.is_file() {
        eprintln!("fetching the Prometheus JMX exporter with Maven");
        maven::classpath(&folder, POM, &classpath)?;
    }
    let jars = fs::read_to_string(classpath)?;
    let jar = jars
        .trim()
        .split(':')
        .find(|jar| jar.contains("jmx_prometheus_javaagent"))
        .context("no agent among the jars")?;
    ensure!(
        Path::new(jar).is_file(),
        "{jar} does not exist; remove {}",
        folder.display()
    );
    Ok(PathBuf::from(jar))
}
