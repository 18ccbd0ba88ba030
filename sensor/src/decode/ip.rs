//! IPv4 (RFC 791) and IPv6 (RFC 8200): headers, extension headers, fragments.

use super::fragment::{Added, Datagram, Key, Piece};
use super::{Context, Decoder, Layer, MAX_DEPTH, Once, Stop, Transport, Unit, checksum, wrong};
use glasshive_proto::Reader;
use glasshive_proto::reader::ParseError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Extension headers followed in one packet.
const MAX_EXTENSIONS: usize = 16;

/// What an IP header says, and what was summed up over fragments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ttl: u8,
    pub(super) ip_id: Option<u16>,
    pub(super) ip_bytes: u64,
    pub(super) packets: u32,
    pub(super) fragments: u32,
    pub(super) bad_checksum: bool,
    /// Whether fragments were put together already.
    pub(super) whole: bool,
}

struct V4 {
    head: Head,
    total: usize,
    header: usize,
    protocol: u8,
    offset: u32,
    more: bool,
}

fn v4(reader: &mut Reader<'_>) -> Result<V4, Stop> {
    let start = reader.clone();
    let header = usize::from(reader.u8("version")? & 0x0f).saturating_mul(4);
    if header < 20 {
        return Err(wrong(&start, "header length"));
    }
    reader.skip(1, "type of service")?;
    let total = usize::from(reader.u16("total length")?);
    if total != 0 && total < header {
        return Err(wrong(&start, "total length shorter than the header"));
    }
    let (id, fragment) = (reader.u16("identification")?, reader.u16("fragment offset")?);
    let (ttl, protocol) = (reader.u8("TTL")?, reader.u8("protocol")?);
    reader.skip(2, "checksum")?;
    let source = Ipv4Addr::from(reader.array::<4>("source address")?).into();
    let destination = Ipv4Addr::from(reader.array::<4>("destination address")?).into();
    reader.skip(header.saturating_sub(20), "options")?;
    let bad_checksum = start.peek().get(..header).is_some_and(|bytes| !checksum::is_right(bytes));
    let head = Head { source, destination, ttl, ip_id: Some(id), ip_bytes: 0, packets: 1, fragments: 0, bad_checksum, whole: false };
    let offset = u32::from(fragment & 0x1fff).saturating_mul(8);
    Ok(V4 { head, total, header, protocol, offset, more: fragment & 0x2000 != 0 })
}

fn v6(reader: &mut Reader<'_>) -> Result<(Head, u8, usize), Stop> {
    reader.skip(4, "version")?;
    let length = usize::from(reader.u16("payload length")?);
    let (next, ttl) = (reader.u8("next header")?, reader.u8("hop limit")?);
    let source = Ipv6Addr::from(reader.array::<16>("source address")?).into();
    let destination = Ipv6Addr::from(reader.array::<16>("destination address")?).into();
    let head = Head { source, destination, ttl, ip_id: None, ip_bytes: 0, packets: 1, fragments: 0, bad_checksum: false, whole: false };
    Ok((head, next, length))
}

