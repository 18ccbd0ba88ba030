//! The kernel's netfilter messages (linux/netfilter/nfnetlink.h): a socket, requests, and reading what
//! comes. Headers are in the machine's byte order, values in the network's.
//!
//! A dropped packet's bytes are a stranger's: every length is checked, and what cannot be read is an
//! error, never a guess.

use glasshive_proto::reader::{ParseError, Reader};
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// `NLM_F_REQUEST`.
pub(super) const REQUEST: u16 = 1;
/// `NLM_F_ACK`.
pub(super) const ACK: u16 = 4;
/// `NLM_F_ROOT | NLM_F_MATCH`: all there are.
pub(super) const DUMP: u16 = 0x300;
/// `NLMSG_ERROR`: an answer with an error number, 0 = done.
const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
const DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`: what was dumped changed meanwhile.
const INTERRUPTED: u16 = 0x10;
/// Largest read; the kernel's dumps are cut to the buffer.
const BUFFER: usize = 64 * 1024;
/// The kernel answers at once; a socket that does not is broken.
const PATIENCE: Duration = Duration::from_secs(2);

/// A netlink socket of the netfilter family.
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// Opens one. Asking needs `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open(nonblocking: bool) -> io::Result<Self> {
        let flags = if nonblocking { SocketFlags::CLOEXEC | SocketFlags::NONBLOCK } else { SocketFlags::CLOEXEC };
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// Sends one request.
    pub(super) fn send(&self, message: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.0, message, SendFlags::empty())?;
        Ok(())
    }

    /// Receives one datagram of messages into `buffer`. Those not from the kernel are passed over.
    pub(super) fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        loop {
            buffer.resize(BUFFER, 0);
            let (len, _, from) = rustix::net::recvfrom(&self.0, buffer.as_mut_slice(), RecvFlags::empty())?;
            buffer.truncate(len);
            let kernel = from.is_some_and(|from| SocketAddrNetlink::try_from(from).is_ok_and(|from| from.pid() == 0));
            if kernel {
                return Ok(());
            }
        }
    }

    /// Sends a request that is only acknowledged.
    pub(super) fn ask(&self, message: &[u8]) -> io::Result<()> {
        self.dump(message, |_| Ok(()))
    }

    /// Sends a request and gives every message of the answer to `each`, up to its end.
    ///
    /// # Errors
    /// The kernel's refusal; `Interrupted` when the ruleset changed during a dump: ask again.
    pub(super) fn dump(&self, message: &[u8], mut each: impl FnMut(&Message<'_>) -> Result<(), ParseError>) -> io::Result<()> {
        self.send(message)?;
        let mut buffer = Vec::new();
        let mut interrupted = false;
        loop {
            self.receive(&mut buffer)?;
            let mut reader = Reader::new(&buffer);
            while let Some(message) = next(&mut reader).map_err(invalid)? {
                interrupted |= message.flags & INTERRUPTED != 0;
                match message.kind {
                    ERROR => {
                        let code = i32::from_ne_bytes(message.body.first_chunk().copied().unwrap_or_default());
                        return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.saturating_neg())) };
                    }
                    DONE if interrupted => return Err(io::ErrorKind::Interrupted.into()),
                    DONE => return Ok(()),
                    _ => each(&message).map_err(invalid)?,
                }
                // An answer that is no part of a dump is alone.
                if message.flags & 2 == 0 {
                    return Ok(());
                }
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for Socket {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

fn invalid(error: ParseError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// One message.
pub(super) struct Message<'a> {
    /// Subsystem in the upper byte, message in the lower.
    pub(super) kind: u16,
    flags: u16,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Family of what it is about.
    pub(super) fn family(&self) -> u8 {
        self.body.first().copied().unwrap_or(0)
    }

    /// Its attributes: what follows `nfgenmsg`.
    pub(super) fn attributes(&self) -> Attributes<'a> {
        Attributes(Reader::new(self.body.get(4..).unwrap_or_default()))
    }
}

/// The next message of a datagram.
pub(super) fn next<'a>(reader: &mut Reader<'a>) -> Result<Option<Message<'a>>, ParseError> {
    if reader.is_empty() {
        return Ok(None);
    }
    let at = reader.offset();
    let header = reader.take(16, "netlink header")?;
    let word = |from: usize| header.get(from..).and_then(|rest| rest.first_chunk::<2>()).copied().map_or(0, u16::from_ne_bytes);
    let len = u32::from_ne_bytes(header.first_chunk().copied().unwrap_or_default());
    let body = usize::try_from(len).ok().and_then(|len| len.checked_sub(16)).ok_or(ParseError::new(at, "netlink length"))?;
    let message = Message { kind: word(4), flags: word(6), body: reader.take(body, "netlink message")? };
    // The last message of a datagram need not be padded.
    let padding = body.wrapping_neg() & 3;
    reader.skip(padding.min(reader.len()), "padding")?;
    Ok(Some(message))
}

/// Attributes in their order.
#[derive(Clone)]
pub(super) struct Attributes<'a>(Reader<'a>);

impl<'a> Attributes<'a> {
    /// Those nested in an attribute's value.
    pub(super) fn nested(value: &'a [u8]) -> Self {
        Self(Reader::new(value))
    }

    /// The next one: its type without flags, and its value.
    pub(super) fn next(&mut self) -> Result<Option<(u16, &'a [u8])>, ParseError> {
        let reader = &mut self.0;
        if reader.is_empty() {
            return Ok(None);
        }
        let at = reader.offset();
        let header = reader.take(4, "attribute header")?;
        let word = |from: usize| header.get(from..).and_then(|rest| rest.first_chunk::<2>()).copied().map_or(0, u16::from_ne_bytes);
        let len = usize::from(word(0)).checked_sub(4).ok_or(ParseError::new(at, "attribute length"))?;
        let value = reader.take(len, "attribute")?;
        let padding = len.wrapping_neg() & 3;
        reader.skip(padding.min(reader.len()), "padding")?;
        // NLA_F_NESTED and NLA_F_NET_BYTEORDER are of no interest.
        Ok(Some((word(2) & 0x3fff, value)))
    }
}

/// A request: header, `nfgenmsg`, attributes.
pub(super) fn request(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = vec![family, 0];
    body.extend(resource.to_be_bytes());
    for (number, value) in attributes {
        body.extend(u16::try_from(value.len() + 4).unwrap_or(u16::MAX).to_ne_bytes());
        body.extend(number.to_ne_bytes());
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut message = u32::try_from(body.len() + 16).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((flags | REQUEST).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Text of an attribute: up to the first zero byte.
pub(super) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// A number of an attribute.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_be_bytes)
}
