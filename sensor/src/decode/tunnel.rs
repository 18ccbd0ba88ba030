//! Tunnels: GRE, IP in IP, EtherIP and MPLS on IP; VXLAN, Geneve, Teredo, GTP-U and L2TP on UDP.
//!
//! The outer packet is a unit of its own, then the inner is taken apart. On UDP the port proposes and the
//! header decides: what does not look like the tunnel is ordinary payload.

use super::ip::Head;
use super::{Context, Decoder, Layer, Once, Stop, Transport, wrong};
use glasshive_proto::Reader;

/// The assigned port, the one of its extension (GPE), and Linux' of old.
const VXLAN: [u16; 3] = [4789, 4790, 8472];
const GENEVE: u16 = 6081;
const TEREDO: u16 = 3544;
const GTP: u16 = 2152;
const L2TP: u16 = 1701;

/// What stands within a tunnel's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inner {
    EtherType(u16),
    Ethernet,
    Ip,
    Ppp,
}

impl Decoder {
    /// IP protocols that carry packets; all others end here.
    pub(super) fn tunnel<'a>(&mut self, head: Head, protocol: u8, mut reader: Reader<'a>, mut context: Context<'a>, once: &mut Once<'_>) {
        let inner = match protocol {
            4 | 41 => Ok(Some(Inner::Ip)),
            47 => {
                context.enter(Layer::Gre);
                gre(&mut reader).map(|(inner, erspan)| {
                    if erspan {
                        context.enter(Layer::Erspan);
                    }
                    inner
                })
            }
            97 => {
                context.enter(Layer::Etherip);
                reader.skip(2, "EtherIP header").map(|()| Some(Inner::Ethernet)).map_err(Stop::from)
            }
            137 => Ok(Some(Inner::EtherType(0x8847))),
            50 => {
                context.enter(Layer::Esp);
                Ok(None)
            }
            _ => Ok(None),
        };
        let found = inner.as_ref().is_ok_and(Option::is_some);
        self.emit(&head, protocol, Transport::Other, reader.clone(), found, &context, once);
        match inner {
            Ok(Some(inner)) => self.inner(inner, reader, context, once),
            Ok(None) => {}
            Err(stop) => once.stop(&context, stop),
        }
    }

    /// A UDP datagram: a tunnel's, or payload.
    pub(super) fn udp<'a>(
        &mut self,
        head: Head,
        (from, to): (u16, u16),
        reader: Reader<'a>,
        mut context: Context<'a>,
        once: &mut Once<'_>,
    ) {
        let mut body = reader.clone();
        let found = if VXLAN.contains(&to) {
            vxlan(&mut body).map(|inner| (Layer::Vxlan, inner))
        } else if to == GENEVE {
            geneve(&mut body).map(|inner| (Layer::Geneve, inner))
        } else if to == GTP || from == GTP {
            gtp(&mut body).map(|inner| (Layer::Gtp, inner))
        } else if to == TEREDO || from == TEREDO {
            teredo(&mut body).map(|inner| (Layer::Teredo, inner))
        } else if to == L2TP || from == L2TP {
            l2tp(&mut body).map(|inner| (Layer::L2tp, inner))
        } else {
            None
        };
        let Some((layer, inner)) = found else {
            return self.emit(&head, 17, Transport::Ports(from, to), reader, false, &context, once);
        };
        context.enter(layer);
        self.emit(&head, 17, Transport::Ports(from, to), reader, true, &context, once);
        self.inner(inner, body, context, once);
    }

    fn inner<'a>(&mut self, inner: Inner, reader: Reader<'a>, mut context: Context<'a>, once: &mut Once<'_>) {
        context.depth = context.depth.saturating_add(1);
        match inner {
            Inner::EtherType(kind) => self.ether_type(kind, reader, context, once),
            Inner::Ethernet => self.ethernet(reader, context, once),
            Inner::Ip => self.ip(reader, context, once),
            Inner::Ppp => self.ppp(reader, context, once),
        }
    }
}

