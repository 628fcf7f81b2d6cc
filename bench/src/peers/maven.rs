//! Jars from Maven Central, through `mvn`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Writes the jars of a project, one after the other, to the file `classpath`.
pub fn classpath(folder: &Path, pom: &str, classpath: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("pom.xml"), pom)?;
    let unfinished = folder.join("classpath.unfinished");
    let mut output = std::ffi::OsString::from("-Dmdep.outputFile=");
    output.push(&unfinished);
    let status = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(folder.join("pom.xml"))
        .args(["dependency:build-classpath", "-Dmdep.includeScope=runtime"])
        .arg(output)
        .status()
        .context("mvn cannot be started")?;
    ensure!(status.success(), "mvn ended with {status}");
    fs::rename(unfinished, classpath)?;
    Ok(())
}
