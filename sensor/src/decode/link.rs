//! Link layers and what stands between them and IP: VLAN tags, MPLS, PPPoE, LLC.

use super::{Context, Decoder, Layer, Once, Stop, arp, wrong};
use glasshive_proto::Reader;

/// EtherTypes of VLAN tags: 802.1Q, 802.1ad and the two in use before it.
const VLAN: [u16; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
/// Smallest EtherType; below stands a length.
const MIN_ETHER_TYPE: u16 = 0x0600;

impl Decoder {
    /// A frame of a link type of pcap's registry.
    pub(super) fn link<'a>(&mut self, link_type: u16, mut reader: Reader<'a>, mut context: Context<'a>, once: &mut Once<'_>) {
        match link_type {
            1 => self.ethernet(reader, context, once),
            // Raw IP under the numbers it has had.
            12 | 14 | 101 | 228 | 229 => self.ip(reader, context, once),
            0 | 108 => {
                context.enter(Layer::Null);
                match null(&mut reader) {
                    Ok(Some(ether_type)) => self.ether_type(ether_type, reader, context, once),
                    Ok(None) => self.not_ip(),
                    Err(stop) => once.stop(&context, stop),
                }
            }
            113 | 276 => {
                context.enter(Layer::Sll);
                match cooked(&mut reader, link_type == 276) {
                    Ok((mac, ether_type)) => {
                        context.macs.0 = mac;
                        self.ether_type(ether_type, reader, context, once);
                    }
                    Err(stop) => once.stop(&context, stop),
                }
            }
            104 => {
                context.enter(Layer::Hdlc);
                match reader.skip(2, "address and control").and_then(|()| reader.u16("protocol")) {
                    Ok(ether_type) => self.ether_type(ether_type, reader, context, once),
                    Err(error) => once.stop(&context, error.into()),
                }
            }
            9 | 50 => self.ppp(reader, context, once),
            51 => self.pppoe(reader, context, once),
            105 => self.wlan_frame(reader, false, context, once),
            127 => match radiotap(&mut reader) {
                Ok(padded) => self.wlan_frame(reader, padded, context, once),
                Err(stop) => once.stop(&context, stop),
            },
            _ => self.counts.unknown_link = self.counts.unknown_link.saturating_add(1),
        }
    }

    /// An Ethernet frame, also one within a tunnel.
    pub(super) fn ethernet<'a>(&mut self, mut reader: Reader<'a>, mut context: Context<'a>, once: &mut Once<'_>) {
        if !context.enter(Layer::Eth) {
            return once.fault(&context, reader.error("more layers than are taken apart"));
        }
        let head = (|| {
            let to = reader.array::<6>("destination address")?;
            Ok::<_, Stop>((to, reader.array::<6>("source address")?, reader.u16("EtherType")?))
        })();
        match head {
            Ok((to, from, ether_type)) => {
                context.macs = (Some(from), Some(to));
                self.ether_type(ether_type, reader, context, once);
            }
            Err(stop) => once.stop(&context, stop),
        }
    }

    /// What an EtherType says follows.
    pub(super) fn ether_type<'a>(&mut self, mut kind: u16, mut reader: Reader<'a>, mut context: Context<'a>, once: &mut Once<'_>) {
        while VLAN.contains(&kind) {
            if !context.enter(Layer::Vlan) {
                return once.fault(&context, reader.error("more layers than are taken apart"));
            }
            match reader.u16("VLAN tag").and_then(|tag| Ok((tag, reader.u16("EtherType")?))) {
                Ok((tag, next)) => {
                    context.vlans.push(tag & 0x0fff);
                    kind = next;
                }
                Err(error) => return once.stop(&context, error.into()),
            }
        }
        match kind {
            0x0800 | 0x86dd => self.ip(reader, context, once),
            0x0806 => arp::read(reader, context, once),
            0x8847 | 0x8848 => self.mpls(reader, context, once),
            0x8864 => self.pppoe(reader, context, once),
            0x880b => self.ppp(reader, context, once),
            0x6558 => self.ethernet(reader, context, once),
            // 4 is how cooked captures say LLC.
            0..MIN_ETHER_TYPE => self.llc(reader, context, once),
            _ => self.not_ip(),
        }
    }

    /// 802.2, of which only SNAP leads on to IP.
    fn llc<'a>(&mut self, mut reader: Reader<'a>, mut context: Context<'a>, once: &mut Once<'_>) {
        context.enter(Layer::Llc);
        let snap = reader.peek().starts_with(&[0xaa, 0xaa, 0x03]);
        let next = reader.take(6, "SNAP").ok().and_then(|head| head.get(3..)).map(|oui| matches!(oui, [0, 0, 0] | [0, 0, 0xf8]));
        match (snap, next, reader.u16("EtherType")) {
            (true, Some(true), Ok(kind)) if kind >= MIN_ETHER_TYPE => self.ether_type(kind, reader, context, once),
            _ => self.not_ip(),
        }
    }

    pub(super) fn mpls<'a>(&mut self, mut reader: Reader<'a>, mut context: Context<'a>, once: &mut Once<'_>) {
        loop {
            if !context.enter(Layer::Mpls) {
                return once.fault(&context, reader.error("more layers than are taken apart"));
            }
            match reader.u32("label") {
                Ok(label) if label & 0x100 != 0 => break,
                Ok(_) => {}
                Err(error) => return once.stop(&context, error.into()),
            }
        }
        match reader.peek().first().map(|byte| byte >> 4) {
            Some(4 | 6) => self.ip(reader, context, once),
            // A pseudowire's control word (RFC 4385), then Ethernet.
            Some(0) => match reader.skip(4, "control word") {
                Ok(()) => self.ethernet(reader, context, once),
                Err(error) => once.stop(&context, error.into()),
            },
            Some(_) => self.ethernet(reader, context, once),
            None => self.not_ip(),
        }
    }

    /// RFC 2516's session stage.
    fn pppoe<'a>(&mut self, mut reader: Reader<'a>, mut context: Context<'a>, once: &mut Once<'_>) {
        context.enter(Layer::Pppoe);
        let head = (|| {
            let start = reader.clone();
            let (version, code) = (reader.u8("version")?, reader.u8("code")?);
            reader.skip(2, "session")?;
            let length = reader.u16("length")?;
            if version != 0x11 { Err(wrong(&start, "version of PPPoE")) } else { Ok((code, length)) }
        })();
        match head {
            Ok((0, length)) => {
                let reader = self.clip(reader, usize::from(length), &mut context, once);
                self.ppp(reader, context, once);
            }
            Ok(_) => self.not_ip(),
            Err(stop) => once.stop(&context, stop),
        }
    }

    /// PPP, with or without HDLC's address and control, with or without a compressed protocol (RFC 1661, 1662).
    pub(super) fn ppp<'a>(&mut self, mut reader: Reader<'a>, mut context: Context<'a>, once: &mut Once<'_>) {
        context.enter(Layer::Ppp);
        let protocol = (|| {
            if reader.peek().starts_with(&[0xff, 0x03]) {
                reader.skip(2, "address and control")?;
            }
            if reader.peek().first().is_some_and(|byte| byte & 1 == 1) {
                return reader.u8("protocol").map(u16::from);
            }
            reader.u16("protocol")
        })();
        match protocol {
            Ok(0x0021 | 0x0057) => self.ip(reader, context, once),
            Ok(0x0281 | 0x0283) => self.mpls(reader, context, once),
            Ok(_) => self.not_ip(),
            Err(error) => once.stop(&context, error.into()),
        }
    }

    /// An 802.11 frame: data in clear leads on, all else does not.
    fn wlan_frame<'a>(&mut self, mut reader: Reader<'a>, padded: bool, mut context: Context<'a>, once: &mut Once<'_>) {
        context.enter(Layer::Wlan);
        let body = (|| {
            let [kind, flags] = reader.array::<2>("frame control")?;
            reader.skip(2, "duration")?;
            // Data frames with a body, not protected; a QoS frame may hold several frames, which are left alone.
            if kind & 0x0c != 0x08 || kind & 0x40 != 0 || flags & 0x40 != 0 {
                return Ok(None);
            }
            let [one, two, three] = [reader.array::<6>("address")?, reader.array::<6>("address")?, reader.array::<6>("address")?];
            reader.skip(2, "sequence")?;
            let (to_ds, from_ds) = (flags & 1 != 0, flags & 2 != 0);
            let (from, to) = match (to_ds, from_ds) {
                (false, false) => (two, one),
                (true, false) => (two, three),
                (false, true) => (three, one),
                (true, true) => (reader.array::<6>("address")?, three),
            };
            let mut header = if to_ds && from_ds { 30usize } else { 24 };
            if kind & 0x80 != 0 {
                let qos = reader.array::<2>("QoS control")?;
                if matches!(qos, [low, _] if low & 0x80 != 0) {
                    return Ok(None);
                }
                header = header.saturating_add(2);
                if flags & 0x80 != 0 {
                    reader.skip(4, "HT control")?;
                    header = header.saturating_add(4);
                }
            }
            if padded {
                reader.skip(header.next_multiple_of(4).saturating_sub(header), "padding")?;
            }
            Ok::<_, Stop>(Some((from, to)))
        })();
        match body {
            Ok(Some((from, to))) => {
                context.macs = (Some(from), Some(to));
                self.llc(reader, context, once);
            }
            Ok(None) => self.not_ip(),
            Err(stop) => once.stop(&context, stop),
        }
    }

    pub(super) fn not_ip(&mut self) {
        self.counts.not_ip = self.counts.not_ip.saturating_add(1);
    }
}

