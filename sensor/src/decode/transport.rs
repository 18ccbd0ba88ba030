//! TCP (RFC 9293), UDP, ICMP, ICMPv6, SCTP.

use super::ip::Head;
use super::{Context, Decoder, Layer, Once, Stop, Transport, checksum, wrong};
use glasshive_proto::Reader;
use std::net::IpAddr;

/// A TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp<'a> {
    /// Port of the sender.
    pub source: u16,
    /// Port of the receiver.
    pub destination: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledged.
    pub ack: u32,
    /// FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
    pub flags: u8,
    /// Window, not scaled.
    pub window: u16,
    /// Options, undecoded.
    pub options: &'a [u8],
    /// Whether all of the above is known: false when the header was cut off behind the ports.
    pub complete: bool,
}

impl Tcp<'_> {
    /// Kinds of the options in their order, at most 40.
    pub fn option_kinds(&self) -> Vec<u8> {
        let (mut kinds, mut rest) = (Vec::new(), self.options);
        while let Some((kind, after)) = rest.split_first() {
            kinds.push(*kind);
            rest = match kind {
                0 => break,
                1 => after,
                _ => match after.first().and_then(|length| rest.get(usize::from(*length).max(2)..)) {
                    Some(next) => next,
                    None => break,
                },
            };
        }
        kinds
    }
}

fn tcp<'a>(reader: &mut Reader<'a>) -> (Result<(), Stop>, Option<Tcp<'a>>) {
    let start = reader.clone();
    let mut tcp = Tcp { source: 0, destination: 0, seq: 0, ack: 0, flags: 0, window: 0, options: &[], complete: false };
    let mut ports = false;
    let mut read = || -> Result<(), Stop> {
        (tcp.source, tcp.destination) = (reader.u16("source port")?, reader.u16("destination port")?);
        ports = true;
        (tcp.seq, tcp.ack) = (reader.u32("sequence number")?, reader.u32("acknowledgement")?);
        let header = usize::from(reader.u8("header length")? >> 4).saturating_mul(4);
        tcp.flags = reader.u8("flags")?;
        tcp.window = reader.u16("window")?;
        reader.skip(4, "checksum")?;
        if header < 20 {
            return Err(wrong(&start, "header length of TCP"));
        }
        tcp.options = reader.take(header.saturating_sub(20), "options")?;
        tcp.complete = true;
        Ok(())
    };
    let result = read();
    (result, ports.then_some(tcp))
}

impl Decoder {
    /// What an IP protocol number says follows.
    pub(super) fn transport<'a>(
        &mut self,
        mut head: Head,
        protocol: u8,
        mut reader: Reader<'a>,
        mut context: Context<'a>,
        once: &mut Once<'_>,
    ) {
        let whole = reader.peek();
        let checked = context.missing == 0;
        let bad = |bytes: &[u8]| checked && !checksum::is_right_between(head.source, head.destination, protocol, bytes);
        match (protocol, head.source) {
            (6, _) => {
                context.enter(Layer::Tcp);
                head.bad_checksum |= bad(whole);
                let (result, tcp) = tcp(&mut reader);
                if let Err(stop) = result {
                    once.stop(&context, stop);
                    reader = Reader::new(&[]);
                }
                self.emit(&head, protocol, tcp.map_or(Transport::Other, Transport::Tcp), reader, false, &context, once);
            }
            (17, _) => {
                context.enter(Layer::Udp);
                let ports = reader.u16("source port").and_then(|from| Ok((from, reader.u16("destination port")?)));
                let Ok((from, to)) = ports else {
                    once.stop(&context, Stop::Short(reader.error("ports")));
                    return self.emit(&head, protocol, Transport::Other, Reader::new(&[]), false, &context, once);
                };
                let place = reader.clone();
                match reader.u16("length").and_then(|length| Ok((length, reader.u16("checksum")?))) {
                    Ok((length @ 1..8, _)) => {
                        let _ = length;
                        once.stop(&context, wrong(&place, "length of UDP"));
                    }
                    Ok((length, sum)) => {
                        // 0 is a jumbogram (RFC 2675).
                        let body = usize::from(length).checked_sub(8).unwrap_or(reader.len().saturating_add(context.missing));
                        let covered = whole.get(..body.saturating_add(8));
                        head.bad_checksum |= sum != 0 && covered.is_some_and(bad);
                        reader = self.clip(reader, body, &mut context, once);
                        return self.udp(head, (from, to), reader, context, once);
                    }
                    Err(error) => once.stop(&context, error.into()),
                }
                self.emit(&head, protocol, Transport::Ports(from, to), Reader::new(&[]), false, &context, once);
            }
            (132, _) => {
                context.enter(Layer::Sctp);
                let ports = reader.u16("source port").and_then(|from| Ok((from, reader.u16("destination port")?)));
                let transport = match ports {
                    Ok((from, to)) => Transport::Ports(from, to),
                    Err(error) => {
                        once.stop(&context, error.into());
                        Transport::Other
                    }
                };
                if let Err(error) = reader.skip(8, "tag and checksum") {
                    once.stop(&context, error.into());
                }
                self.emit(&head, protocol, transport, reader, false, &context, once);
            }
            (1, IpAddr::V4(_)) | (58, IpAddr::V6(_)) => {
                context.enter(if protocol == 1 { Layer::Icmp } else { Layer::Icmpv6 });
                head.bad_checksum |= if protocol == 1 { checked && !checksum::is_right(whole) } else { bad(whole) };
                let message = reader.u8("type").and_then(|kind| Ok((kind, reader.u8("code")?)));
                let Ok((kind, code)) = message else {
                    once.stop(&context, Stop::Short(reader.error("type and code")));
                    return self.emit(&head, protocol, Transport::Other, Reader::new(&[]), false, &context, once);
                };
                let id = reader
                    .skip(2, "checksum")
                    .and_then(|()| reader.u16("identifier"))
                    .and_then(|id| reader.skip(2, "sequence").map(|()| id));
                let echo = matches!((protocol, kind), (1, 0 | 8 | 13..=18) | (58, 128 | 129));
                if let (Err(error), true) = (&id, echo) {
                    once.stop(&context, Stop::Short(*error));
                }
                self.emit(&head, protocol, Transport::Icmp(kind, code, id.ok().filter(|_| echo)), reader, false, &context, once);
            }
            _ => self.tunnel(head, protocol, reader, context, once),
        }
    }
}