impl Decoder {
    /// An IP packet of either version.
    pub(super) fn ip<'a>(&mut self, mut reader: Reader<'a>, mut context: Context<'a>, once: &mut Once<'_>) {
        let version = reader.peek().first().map_or(0, |byte| byte >> 4);
        if version != 4 && version != 6 {
            let what = if reader.is_empty() { Stop::Short(reader.error("IP header")) } else { wrong(&reader, "IP version") };
            return once.stop(&context, what);
        }
        let layer = if version == 4 { Layer::Ipv4 } else { Layer::Ipv6 };
        if context.depth >= MAX_DEPTH || !context.enter(layer) {
            return once.fault(&context, reader.error("more headers within each other than are followed"));
        }
        if version == 6 {
            return match v6(&mut reader) {
                Ok((mut head, next, length)) => {
                    context.ends = Some((head.source, head.destination));
                    // 0 is a jumbogram (RFC 2675) or what a sending host hands to its network card whole.
                    let length = if length == 0 { reader.len().saturating_add(context.missing) } else { length };
                    head.ip_bytes = length.saturating_add(40) as u64;
                    let body = self.clip(reader, length, &mut context, once);
                    self.carry(head, next, body, context, once);
                }
                Err(stop) => once.stop(&context, stop),
            };
        }
        match v4(&mut reader) {
            Ok(V4 { mut head, total, header, protocol, offset, more }) => {
                context.ends = Some((head.source, head.destination));
                let there = reader.len().saturating_add(context.missing);
                let length = if total == 0 { there } else { total.saturating_sub(header) };
                head.ip_bytes = length.saturating_add(header) as u64;
                let body = self.clip(reader, length, &mut context, once);
                if offset == 0 && !more {
                    return self.carry(head, protocol, body, context, once);
                }
                let key = Key {
                    source: head.source,
                    destination: head.destination,
                    id: head.ip_id.unwrap_or(0).into(),
                    protocol,
                    depth: context.depth,
                };
                self.fragment(head, key, (offset, more), body, context, once);
            }
            Err(stop) => once.stop(&context, stop),
        }
    }

    /// What an IP packet carries, behind its extension headers.
    pub(super) fn carry<'a>(&mut self, head: Head, mut next: u8, mut reader: Reader<'a>, mut context: Context<'a>, once: &mut Once<'_>) {
        let v6 = head.source.is_ipv6();
        for _ in 0..MAX_EXTENSIONS {
            let start = reader.clone();
            let step = (|| {
                Ok::<_, ParseError>(match next {
                    // Hop-by-hop, routing, destination options, mobility, HIP, shim6.
                    0 | 43 | 60 | 135 | 139 | 140 if v6 => {
                        let after = reader.u8("extension header")?;
                        let length = usize::from(reader.u8("extension header length")?).saturating_mul(8).saturating_add(6);
                        reader.skip(length, "extension header")?;
                        Some((after, None))
                    }
                    51 => {
                        let after = reader.u8("authentication header")?;
                        let length = usize::from(reader.u8("authentication header length")?).saturating_mul(4).saturating_add(6);
                        reader.skip(length, "authentication header")?;
                        context.enter(Layer::Ah);
                        Some((after, None))
                    }
                    44 if v6 => {
                        let after = reader.u8("fragment header")?;
                        reader.skip(1, "fragment header")?;
                        let (place, id) = (reader.u16("fragment offset")?, reader.u32("fragment identification")?);
                        Some((after, Some((u32::from(place & 0xfff8), place & 1 != 0, id))))
                    }
                    _ => None,
                })
            })();
            match step {
                Ok(None) => return self.transport(head, next, reader, context, once),
                // RFC 6946: alone, it is no fragment.
                Ok(Some((after, None | Some((0, false, _))))) => next = after,
                Ok(Some((after, Some((offset, more, id))))) => {
                    if head.whole {
                        return once.fault(&context, start.error("fragments of a fragment"));
                    }
                    let key = Key { source: head.source, destination: head.destination, id, protocol: after, depth: context.depth };
                    return self.fragment(head, key, (offset, more), reader, context, once);
                }
                Err(error) => {
                    once.stop(&context, error.into());
                    return self.emit(&head, next, Transport::Other, Reader::new(&[]), false, &context, once);
                }
            }
        }
        once.fault(&context, reader.error("more extension headers than are followed"));
        self.emit(&head, next, Transport::Other, Reader::new(&[]), false, &context, once);
    }

    fn fragment<'a>(
        &mut self,
        mut head: Head,
        key: Key,
        (offset, more): (u32, bool),
        reader: Reader<'a>,
        context: Context<'a>,
        once: &mut Once<'_>,
    ) {
        head.fragments = 1;
        if context.missing > 0 {
            // What was not captured whole cannot be put together; the first piece still has the ports.
            return if offset == 0 {
                head.whole = true;
                self.transport(head, key.protocol, reader, context, once);
            } else {
                self.emit(&head, key.protocol, Transport::Other, Reader::new(&[]), false, &context, once);
            };
        }
        let at = reader.offset();
        let piece = Piece { head, offset, more, bytes: reader.peek(), context: context.detached() };
        let (added, conflict) = self.fragments.add(key, piece);
        if let Some(into) = conflict {
            once.fault(&context, ParseError::new(at.saturating_add(into), "fragments overlap with other bytes"));
        }
        match added {
            Added::Held => {}
            Added::Whole(datagram) => self.complete(*datagram, 0, once),
            Added::Refused(what) => {
                once.fault(&context, ParseError::new(at, what));
                self.emit(&head, key.protocol, Transport::Other, Reader::new(&[]), false, &context, once);
            }
        }
        // Adding may have pushed out others.
        while let Some(datagram) = self.fragments.pop_evicted() {
            self.incomplete(datagram, false, once);
        }
    }

    fn complete(&mut self, datagram: Datagram, missing: usize, once: &mut Once<'_>) {
        let Datagram { mut head, protocol, context, bytes } = datagram;
        head.whole = true;
        let Context { at, depth, layers, vlans, macs, ends, .. } = context;
        let context = Context { at, base: &bytes, depth, layers, vlans, macs, missing, ends };
        self.carry(head, protocol, Reader::new(&bytes), context, once);
    }

    /// Fragments that were given up: with the first of them there are ports.
    pub(super) fn incomplete(&mut self, datagram: Datagram, told: bool, once: &mut Once<'_>) {
        if told {
            once.fault(&datagram.context, ParseError::new(0, "fragments that never became whole"));
        }
        self.complete(datagram, 1, once);
    }

    /// Hands on one unit.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn emit(
        &self,
        head: &Head,
        protocol: u8,
        transport: Transport<'_>,
        payload: Reader<'_>,
        tunnel: bool,
        context: &Context<'_>,
        once: &mut Once<'_>,
    ) {
        let Head { source, destination, ttl, ip_id, ip_bytes, packets, fragments, bad_checksum, .. } = *head;
        let payload_length = u32::try_from(payload.len().saturating_add(context.missing)).unwrap_or(u32::MAX);
        once.sink.unit(&Unit {
            depth: context.depth,
            source,
            destination,
            protocol,
            ttl,
            ip_id,
            ip_bytes,
            packets,
            fragments,
            truncated: context.missing > 0,
            bad_checksum,
            macs: context.macs,
            vlans: context.vlans,
            layers: context.layers,
            transport,
            payload: payload.peek(),
            payload_length,
            tunnel,
        });
    }
}
