//! What a service talks to: a byte stream or the datagrams of one tuple, with counting, an idle
//! deadline, replay of peeked bytes and a reset. It must never expose a socket.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;

/// A byte stream a [`Conn`] can sit on.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {
    /// Makes the coming drop a reset (TCP RST) instead of an orderly close, where the transport knows one.
    fn reset_on_drop(&mut self) {}
}

impl Duplex for tokio::net::TcpStream {
    fn reset_on_drop(&mut self) {
        // A failure leaves an orderly close, which is what a visitor would see anyway.
        let _ = socket2::SockRef::from(&*self).set_linger(Some(Duration::ZERO));
    }
}
impl Duplex for tokio::io::DuplexStream {}
impl Duplex for Conn {
    fn reset_on_drop(&mut self) {
        self.reset();
    }
}

/// Where the answers of a datagram session go.
pub trait DatagramSink: Send + Sync {
    /// Sends one datagram to the visitor from the address it asked.
    fn send<'a>(&'a self, data: &'a [u8]) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>>;
}

/// Application bytes and packets both ways; shared with the session, which reports them at close.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes from the visitor.
    pub bytes_in: AtomicU64,
    /// Bytes to the visitor.
    pub bytes_out: AtomicU64,
    /// Reads or datagrams from the visitor.
    pub packets_in: AtomicU64,
    /// Writes or datagrams to the visitor.
    pub packets_out: AtomicU64,
    /// Whether the visitor closed its side (end of stream seen).
    pub visitor_closed: AtomicBool,
}

impl Counters {
    /// Notes one read of the visitor's bytes; the listener's own reads too.
    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.packets_in.fetch_add(1, Ordering::Relaxed);
    }
    fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
        self.packets_out.fetch_add(1, Ordering::Relaxed);
    }
}

enum Io {
    Stream(Box<dyn Duplex>),
    Datagram { rx: mpsc::Receiver<Bytes>, sink: Arc<dyn DatagramSink> },
}

/// One visitor's connection.
///
/// A stream connection implements [`AsyncRead`] and [`AsyncWrite`]; a read that waits longer than
/// the idle deadline fails with [`io::ErrorKind::TimedOut`]. Datagram connections use
/// [`Conn::recv`] and [`Conn::send`].
pub struct Conn {
    io: Io,
    prefix: Bytes,
    counters: Arc<Counters>,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Our side is closed: saying so again would cost a call and change nothing.
    closed: bool,
}

impl Conn {
    /// A stream connection; `prefix` is read before the stream.
    pub fn stream(stream: impl Duplex + 'static, counters: Arc<Counters>, idle: Duration) -> Self {
        Self { io: Io::Stream(Box::new(stream)), prefix: Bytes::new(), counters, idle, timer: None, closed: false }
    }

    /// [`Conn::stream`] for a stream already boxed.
    pub fn boxed(stream: Box<dyn Duplex>, counters: Arc<Counters>, idle: Duration) -> Self {
        Self { io: Io::Stream(stream), prefix: Bytes::new(), counters, idle, timer: None, closed: false }
    }

    /// A datagram connection: incoming datagrams of one tuple, and where answers go.
    pub fn datagram(rx: mpsc::Receiver<Bytes>, sink: Arc<dyn DatagramSink>, counters: Arc<Counters>, idle: Duration) -> Self {
        Self { io: Io::Datagram { rx, sink }, prefix: Bytes::new(), counters, idle, timer: None, closed: false }
    }

    /// Whether this is a datagram connection.
    pub fn is_datagram(&self) -> bool {
        matches!(self.io, Io::Datagram { .. })
    }

    /// Sets the idle deadline of later reads.
    pub fn set_idle(&mut self, idle: Duration) {
        self.idle = idle;
        self.timer = None;
    }

    /// The idle deadline in force.
    pub fn idle(&self) -> Duration {
        self.idle
    }

    /// The counters, shared with the session.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Puts bytes back in front of the stream (already counted).
    pub fn unread(&mut self, bytes: Bytes) {
        if self.prefix.is_empty() {
            self.prefix = bytes;
        } else {
            let mut both = BytesMut::with_capacity(bytes.len() + self.prefix.len());
            both.extend_from_slice(&bytes);
            both.extend_from_slice(&self.prefix);
            self.prefix = both.freeze();
        }
    }

