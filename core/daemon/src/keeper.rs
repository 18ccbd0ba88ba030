//! A helper that comes back: the daemon starts a small *keeper* before its lockdown, the keeper
//! starts the *worker* and starts it again whenever it ends. The daemon itself could not, having
//! given up starting programs.
//!
//! Each worker gets a fresh socketpair; the keeper passes the daemon's end of it over their own
//! socket, so a worker that died in the middle of a frame leaves nothing behind. Everything ends
//! with the daemon: the keeper is tied to it, the worker to the keeper.

use crate::reexec::{self, Helper};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tokio::io::Interest;

/// How soon the keeper starts a worker again.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Wait after the first end; doubled after each further one.
    pub first: Duration,
    /// Longest wait.
    pub most: Duration,
    /// A worker that lived this long makes the wait short again.
    pub healthy: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), most: Duration::from_secs(60), healthy: Duration::from_secs(60) }
    }
}

/// The daemon's hold on a keeper. Dropping it ends keeper and worker.
#[derive(Debug)]
pub struct Kept {
    control: tokio::net::UnixStream,
    helper: std::process::Child,
}

impl Kept {
    /// Starts the keeper: this binary with `arguments`, whose `main` must come to [`keep`]. Before
    /// the lockdown and the runtime; within the runtime go on with [`Kept::adopt`].
    ///
    /// # Errors
    /// The system's.
    pub fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> io::Result<Helper> {
        Helper::start(arguments)
    }

    /// Takes a started keeper into the runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn adopt(helper: Helper) -> io::Result<Self> {
        let (helper, control) = helper.into_parts();
        control.set_nonblocking(true)?;
        Ok(Self { control: tokio::net::UnixStream::from_std(control)?, helper })
    }

    /// Our end to the next worker. It is there at once after the start, and again each time the
    /// worker was started anew; wait for it when the stream of the last one ended. Cancel safe.
    ///
    /// # Errors
    /// `UnexpectedEof` when the keeper has ended: there will be no worker any more.
    pub async fn worker(&self) -> io::Result<tokio::net::UnixStream> {
        let stream = self.control.async_io(Interest::READABLE, || receive(&self.control)).await?;
        stream.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(stream)
    }

    /// Asks keeper and worker to end and waits for the keeper. Blocks for as long as the worker
    /// needs, at most the keeper's grace: call it where blocking is allowed.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(self) -> io::Result<std::process::ExitStatus> {
        let Self { control, mut helper } = self;
        drop(control);
        helper.wait()
    }
}

/// How long a worker may take to end once the daemon let go of it.
const GRACE: Duration = Duration::from_secs(5);

/// The keeper's own main: keeps one worker (this binary with `arguments`, whose `main` takes its
/// stream with [`reexec::inherited`]) until the daemon lets go. One thread, no runtime.
///
/// # Errors
/// When this process was not started by [`Kept::start`].
pub fn keep<A: AsRef<OsStr> + Clone>(arguments: &[A], backoff: Backoff) -> io::Result<()> {
    let control = reexec::inherited()?;
    let mut wait = backoff.first;
    loop {
        let started = std::time::Instant::now();
        match Helper::start(arguments.iter().cloned()) {
            Err(error) => tracing::error!(%error, "the helper process cannot be started"),
            Ok(helper) => {
                let (mut child, stream) = helper.into_parts();
                if send(&control, &stream).is_err() {
                    drop(stream);
                    return end(&mut child);
                }
                drop(stream);
                let pidfd = rustix::process::pidfd_open(rustix::process::Pid::from_child(&child), rustix::process::PidfdFlags::empty())?;
                if !ended_before(&control, Some(&pidfd), None)? {
                    return end(&mut child);
                }
                let status = child.wait()?;
                tracing::warn!(%status, "the helper process ended; it is started again");
            }
        }
        if started.elapsed() >= backoff.healthy {
            wait = backoff.first;
        }
        // The wait also ends when the daemon lets go.
        if !ended_before(&control, None, Some(wait))? {
            return Ok(());
        }
        wait = wait.saturating_mul(2).min(backoff.most);
    }
}

/// Waits until the worker ended or the time is over; false when the daemon let go first.
fn ended_before(control: &UnixStream, worker: Option<&OwnedFd>, limit: Option<Duration>) -> io::Result<bool> {
    let limit =
        limit.map(|limit| Timespec { tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX), tv_nsec: limit.subsec_nanos().into() });
    loop {
        // The daemon never writes: anything on the socket is its end.
        let mut watched = vec![PollFd::new(control, PollFlags::IN)];
        watched.extend(worker.map(|worker| PollFd::new(worker, PollFlags::IN)));
        match poll(&mut watched, limit.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(watched.first().is_none_or(|control| control.revents().is_empty())),
        }
    }
}

/// The daemon is gone or lets go: its ends are closed, the worker sees that; it gets a grace.
fn end(child: &mut std::process::Child) -> io::Result<()> {
    let pidfd = rustix::process::pidfd_open(rustix::process::Pid::from_child(child), rustix::process::PidfdFlags::empty())?;
    let grace = Timespec { tv_sec: i64::try_from(GRACE.as_secs()).unwrap_or(0), tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&grace));
    if !matches!(ended, Ok(1)) {
        child.kill()?;
    }
    child.wait().map(|_| ())
}

fn send(control: &UnixStream, stream: &UnixStream) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [stream.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    rustix::net::sendmsg(control, &[IoSlice::new(b"w")], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(control: &impl AsFd) -> io::Result<UnixStream> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = rustix::net::recvmsg(control, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let passed = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    match passed {
        Some(descriptor) => Ok(UnixStream::from(descriptor)),
        None if received.bytes == 0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the keeper of the helper process has ended")),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "the keeper sent no stream")),
    }
}