/// RFC 2784, 2890, 2637 (version 1, PPTP), ERSPAN; the second tells an ERSPAN header.
fn gre(reader: &mut Reader<'_>) -> Result<(Option<Inner>, bool), Stop> {
    let start = reader.clone();
    let (flags, protocol) = (reader.u16("GRE flags")?, reader.u16("GRE protocol")?);
    let has = |bit: u16| flags & bit != 0;
    match flags & 7 {
        0 => {
            if has(0x8000) || has(0x4000) {
                reader.skip(4, "GRE checksum")?;
            }
            if has(0x2000) {
                reader.skip(4, "GRE key")?;
            }
            if has(0x1000) {
                reader.skip(4, "GRE sequence number")?;
            }
            // RFC 1701's source routes, until one of length 0.
            while has(0x4000) {
                reader.skip(3, "GRE route")?;
                let length = reader.u8("GRE route length")?;
                reader.skip(usize::from(length), "GRE route")?;
                if length == 0 {
                    break;
                }
            }
        }
        1 => {
            reader.skip(4, "GRE key")?;
            if has(0x1000) {
                reader.skip(4, "GRE sequence number")?;
            }
            if has(0x0080) {
                reader.skip(4, "GRE acknowledgement")?;
            }
        }
        _ => return Err(wrong(&start, "GRE version")),
    }
    Ok(match protocol {
        // Type I has no header, and no sequence number tells it.
        0x88be if has(0x1000) => {
            reader.skip(8, "ERSPAN header")?;
            (Some(Inner::Ethernet), true)
        }
        0x88be => (Some(Inner::Ethernet), true),
        0x22eb => {
            let header = reader.array::<12>("ERSPAN header")?;
            if header.last().is_some_and(|last| last & 1 != 0) {
                reader.skip(8, "ERSPAN platform header")?;
            }
            (Some(Inner::Ethernet), true)
        }
        // An acknowledgement of PPTP alone carries nothing.
        0x880b if reader.is_empty() => (None, false),
        0x0800 | 0x86dd | 0x6558 | 0x8847 | 0x8848 | 0x880b | 0x8100 | 0x88a8 => (Some(Inner::EtherType(protocol)), false),
        _ => (None, false),
    })
}

/// RFC 7348, and its extension (draft-ietf-nvo3-vxlan-gpe) that says what follows.
fn vxlan(reader: &mut Reader<'_>) -> Option<Inner> {
    let [flags, _, _, next, _, _, _, reserved] = reader.array::<8>("").ok()?;
    if flags & 0x08 == 0 || reserved != 0 {
        return None;
    }
    match (flags & 0x04 != 0, next) {
        (false, _) | (true, 3) => (reader.len() >= 14).then_some(Inner::Ethernet),
        (true, 1 | 2) => Some(Inner::Ip),
        (true, 5) => Some(Inner::EtherType(0x8847)),
        _ => None,
    }
}

/// RFC 8926.
fn geneve(reader: &mut Reader<'_>) -> Option<Inner> {
    let first = reader.u8("").ok()?;
    reader.skip(1, "").ok()?;
    let protocol = reader.u16("").ok()?;
    reader.skip(4, "").ok()?;
    reader.skip(usize::from(first & 0x3f).saturating_mul(4), "").ok()?;
    (first >> 6 == 0 && matches!(protocol, 0x0800 | 0x86dd | 0x6558)).then_some(Inner::EtherType(protocol))
}

/// GTP-U version 1 (3GPP TS 29.281): message 255 carries a packet.
fn gtp(reader: &mut Reader<'_>) -> Option<Inner> {
    let (flags, message) = (reader.u8("").ok()?, reader.u8("").ok()?);
    reader.skip(6, "").ok()?;
    if flags >> 4 != 3 || message != 255 {
        return None;
    }
    if flags & 7 != 0 {
        reader.skip(3, "").ok()?;
        let mut next = reader.u8("").ok()?;
        while flags & 4 != 0 && next != 0 {
            let length = usize::from(reader.u8("").ok()?).saturating_mul(4).checked_sub(2)?;
            reader.skip(length, "").ok()?;
            next = reader.u8("").ok()?;
        }
    }
    is_ip(reader.peek()).then_some(Inner::Ip)
}

/// RFC 4380 §5.1: authentication and origin may stand before the packet.
fn teredo(reader: &mut Reader<'_>) -> Option<Inner> {
    if reader.peek().starts_with(&[0, 1]) {
        reader.skip(2, "").ok()?;
        let (id, auth) = (reader.u8("").ok()?, reader.u8("").ok()?);
        reader.skip(usize::from(id).saturating_add(usize::from(auth)).saturating_add(9), "").ok()?;
    }
    if reader.peek().starts_with(&[0, 0]) {
        reader.skip(8, "").ok()?;
    }
    (reader.peek().first()? >> 4 == 6).then_some(Inner::Ip)
}

/// Data messages of L2TP version 2 (RFC 2661 §3.1).
fn l2tp(reader: &mut Reader<'_>) -> Option<Inner> {
    let flags = reader.u16("").ok()?;
    let has = |bit: u16| flags & bit != 0;
    if flags & 0x000f != 2 || has(0x8000) {
        return None;
    }
    if has(0x4000) {
        reader.skip(2, "").ok()?;
    }
    reader.skip(4, "").ok()?;
    if has(0x0800) {
        reader.skip(4, "").ok()?;
    }
    if has(0x0200) {
        let offset = reader.u16("").ok()?;
        reader.skip(usize::from(offset), "").ok()?;
    }
    (reader.len() > 2).then_some(Inner::Ppp)
}

fn is_ip(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|byte| matches!(byte >> 4, 4 | 6))
}