    /// Waits until at least `want` bytes are there, the visitor closes, or the idle deadline passes;
    /// returns what is there without consuming it (it may be shorter than `want`).
    pub async fn peek(&mut self, want: usize) -> io::Result<Bytes> {
        while self.prefix.len() < want {
            let mut buf = BytesMut::with_capacity(want.clamp(64, 16 * 1024));
            let held = std::mem::take(&mut self.prefix);
            let read = self.read_buf(&mut buf).await;
            self.prefix = held;
            match read {
                Ok(0) => break,
                Ok(_) => {
                    let mut all = BytesMut::with_capacity(self.prefix.len() + buf.len());
                    all.extend_from_slice(&self.prefix);
                    all.extend_from_slice(&buf);
                    self.prefix = all.freeze();
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.prefix.clone())
    }

    /// Reads at most `max` bytes in one read; empty = the visitor closed its side.
    pub async fn read_some(&mut self, max: usize) -> io::Result<Bytes> {
        std::future::poll_fn(|cx| {
            // Made when the visitor says something: a silent one must not cost a buffer.
            let mut buf = BytesMut::with_capacity(max.min(16 * 1024)).limit(max);
            match poll_read_buf(Pin::new(&mut *self), cx, &mut buf) {
                Poll::Ready(result) => Poll::Ready(result.map(|_| buf.into_inner().freeze())),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Next datagram; `None` when the session is over.
    pub async fn recv(&mut self) -> Option<Bytes> {
        match &mut self.io {
            Io::Datagram { rx, .. } => {
                let data = tokio::time::timeout(self.idle, rx.recv()).await.ok().flatten()?;
                self.counters.received(data.len());
                Some(data)
            }
            Io::Stream(_) => None,
        }
    }

    /// Sends one datagram to the visitor.
    pub async fn send(&mut self, data: &[u8]) -> io::Result<()> {
        match &self.io {
            Io::Datagram { sink, .. } => {
                sink.send(data).await?;
                self.counters.sent(data.len());
                Ok(())
            }
            Io::Stream(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Makes the coming drop a reset (TCP RST).
    pub fn reset(&mut self) {
        if let Io::Stream(stream) = &mut self.io {
            stream.reset_on_drop();
        }
    }

    /// Wraps the stream in a transformation (TLS). The inner connection keeps counting wire bytes of
    /// the transport, so the wrapper counts nothing itself.
    pub fn wrapped(stream: impl Duplex + 'static, idle: Duration) -> Self {
        Self::stream(stream, Arc::new(Counters::default()), idle)
    }
}

impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.prefix.is_empty() {
            let n = this.prefix.len().min(buf.remaining());
            buf.put_slice(this.prefix.get(..n).unwrap_or_default());
            this.prefix.advance(n);
            return Poll::Ready(Ok(()));
        }
        let Io::Stream(stream) = &mut this.io else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let before = buf.filled().len();
        match Pin::new(stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                this.timer = None;
                let n = buf.filled().len().saturating_sub(before);
                if n > 0 {
                    this.counters.received(n);
                } else if result.is_ok() && buf.remaining() > 0 {
                    this.counters.visitor_closed.store(true, Ordering::Relaxed);
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                let idle = this.idle;
                let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
                match timer.as_mut().poll(cx) {
                    Poll::Ready(()) => {
                        this.timer = None;
                        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                    }
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Io::Stream(stream) = &mut this.io else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let result = Pin::new(stream).poll_write(cx, data);
        if let Poll::Ready(Ok(n)) = &result {
            this.counters.sent(*n);
        }
        result
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Stream(stream) => Pin::new(stream).poll_flush(cx),
            Io::Datagram { .. } => Poll::Ready(Ok(())),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.io {
            Io::Stream(stream) if !this.closed => {
                let done = Pin::new(stream).poll_shutdown(cx);
                this.closed = matches!(done, Poll::Ready(Ok(())));
                done
            }
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    fn pair() -> (Conn, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(4096);
        (Conn::stream(near, Arc::default(), Duration::from_secs(5)), far)
    }

    #[tokio::test]
    async fn peek_replays() {
        let (mut conn, mut far) = pair();
        far.write_all(b"hello world").await.unwrap();
        assert_eq!(conn.peek(5).await.unwrap().get(..5), Some(&b"hello"[..]));
        let mut all = [0u8; 11];
        conn.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"hello world");
        assert_eq!(conn.counters().bytes_in.load(Ordering::Relaxed), 11);
    }

    #[tokio::test]
    async fn peek_gives_what_came_before_the_close() {
        let (mut conn, mut far) = pair();
        far.write_all(b"ab").await.unwrap();
        drop(far);
        assert_eq!(&conn.peek(5).await.unwrap()[..], b"ab");
        assert_eq!(&conn.read_some(10).await.unwrap()[..], b"ab");
        assert!(conn.read_some(10).await.unwrap().is_empty());
        assert!(conn.counters().visitor_closed.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn silence_times_out() {
        let (mut conn, _far) = pair();
        conn.set_idle(Duration::from_millis(5));
        let error = conn.read_some(10).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
