//! A frame taken apart: link layers, VLANs, IP with its fragments and tunnels, down to ports.
//!
//! Each IP packet found, the outer ones of tunnels too, is a [`Unit`] given to a [`Sink`]. It must never
//! believe a length, follow more than [`MAX_DEPTH`] IP headers, drop a packet for a wrong checksum, or
//! hold more than its bound of fragments. What breaks a protocol is told once a packet, with its place;
//! what is only cut off by the capture is not a fault of the sender.

mod arp;
mod checksum;
mod fragment;
mod ip;
mod layers;
mod link;
mod transport;
mod tunnel;

pub(crate) use arp::mac;
pub use layers::{Few, Layer, Layers, Vlans};
pub use transport::Tcp;

use crate::pipeline::Packet;
use fragment::Fragments;
use glasshive_event::Timestamp;
use glasshive_event::observation;
use glasshive_proto::reader::{ParseError, Reader};
use std::net::IpAddr;

/// Most IP headers within each other.
pub const MAX_DEPTH: u8 = 16;
/// Most bytes of a fault shown.
const MAX_SHOWN: usize = 256;

/// What an IP packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport<'a> {
    /// A TCP segment.
    Tcp(Tcp<'a>),
    /// Ports of UDP or SCTP.
    Ports(u16, u16),
    /// Type, code, and the identifier of an echo.
    Icmp(u8, u8, Option<u16>),
    /// Anything else, and what was cut off before its ports.
    Other,
}

/// One IP packet, reassembled when it came in fragments.
#[derive(Debug, Clone, Copy)]
pub struct Unit<'a> {
    /// IP headers around this one.
    pub depth: u8,
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// IP protocol number of what it carries.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 identification.
    pub ip_id: Option<u16>,
    /// Bytes from the IP header on, as sent, all fragments together.
    pub ip_bytes: u64,
    /// Packets it came in.
    pub packets: u32,
    /// How many of them were fragments.
    pub fragments: u32,
    /// Whether it was captured shorter than it was.
    pub truncated: bool,
    /// Whether the checksum of the IP or transport header is wrong.
    pub bad_checksum: bool,
    /// Hardware addresses of sender and receiver, where the link layer has them.
    pub macs: (Option<[u8; 6]>, Option<[u8; 6]>),
    /// VLAN identifiers.
    pub vlans: Vlans,
    /// Layers down to this one's transport, and the tunnel in it.
    pub layers: Layers,
    /// What it carries.
    pub transport: Transport<'a>,
    /// Bytes above the transport header.
    pub payload: &'a [u8],
    /// How many there were on the wire.
    pub payload_length: u32,
    /// Whether the payload is a tunnel that is taken apart into units of its own.
    pub tunnel: bool,
}

/// Bytes that break a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault<'a> {
    /// The layer.
    pub layer: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// Where, from the start of the packet or of the reassembled datagram.
    pub offset: usize,
    /// At most 256 bytes from there.
    pub bytes: &'a [u8],
    /// Sender and receiver, when an IP header was read.
    pub ends: Option<(IpAddr, IpAddr)>,
}

/// Who takes what is found.
pub trait Sink {
    /// An IP packet. The outer of a tunnel comes before the inner.
    fn unit(&mut self, unit: &Unit<'_>);
    /// An ARP packet.
    fn arp(&mut self, arp: observation::Arp);
    /// A fault; at most one a packet.
    fn fault(&mut self, fault: &Fault<'_>);
}

/// What was not taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uncounted {
    /// Frames of link types not known here.
    pub unknown_link: u64,
    /// Frames that carry neither IP nor ARP.
    pub not_ip: u64,
    /// Datagrams whose fragments were forgotten for want of room.
    pub evicted: u64,
    /// Packets with a fault.
    pub faults: u64,
}

/// Takes frames apart. It holds only fragments.
#[derive(Debug, Default)]
pub struct Decoder {
    fragments: Fragments,
    counts: Uncounted,
}

/// What is known of the place within a packet.
#[derive(Debug, Clone, Copy)]
struct Context<'a> {
    at: Timestamp,
    /// What offsets count from.
    base: &'a [u8],
    depth: u8,
    layers: Layers,
    vlans: Vlans,
    macs: (Option<[u8; 6]>, Option<[u8; 6]>),
    /// Bytes that were sent behind those there are.
    missing: usize,
    ends: Option<(IpAddr, IpAddr)>,
}

