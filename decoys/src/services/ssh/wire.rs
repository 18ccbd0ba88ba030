//! The stream russh sees: its own identification line is swallowed (ours went out before), the
//! visitor's is replayed, and the visitor's packets are read along until the KEXINIT, which is
//! recorded and then forgotten. Input OpenSSH would not go on with ends here, as it ends there.
//! It must never keep bytes once the KEXINIT is past.

use super::backlog::Backlog;
use crate::conn::Conn;
use crate::recorder::BoxFuture;
use crate::session::{Session, clip};
use bytes::{Buf, Bytes, BytesMut};
use glasshive_event::detail::Hello;
use glasshive_proto::Parsed;
use glasshive_proto::ssh::{MAX_PACKET, MSG_KEXINIT, kexinit};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long a visitor's channels may take nothing of a full backlog before he is dropped.
const STUCK: std::time::Duration = std::time::Duration::from_secs(120);
const MSG_DISCONNECT: u8 = 1;
const MSG_IGNORE: u8 = 2;
const MSG_UNIMPLEMENTED: u8 = 3;
const MSG_DEBUG: u8 = 4;
/// Longest packet OpenSSH accepts.
const PACKET_MAX: usize = MAX_PACKET;

/// See the module.
pub(super) struct Wire {
    conn: Conn,
    session: Session,
    /// The identification line as sent, for the record.
    id: Vec<u8>,
    /// russh's own identification line is still to be swallowed.
    swallow: bool,
    /// What russh reads next.
    ready: Bytes,
    /// Packets before the KEXINIT; `None` once it is past.
    clear: Option<Clear>,
    /// Bytes of our own that must go out before anything else.
    out: BytesMut,
    /// A record on its way; nothing goes on before it is there.
    recording: Option<BoxFuture<'static, ()>>,
    ended: bool,
    backlog: Arc<Backlog>,
    /// Runs while the backlog is full.
    full: Option<Pin<Box<Sleep>>>,
    /// Why the visitor's bytes ended, when not by his own close.
    failed: Option<io::Error>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

#[derive(Default)]
struct Clear {
    held: BytesMut,
    sequence: u32,
}

/// What to do about the packet at the head of the input.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Wait for more bytes.
    More,
    /// Hand so many bytes to russh.
    Pass(usize),
    /// The KEXINIT of so many bytes.
    Kexinit(usize),
    /// A message OpenSSH does not know here: answer that, and hide it from russh.
    Unknown(usize),
    /// The visitor says goodbye.
    Bye(usize),
    /// OpenSSH closes, after a word or without one.
    Wrong { what: &'static str, offset: usize, says: Option<String> },
}

impl Wire {
    /// `id`: the visitor's line; `replay`: how russh is told it. Cancelling `stop` ends reads.
    pub(super) fn new(conn: Conn, session: Session, id: Vec<u8>, backlog: Arc<Backlog>, stop: CancellationToken) -> Self {
        let ready = replayed(&id);
        Self {
            conn,
            session,
            id,
            swallow: true,
            ready,
            clear: Some(Clear::default()),
            out: BytesMut::new(),
            recording: None,
            ended: false,
            backlog,
            full: None,
            failed: None,
            stop: Box::pin(stop.cancelled_owned()),
        }
    }

    fn step(&mut self) {
        let Some(clear) = &mut self.clear else { return };
        match look(&clear.held) {
            Step::More => {}
            Step::Pass(size) => {
                clear.sequence = clear.sequence.wrapping_add(1);
                self.ready = clear.held.split_to(size).freeze();
            }
            Step::Unknown(size) => {
                let mut payload = vec![MSG_UNIMPLEMENTED];
                payload.extend_from_slice(&clear.sequence.to_be_bytes());
                self.out.extend_from_slice(&packet(&payload));
                clear.sequence = clear.sequence.wrapping_add(1);
                let mut hidden = clear.held.split_to(size);
                if let Some(message) = hidden.get_mut(5) {
                    *message = MSG_IGNORE;
                }
                self.ready = hidden.freeze();
            }
            Step::Kexinit(size) => {
                let all = std::mem::take(&mut clear.held).freeze();
                let first = all.slice(..size.min(all.len()));
                match kexinit(&first) {
                    Parsed::Done { value, .. } => {
                        let hello = Hello {
                            protocol: "ssh".into(),
                            id: Some(clip(&std::mem::take(&mut self.id))),
                            hassh: Some(value.hassh()),
                            hassh_algorithms: Some(value.hassh_algorithms().chars().take(6 * 1024).collect()),
                            ..Hello::default()
                        };
                        let session = self.session.clone();
                        self.recording = Some(Box::pin(async move { session.hello(&hello).await }));
                        self.ready = all;
                        self.clear = None;
                    }
                    Parsed::Incomplete { .. } => self.wrong("KEXINIT cut short", 0, &first, None),
                    Parsed::Malformed { what, offset } => self.wrong(what, offset, &first, None),
                }
            }
            Step::Bye(_) => self.end(),
            Step::Wrong { what, offset, says } => {
                let held = std::mem::take(&mut clear.held).freeze();
                self.wrong(what, offset, &held, says);
            }
        }
    }

