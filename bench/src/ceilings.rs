//! Limits of the machine: programs that only move the same bytes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::clock;
use crate::loads::{Moved, Turn};

/// Bytes read or written at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Receives `bytes` from a socket and writes them to a new file (left in the page cache): the limit of produce.
///
/// The CPU is the receiving side's.
pub fn socket_to_file(directory: &Path, bytes: u64) -> Result<Turn> {
    let (mut sending, mut receiving) = connected()?;
    let path = directory.join("ceiling");
    let mut file = File::create(&path)?;
    let cpu = clock::thread_cpu()?;
    let began = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let sender = scope.spawn(move || -> Result<()> {
            let chunk = vec![b'x'; CHUNK_BYTES];
            let mut left = bytes as usize;
            while left > 0 {
                let next = left.min(CHUNK_BYTES);
                sending.write_all(&chunk[..next])?;
                left -= next;
            }
            Ok(())
        });
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let read = receiving.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read])?;
        }
        sender.join().expect("the sender does not panic")
    })?;
    let elapsed = began.elapsed();
    let spent = clock::thread_cpu()? - cpu;
    std::fs::remove_file(path)?;
    Ok((Moved { bytes, elapsed }, spent))
}

/// Creates a file of `bytes` bytes to send.
pub fn file(directory: &Path, bytes: u64) -> Result<File> {
    let path = directory.join("to-send");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    let chunk = vec![b'x'; CHUNK_BYTES];
    let mut left = bytes as usize;
    while left > 0 {
        let next = left.min(CHUNK_BYTES);
        file.write_all(&chunk[..next])?;
        left -= next;
    }
    Ok(file)
}

/// Sends bytes of a file to a socket by `sendfile`: the limit of fetch.
///
/// The CPU is the sending side's.
pub fn sendfile(file: &File, bytes: u64) -> Result<Turn> {
    let (sending, mut receiving) = connected()?;
    let began = Instant::now();
    let spent = thread::scope(|scope| -> Result<Duration> {
        let sender = scope.spawn(move || -> Result<Duration> {
            let mut offset = 0;
            while offset < bytes {
                let left = (bytes - offset) as usize;
                let sent = rustix::fs::sendfile(&sending, file, Some(&mut offset), left)?;
                ensure!(sent > 0, "the file is shorter than {bytes} bytes");
            }
            Ok(clock::thread_cpu()?)
        });
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut received = 0;
        while received < bytes {
            let read = receiving.read(&mut buffer)?;
            ensure!(read > 0, "the sender stopped early");
            received += read as u64;
        }
        sender.join().expect("the sender does not panic")
    })?;
    let elapsed = began.elapsed();
    Ok((Moved { bytes, elapsed }, spent))
}

/// Appends `bytes` to a file and flushes it, `times` times. Returns the duration of each.
pub fn append_and_fdatasync(directory: &Path, bytes: usize, times: usize) -> Result<Vec<Duration>> {
    let path = directory.join("synced");
    let mut file = File::create(&path)?;
    let chunk = vec![b'x'; bytes];
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let began = Instant::now();
        file.write_all(&chunk)?;
        file.sync_data()?;
        taken.push(began.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(taken)
}

/// Serves until the process is killed: reads frames and responds to each with `answer_bytes` bytes, on tokio like the
/// server. Runs in a separate process; the first line on standard output is the address.
pub fn serve_echo(answer_bytes: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                if let Err(error) = echo(stream, answer_bytes).await {
                    eprintln!("echo: {error}");
                }
            });
        }
    })
}

async fn echo(mut stream: tokio::net::TcpStream, answer_bytes: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let answer = [
        &(answer_bytes as u32).to_be_bytes()[..],
        &vec![0; answer_bytes],
    ]
    .concat();
    let mut buffer = vec![0; 64 * 1024];
    let mut held = 0;
    loop {
        let read = stream.read(&mut buffer[held..]).await?;
        if read == 0 {
            return Ok(());
        }
        held += read;
        let mut at = 0;
        while let Some(prefix) = buffer[at..held].first_chunk::<4>() {
            let end = at + 4 + u32::from_be_bytes(*prefix) as usize;
            if end > held {
                break;
            }
            stream.write_all(&answer).await?;
            at = end;
        }
        buffer.copy_within(at..held, 0);
        held -= at;
    }
}

fn connected() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let (other, _) = listener.accept()?;
    Ok((one, other))
}