/// Why a layer could not be read.
#[derive(Debug, Clone, Copy)]
enum Stop {
    /// The bytes end.
    Short(ParseError),
    /// They are wrong.
    Wrong(ParseError),
}

impl From<ParseError> for Stop {
    fn from(error: ParseError) -> Self {
        Self::Short(error)
    }
}

/// A fault of the byte at `reader`.
fn wrong(reader: &Reader<'_>, what: &'static str) -> Stop {
    Stop::Wrong(reader.error(what))
}

impl Context<'_> {
    /// One layer further in; false when there are too many.
    fn enter(&mut self, layer: Layer) -> bool {
        self.layers.push(layer)
    }

    /// The same without the packet's bytes, to be kept.
    fn detached(&self) -> Context<'static> {
        let Self { at, base: _, depth, layers, vlans, macs, missing, ends } = *self;
        Context { at, base: &[], depth, layers, vlans, macs, missing, ends }
    }
}

/// The sink of one packet: only its first fault goes through.
struct Once<'s> {
    sink: &'s mut dyn Sink,
    faulty: bool,
}

impl Once<'_> {
    fn fault(&mut self, context: &Context<'_>, error: ParseError) {
        if std::mem::replace(&mut self.faulty, true) {
            return;
        }
        let rest = context.base.get(error.offset..).unwrap_or_default();
        self.sink.fault(&Fault {
            layer: context.layers.as_slice().last().copied().unwrap_or_default().name(),
            what: error.what,
            offset: error.offset,
            bytes: rest.get(..MAX_SHOWN).unwrap_or(rest),
            ends: context.ends,
        });
    }

    fn stop(&mut self, context: &Context<'_>, stop: Stop) {
        match stop {
            Stop::Short(_) if context.missing > 0 => {}
            Stop::Short(error) | Stop::Wrong(error) => self.fault(context, error),
        }
    }
}

impl Decoder {
    /// Takes one packet apart.
    pub fn packet(&mut self, packet: &Packet<'_>, sink: &mut dyn Sink) {
        let missing = (packet.original_length as usize).saturating_sub(packet.data.len());
        let context = Context {
            at: packet.at,
            base: packet.data,
            depth: 0,
            layers: Layers::default(),
            vlans: Vlans::default(),
            macs: (None, None),
            missing,
            ends: None,
        };
        let mut once = Once { sink, faulty: false };
        self.link(packet.link_type, Reader::new(packet.data), context, &mut once);
        self.note(once.faulty);
    }

    /// Gives up fragments that waited too long: what is known of them comes as units.
    pub fn expire(&mut self, now: Timestamp, sink: &mut dyn Sink) {
        while let Some(datagram) = self.fragments.pop_due(now) {
            let mut once = Once { sink: &mut *sink, faulty: false };
            self.incomplete(datagram, true, &mut once);
            self.note(once.faulty);
        }
    }

    /// Gives up all fragments: the end.
    pub fn finish(&mut self, sink: &mut dyn Sink) {
        while let Some(datagram) = self.fragments.pop_oldest() {
            let mut once = Once { sink: &mut *sink, faulty: false };
            self.incomplete(datagram, false, &mut once);
            self.note(once.faulty);
        }
    }

    /// What was not taken apart so far.
    pub fn counts(&self) -> Uncounted {
        Uncounted { evicted: self.fragments.evicted(), ..self.counts }
    }

    /// The next `length` bytes, or what is there of them: more promised than sent is a fault.
    fn clip<'a>(&self, mut reader: Reader<'a>, length: usize, context: &mut Context<'a>, once: &mut Once<'_>) -> Reader<'a> {
        let there = reader.len();
        if length > there && context.missing == 0 {
            once.fault(context, ParseError::new(reader.offset(), "a length beyond the end of the packet"));
        }
        context.missing = length.saturating_sub(there);
        reader.sub(length.min(there), "").unwrap_or(reader)
    }

    fn note(&mut self, faulty: bool) {
        self.counts.faults = self.counts.faults.saturating_add(u64::from(faulty));
    }
}
