//! ARP for IPv4 over Ethernet (RFC 826).

use super::{Context, Layer, Once, Stop, wrong};
use glasshive_event::observation::Arp;
use glasshive_proto::Reader;
use std::net::Ipv4Addr;

/// A hardware address as people write it.
pub(crate) fn mac(bytes: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = bytes;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// Reads an ARP packet; other hardware and protocols than Ethernet and IPv4 are passed over.
pub(super) fn read(mut reader: Reader<'_>, mut context: Context<'_>, once: &mut Once<'_>) {
    context.enter(Layer::Arp);
    let frame_mac = context.macs.0;
    match parse(&mut reader, frame_mac) {
        Ok(Some(arp)) => once.sink.arp(arp),
        Ok(None) => {}
        Err(stop) => once.stop(&context, stop),
    }
}

fn parse(reader: &mut Reader<'_>, frame_mac: Option<[u8; 6]>) -> Result<Option<Arp>, Stop> {
    let (hardware, protocol) = (reader.u16("hardware type")?, reader.u16("protocol type")?);
    let lengths = reader.clone();
    let (hardware_length, protocol_length) = (reader.u8("hardware length")?, reader.u8("protocol length")?);
    let operation = reader.u16("operation")?;
    if !matches!(hardware, 1 | 6) || protocol != 0x0800 {
        return Ok(None);
    }
    if (hardware_length, protocol_length) != (6, 4) {
        return Err(wrong(&lengths, "address lengths other than Ethernet's and IPv4's"));
    }
    let sender_mac = reader.array::<6>("sender's hardware address")?;
    let sender = Ipv4Addr::from(reader.array::<4>("sender's address")?);
    let target_mac = reader.array::<6>("target's hardware address")?;
    let target = Ipv4Addr::from(reader.array::<4>("target's address")?);
    Ok(Some(Arp {
        operation,
        frame_mac: mac(frame_mac.unwrap_or(sender_mac)),
        sender_mac: mac(sender_mac),
        sender: sender.into(),
        target_mac: mac(target_mac),
        target: target.into(),
    }))
}