    /// No more of the visitor's bytes. Who leaves between his line and his KEXINIT still said who he was.
    fn end(&mut self) {
        self.ended = true;
        self.clear = None;
        let id = std::mem::take(&mut self.id);
        if !id.is_empty() {
            let session = self.session.clone();
            self.recording = Some(Box::pin(async move { greet_without_kexinit(&session, &id).await }));
        }
    }

    fn wrong(&mut self, what: &'static str, offset: usize, input: &[u8], says: Option<String>) {
        if let Some(says) = says {
            let mut payload = vec![MSG_DISCONNECT, 0, 0, 0, 2];
            payload.extend_from_slice(&u32::try_from(says.len()).unwrap_or(0).to_be_bytes());
            payload.extend_from_slice(says.as_bytes());
            payload.extend_from_slice(&[0; 4]);
            self.out.extend_from_slice(&packet(&payload));
        }
        let rest = input.get(offset..).unwrap_or_default();
        let rest = rest.get(..rest.len().min(crate::session::MALFORMED_BYTES)).unwrap_or_default().to_vec();
        let seen = self.conn.counters().bytes_in.load(std::sync::atomic::Ordering::Relaxed);
        let at = seen.saturating_sub(input.len() as u64).saturating_add(offset as u64);
        let id = std::mem::take(&mut self.id);
        let session = self.session.clone();
        self.recording = Some(Box::pin(async move {
            greet_without_kexinit(&session, &id).await;
            session.malformed("ssh", what, at, &rest).await;
        }));
        self.ended = true;
        self.clear = None;
    }
}

/// Records a visitor whose KEXINIT never came or was wrong.
pub(super) async fn greet_without_kexinit(session: &Session, id: &[u8]) {
    session.hello(&Hello { protocol: "ssh".into(), id: Some(clip(id)), ..Hello::default() }).await;
}

/// The line as russh accepts it. One it would refuse though OpenSSH goes on (`SSH-2.2-…`, over 253
/// bytes, not UTF-8) is replaced; such a visitor gets the KEXINIT, as from OpenSSH, and would fail later.
fn replayed(id: &[u8]) -> Bytes {
    let plain =
        (8..=253).contains(&id.len()) && (id.starts_with(b"SSH-2.0-") || id.starts_with(b"SSH-1.99-")) && std::str::from_utf8(id).is_ok();
    let mut line = if plain { id.to_vec() } else { b"SSH-2.0-client".to_vec() };
    line.extend_from_slice(b"\r\n");
    line.into()
}

/// Looks at the unencrypted packet at the head of `held` as OpenSSH's packet reader does.
fn look(held: &[u8]) -> Step {
    let wrong = |what, offset| Step::Wrong { what, offset, says: None };
    // OpenSSH looks at the length when the first cipher block is there.
    let Some([a, b, c, d, padding, message, ..]) = held.get(..8) else {
        return Step::More;
    };
    let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
    if !(5..=PACKET_MAX).contains(&length) {
        return wrong("packet length", 0);
    }
    let size = length.saturating_add(4);
    if !size.is_multiple_of(8) {
        return wrong("packet length is no multiple of the block size", 0);
    }
    if held.len() < size {
        return Step::More;
    }
    let padding = usize::from(*padding);
    if padding < 4 {
        return Step::Wrong { what: "padding length", offset: 4, says: Some(format!("Corrupted padlen {padding} on input.")) };
    }
    if padding.saturating_add(1) >= length {
        return wrong("padding longer than the packet", 4);
    }
    match *message {
        MSG_KEXINIT => Step::Kexinit(size),
        MSG_DISCONNECT => Step::Bye(size),
        MSG_IGNORE | MSG_UNIMPLEMENTED | MSG_DEBUG => Step::Pass(size),
        5..=49 => Step::Unknown(size),
        other @ (0 | 192..) => Step::Wrong { what: "message number", offset: 5, says: Some(format!("Invalid ssh2 packet type: {other}")) },
        _ => wrong("message not allowed before key exchange", 5),
    }
}

/// An unencrypted packet, padded with zeros as OpenSSH does.
fn packet(payload: &[u8]) -> Vec<u8> {
    let mut padding = 8 - (payload.len() + 5) % 8;
    if padding < 4 {
        padding += 8;
    }
    let length = u32::try_from(payload.len() + padding + 1).unwrap_or(0);
    let mut packet = length.to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).unwrap_or(4));
    packet.extend_from_slice(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some(recording) = &mut this.recording {
                ready!(recording.as_mut().poll(cx));
                this.recording = None;
            }
            while !this.out.is_empty() {
                let n = ready!(Pin::new(&mut this.conn).poll_write(cx, &this.out))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                this.out.advance(n);
            }
            if !this.ready.is_empty() {
                let n = this.ready.len().min(buf.remaining());
                buf.put_slice(&this.ready.split_to(n));
                if this.ready.is_empty() {
                    this.ready = Bytes::new();
                }
                return Poll::Ready(Ok(()));
            }
            if this.ended {
                return Poll::Ready(this.failed.take().map_or(Ok(()), Err));
            }
            if this.stop.as_mut().poll(cx).is_ready() {
                this.failed = Some(io::ErrorKind::ConnectionAborted.into());
                this.end();
                continue;
            }
            if this.backlog.full(cx.waker()) {
                let stuck = this.full.get_or_insert_with(|| Box::pin(tokio::time::sleep(STUCK)));
                ready!(stuck.as_mut().poll(cx));
                this.failed = Some(io::ErrorKind::TimedOut.into());
                this.end();
                continue;
            }
            this.full = None;
            let Some(clear) = &mut this.clear else {
                return Pin::new(&mut this.conn).poll_read(cx, buf);
            };
            if look(&clear.held) == Step::More {
                let mut piece = [0u8; 2048];
                let mut piece = ReadBuf::new(&mut piece);
                this.failed = ready!(Pin::new(&mut this.conn).poll_read(cx, &mut piece)).err();
                if piece.filled().is_empty() {
                    this.end();
                    continue;
                }
                clear.held.extend_from_slice(piece.filled());
            }
            this.step();
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.swallow {
            // The line is written by one call, alone or before other bytes; only it is swallowed.
            return Poll::Ready(Ok(match data.iter().position(|b| *b == b'\n') {
                Some(end) => {
                    this.swallow = false;
                    end + 1
                }
                None => data.len(),
            }));
        }
        Pin::new(&mut this.conn).poll_write(cx, data)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().conn).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // sshd's process is gone at this point: it waits for nothing the visitor may still send.
        this.ended = true;
        this.ready = Bytes::new();
        this.clear = None;
        Pin::new(&mut this.conn).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn packets_as_openssh_judges_them() {
        let case = |bytes: &[u8]| look(&[bytes, &[b'a'; 60]].concat());
        let silent = |step: Step| matches!(step, Step::Wrong { says: None, .. });
        assert!(silent(case(&[0; 16])));
        assert!(silent(case(&[0, 0, 0, 3])));
        assert!(silent(case(&[0x7f, 0xff, 0xff, 0xff])));
        assert!(silent(case(&[0, 0, 0, 17])));
        assert!(silent(case(&[0, 0, 0, 12, 255])));
        assert!(silent(case(&[0, 0, 0, 12, 10, 99])));
        assert!(matches!(case(&[0, 0, 0, 12, 3, 20]), Step::Wrong { says: Some(s), .. } if s == "Corrupted padlen 3 on input."));
        assert_eq!(case(&[0, 0, 0, 12, 10, 21]), Step::Unknown(16));
        assert_eq!(case(&[0, 0, 0, 12, 6, 2]), Step::Pass(16));
        assert_eq!(look(&[0, 0, 0, 12, 10, 20, 0]), Step::More);
        assert_eq!(look(&[0, 0, 0, 12, 10, 20, 0, 0]), Step::More);
    }

    #[test]
    fn packets_are_padded_to_blocks() {
        for n in 1..40 {
            let made = packet(&vec![MSG_DISCONNECT; n]);
            assert_eq!(made.len() % 8, 0);
            assert!(made[4] >= 4);
            assert_eq!(look(&made), Step::Bye(made.len()));
        }
        assert_eq!(packet(&[3, 0, 0, 0, 0]), [0, 0, 0, 12, 6, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "as captured from sshd");
    }

    #[test]
    fn lines_russh_would_refuse_are_replaced() {
        assert_eq!(&replayed(b"SSH-2.0-x")[..], b"SSH-2.0-x\r\n");
        assert_eq!(&replayed(b"SSH-2.2-x")[..], b"SSH-2.0-client\r\n");
        assert_eq!(&replayed(&[b"SSH-2.0-".as_slice(), &[b'a'; 400]].concat())[..], b"SSH-2.0-client\r\n");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(std::env::var("GLASSHIVE_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)))]
        #[test]
        fn any_head_is_judged_in_bounds(mut input in proptest::collection::vec(any::<u8>(), 0..96), small in any::<bool>()) {
            if small && input.len() > 4 { input[..3].fill(0); }
            match look(&input) {
                Step::Pass(n) | Step::Kexinit(n) | Step::Unknown(n) | Step::Bye(n) => prop_assert!(n <= input.len() && n >= 9),
                Step::Wrong { offset, .. } => prop_assert!(offset < input.len()),
                Step::More => {}
            }
        }
    }
}
