//! Jars from Maven Central, through `mvn`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::process::Process;

/// Writes the jars of a project to the file `classpath`.
pub fn classpath(folder: &Path, pom: &str, classpath: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("pom.xml"), pom)?;
    let unfinished = folder.join("classpath.unfinished");
    let mut output = std::ffi::OsString::from("-Dmdep.outputFile=");
    output.push(&unfinished);
    let mut command = Command::new("mvn");
    command
        .args(["-q", "-B", "-Dstyle.color=never", "-f"])
        .arg(folder.join("pom.xml"))
        .args(["dependency:build-classpath", "-Dmdep.includeScope=runtime"])
        .arg(output);
    let status = Process::start("mvn", &mut command)?.wait()?;
    ensure!(status.success(), "mvn exited with {status}");
    fs::rename(unfinished, classpath)?;
    Ok(())
}