/// BSD's loopback: the family in the byte order of whoever captured, as an EtherType.
fn null(reader: &mut Reader<'_>) -> Result<Option<u16>, Stop> {
    let family = reader.u32("address family")?;
    // Some write Cisco's HDLC header here: address, control, EtherType.
    if matches!(family >> 16, 0x0f00 | 0x8f00) && family & 0xffff >= u32::from(MIN_ETHER_TYPE) {
        return Ok(Some(family as u16));
    }
    let family = if family > 0xffff { family.swap_bytes() } else { family };
    Ok(match family {
        2 => Some(0x0800),
        // Linux, NetBSD, FreeBSD, macOS.
        10 | 24 | 28 | 30 => Some(0x86dd),
        _ => None,
    })
}

/// Linux' cooked header, version 1 or 2: the sender's hardware address and the protocol.
fn cooked(reader: &mut Reader<'_>, second: bool) -> Result<(Option<[u8; 6]>, u16), Stop> {
    let mut protocol = 0;
    let length = if second {
        protocol = reader.u16("protocol")?;
        reader.skip(2 + 4 + 2 + 1, "cooked header")?;
        u16::from(reader.u8("address length")?)
    } else {
        reader.skip(4, "cooked header")?;
        reader.u16("address length")?
    };
    let address = reader.array::<8>("address")?;
    if !second {
        protocol = reader.u16("protocol")?;
    }
    Ok(((length == 6).then(|| address.first_chunk::<6>().copied()).flatten(), protocol))
}

/// Passes over a radiotap header; tells whether the 802.11 header is padded to four bytes.
fn radiotap(reader: &mut Reader<'_>) -> Result<bool, Stop> {
    let start = reader.clone();
    reader.skip(2, "version")?;
    let length = u16::from_le_bytes(reader.array("length")?);
    let mut whole = start.clone();
    let mut fields = whole.sub(usize::from(length), "radiotap header")?;
    fields.skip(4, "radiotap header")?;
    let first = u32::from_le_bytes(fields.array("present fields")?);
    let mut present = first;
    while present & 0x8000_0000 != 0 {
        present = u32::from_le_bytes(fields.array("present fields")?);
    }
    // The flags stand behind the time, which is aligned to eight bytes.
    let mut padded = false;
    if first & 2 != 0 {
        if first & 1 != 0 {
            let into = fields.offset().saturating_sub(start.offset());
            fields.skip(into.next_multiple_of(8).saturating_sub(into).saturating_add(8), "time")?;
        }
        padded = fields.u8("flags")? & 0x20 != 0;
    }
    *reader = whole;
    Ok(padded)
}
