//! DNS messages as plain facts (RFC 1035, EDNS RFC 6891): header, questions, records, names.
//!
//! Names are decompressed within bounds and kept without loss. It never resolves, never answers,
//! never interprets record data.

use crate::reader::{ParseError, Parsed, Reader};
use std::borrow::Cow;
use std::fmt;

/// Longest name in wire form (RFC 1035 §3.1).
pub const MAX_NAME: usize = 255;
/// Most questions and records together one message may hold; the rest is malformed.
pub const MAX_ENTRIES: usize = 1_024;

/// The fixed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Transaction id.
    pub id: u16,
    /// Flag word as sent.
    pub flags: u16,
    /// Counts as claimed: questions, answers, authority, additional.
    pub counts: [u16; 4],
}

impl Header {
    /// Whether this is a response (QR).
    pub fn is_response(&self) -> bool {
        self.flags & 0x8000 != 0
    }
    /// Operation: 0 query, 4 notify, 5 update, ….
    pub fn opcode(&self) -> u8 {
        (self.flags >> 11 & 15) as u8
    }
    /// Whether recursion is desired (RD).
    pub fn recursion_desired(&self) -> bool {
        self.flags & 0x0100 != 0
    }
    /// Whether the message was truncated (TC).
    pub fn truncated(&self) -> bool {
        self.flags & 0x0200 != 0
    }
    /// Low four bits of the response code.
    pub fn rcode(&self) -> u8 {
        (self.flags & 15) as u8
    }
}

/// A domain name: its labels, decompressed, case as sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Name {
    /// Length-prefixed labels without the final root byte.
    wire: Vec<u8>,
}

impl Name {
    /// The labels in order, none for the root.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut r = Reader::new(&self.wire);
        std::iter::from_fn(move || r.vec8("label").ok().map(|mut label| label.rest()))
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.wire.is_empty()
    }

    /// Bytes in wire form, the root byte included.
    pub fn wire_len(&self) -> usize {
        self.wire.len().saturating_add(1)
    }
}

/// Presentation form without loss (RFC 1035 §5.1, RFC 4343 §2.1): a final dot, `\.` and `\\` for
/// those characters within a label, `\DDD` for anything but printable ASCII.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for label in self.labels() {
            for &byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                    b'!'..=b'~' => write!(f, "{}", char::from(byte))?,
                    other => write!(f, "\\{other:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Name asked for.
    pub name: Name,
    /// Type number: see [`type_name`].
    pub kind: u16,
    /// Class number: see [`class_name`].
    pub class: u16,
}

/// A resource record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Owner.
    pub name: Name,
    /// Type number.
    pub kind: u16,
    /// Class number (a UDP size in OPT).
    pub class: u16,
    /// Time to live in seconds (flags in OPT).
    pub ttl: u32,
    /// Data as sent; names in it may be compressed against the message.
    pub data: Vec<u8>,
    /// Offset of the data in the message.
    pub data_offset: usize,
}

/// What an OPT record says (RFC 6891 §6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edns {
    /// UDP payload size the sender can take.
    pub udp_size: u16,
    /// Upper eight bits of the response code.
    pub extended_rcode: u8,
    /// EDNS version.
    pub version: u8,
    /// DNSSEC OK.
    pub dnssec_ok: bool,
    /// Options in order: number and value.
    pub options: Vec<(u16, Vec<u8>)>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Fixed header.
    pub header: Header,
    /// Questions in order.
    pub questions: Vec<Question>,
    /// Answer records.
    pub answers: Vec<Record>,
    /// Authority records.
    pub authority: Vec<Record>,
    /// Additional records, OPT included.
    pub additional: Vec<Record>,
    /// The first OPT record, read.
    pub edns: Option<Edns>,
    /// Bytes after the last record.
    pub trailing: usize,
}

/// Reads the header alone: what a server needs to answer FORMERR to a message [`message`] refuses.
pub fn header(input: &[u8]) -> Result<Header, ParseError> {
    read_header(&mut Reader::new(input))
}

/// Reads one whole message, as a datagram carries it.
pub fn message(input: &[u8]) -> Result<Message, ParseError> {
    message_at(input, 0)
}

/// Reads one message of a stream, with its two-byte length (RFC 1035 §4.2.2).
pub fn tcp_message(input: &[u8]) -> Parsed<Message> {
    let mut r = Reader::new(input);
    let Ok(length) = r.u16("DNS length") else { return Parsed::missing(input.len(), 14) };
    let used = usize::from(length).saturating_add(2);
    if length < 12 {
        return Parsed::malformed(0, "DNS message shorter than its header");
    }
    let Ok(body) = r.take(usize::from(length), "body") else { return Parsed::missing(input.len(), used) };
    match message_at(body, 2) {
        Ok(value) => Parsed::Done { value, used },
        Err(e) => e.into(),
    }
}

/// `base` is where the message starts in the input, for the offsets of errors.
fn message_at(input: &[u8], base: usize) -> Result<Message, ParseError> {
    sections(input).map_err(|e| ParseError::new(e.offset.saturating_add(base), e.what))
}

fn sections(input: &[u8]) -> Result<Message, ParseError> {
    let mut r = Reader::new(input);
    let header = read_header(&mut r)?;
    let total: usize = header.counts.iter().map(|&n| usize::from(n)).sum();
    if total > MAX_ENTRIES {
        return Err(ParseError::new(4, "too many DNS records"));
    }
    let [questions, answers, authority, additional] = header.counts;
    let mut message = Message { header, ..Message::default() };
    for _ in 0..questions {
        let name = name(input, &mut r)?;
        message.questions.push(Question { name, kind: r.u16("DNS question")?, class: r.u16("DNS question")? });
    }
    message.answers = records(input, &mut r, answers)?;
    message.authority = records(input, &mut r, authority)?;
    message.additional = records(input, &mut r, additional)?;
    if let Some(opt) = message.additional.iter().find(|record| record.kind == OPT) {
        message.edns = Some(edns(opt)?);
    }
    message.trailing = r.len();
    Ok(message)
}

const OPT: u16 = 41;

fn read_header(r: &mut Reader<'_>) -> Result<Header, ParseError> {
    const WHAT: &str = "DNS header";
    let (id, flags) = (r.u16(WHAT)?, r.u16(WHAT)?);
    Ok(Header { id, flags, counts: [r.u16(WHAT)?, r.u16(WHAT)?, r.u16(WHAT)?, r.u16(WHAT)?] })
}

fn records<'a>(input: &'a [u8], r: &mut Reader<'a>, count: u16) -> Result<Vec<Record>, ParseError> {
    let mut out = Vec::new();
    for _ in 0..count {
        let name = name(input, r)?;
        let (kind, class, ttl) = (r.u16("DNS record")?, r.u16("DNS record")?, r.u32("DNS record")?);
        let mut data = r.vec16("DNS record data")?;
        out.push(Record { name, kind, class, ttl, data_offset: data.offset(), data: data.rest().to_vec() });
    }
    Ok(out)
}

fn edns(opt: &Record) -> Result<Edns, ParseError> {
    let [extended_rcode, version, flags, _] = opt.ttl.to_be_bytes();
    let mut r = Reader::at(&opt.data, opt.data_offset);
    let mut options = Vec::new();
    while !r.is_empty() {
        options.push((r.u16("EDNS option")?, r.vec16("EDNS option")?.rest().to_vec()));
    }
    Ok(Edns { udp_size: opt.class, extended_rcode, version, dnssec_ok: flags & 0x80 != 0, options })
}

/// Reads a name at `r`, following compression pointers, which must lead strictly backwards; so a
/// name ends after at most its 255 bytes whatever the pointers say. Also for names inside record
/// data: `Reader::at(message, 0)` skipped to the data's offset.
pub fn name<'a>(message: &'a [u8], r: &mut Reader<'a>) -> Result<Name, ParseError> {
    let mut wire = Vec::new();
    // Where the part being read began: the next pointer must lead before it.
    let mut floor = r.offset();
    let mut jumped: Option<Reader<'_>> = None;
    loop {
        let here = jumped.as_mut().unwrap_or(r);
        let at = here.offset();
        let length = here.u8("DNS name")?;
        match length {
            0 => return Ok(Name { wire }),
            1..=63 => {
                let label = here.take(usize::from(length), "DNS label")?;
                if wire.len().saturating_add(label.len()).saturating_add(2) > MAX_NAME {
                    return Err(ParseError::new(at, "DNS name too long"));
                }
                wire.push(length);
                wire.extend_from_slice(label);
            }
            0xc0..=0xff => {
                let low = here.u8("DNS name pointer")?;
                let target = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                if target >= floor {
                    return Err(ParseError::new(at, "DNS name pointer leads forwards"));
                }
                floor = target;
                let mut next = Reader::new(message);
                next.skip(target, "DNS name pointer")?;
                jumped = Some(next);
            }
            _ => return Err(ParseError::new(at, "DNS label type")),
        }
    }
}

const TYPES: &[(u16, &str)] = &[
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (10, "NULL"),
    (11, "WKS"),
    (12, "PTR"),
    (13, "HINFO"),
    (15, "MX"),
    (16, "TXT"),
    (17, "RP"),
    (18, "AFSDB"),
    (24, "SIG"),
    (25, "KEY"),
    (28, "AAAA"),
    (29, "LOC"),
    (33, "SRV"),
    (35, "NAPTR"),
    (36, "KX"),
    (37, "CERT"),
    (39, "DNAME"),
    (41, "OPT"),
    (43, "DS"),
    (44, "SSHFP"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (50, "NSEC3"),
    (51, "NSEC3PARAM"),
    (52, "TLSA"),
    (59, "CDS"),
    (60, "CDNSKEY"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (99, "SPF"),
    (249, "TKEY"),
    (250, "TSIG"),
    (251, "IXFR"),
    (252, "AXFR"),
    (253, "MAILB"),
    (255, "ANY"),
    (256, "URI"),
    (257, "CAA"),
];

/// A type's name; `TYPE65280` for the unknown (RFC 3597 §5).
pub fn type_name(kind: u16) -> Cow<'static, str> {
    named(TYPES, kind, "TYPE")
}

/// A class's name; `CLASS5` for the unknown (RFC 3597 §5).
pub fn class_name(class: u16) -> Cow<'static, str> {
    named(&[(1, "IN"), (3, "CH"), (4, "HS"), (254, "NONE"), (255, "ANY")], class, "CLASS")
}

/// An operation's name.
pub fn opcode_name(opcode: u8) -> Cow<'static, str> {
    named(&[(0, "QUERY"), (1, "IQUERY"), (2, "STATUS"), (4, "NOTIFY"), (5, "UPDATE"), (6, "DSO")], opcode.into(), "OPCODE")
}

fn named(table: &[(u16, &'static str)], number: u16, prefix: &str) -> Cow<'static, str> {
    match table.iter().find(|(n, _)| *n == number) {
        Some((_, name)) => Cow::Borrowed(name),
        None => Cow::Owned(format!("{prefix}{number}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(counts: [u16; 4]) -> Vec<u8> {
        let mut out = vec![0x12, 0x34, 0x01, 0x00];
        out.extend(counts.iter().flat_map(|n| n.to_be_bytes()));
        out
    }

    fn query(name: &[u8], kind: u16, class: u16) -> Vec<u8> {
        let mut out = head([1, 0, 0, 0]);
        out.extend(name);
        out.extend(kind.to_be_bytes());
        out.extend(class.to_be_bytes());
        out
    }

    #[test]
    fn a_query() {
        let bytes = query(b"\x07version\x04bind\0", 16, 3);
        let m = message(&bytes).unwrap();
        assert_eq!((m.header.id, m.header.opcode(), m.header.is_response(), m.header.recursion_desired()), (0x1234, 0, false, true));
        assert_eq!(m.questions[0].name.to_string(), "version.bind.");
        assert_eq!((type_name(m.questions[0].kind), class_name(m.questions[0].class)), ("TXT".into(), "CH".into()));
        assert_eq!(m.trailing, 0);
        let framed = [vec![0, u8::try_from(bytes.len()).unwrap()], bytes.clone(), vec![9]].concat();
        let Parsed::Done { value, used } = tcp_message(&framed) else { panic!() };
        assert_eq!((value, used), (m, bytes.len() + 2));
        for cut in 0..bytes.len() + 2 {
            assert!(matches!(tcp_message(&framed[..cut]), Parsed::Incomplete { .. }), "{cut}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(message(&bytes[..cut]).unwrap_err().offset, cut);
        }
    }

    #[test]
    fn names_are_lossless() {
        let name = message(&query(b"\x05a.b\\c\x03\x00\xffZ\0", 1, 1)).unwrap().questions.remove(0).name;
        assert_eq!(name.to_string(), "a\\.b\\\\c.\\000\\255Z.");
        assert_eq!(name.labels().collect::<Vec<_>>(), [b"a.b\\c".as_slice(), b"\x00\xffZ"]);
        assert_eq!(message(&query(b"\0", 2, 1)).unwrap().questions[0].name.to_string(), ".");
    }

    #[test]
    fn compressed_answers_and_edns() {
        let mut bytes = query(b"\x01a\x02bc\0", 1, 1);
        bytes[5] = 1;
        bytes[7] = 1;
        bytes[11] = 1;
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        bytes.extend([0, 0, 41, 0x04, 0xd0, 1, 0, 0x80, 0, 0, 8, 0, 10, 0, 4, 1, 2, 3, 4]);
        let m = message(&bytes).unwrap();
        assert_eq!(m.answers[0].name.to_string(), "a.bc.");
        assert_eq!((m.answers[0].ttl, m.answers[0].data.as_slice()), (60, [192, 0, 2, 1].as_slice()));
        let edns = m.edns.unwrap();
        assert_eq!((edns.udp_size, edns.extended_rcode, edns.version, edns.dnssec_ok), (1232, 1, 0, true));
        assert_eq!(edns.options, vec![(10, vec![1, 2, 3, 4])]);
    }

    #[test]
    fn hostile_names_end() {
        let fault = |name: &[u8]| message(&query(name, 1, 1)).unwrap_err();
        assert_eq!(fault(&[0xc0, 12]), ParseError::new(12, "DNS name pointer leads forwards"));
        assert_eq!(fault(&[1, b'a', 0xc0, 12]).offset, 14);
        assert_eq!(fault(&[0xc0, 200]).offset, 12);
        assert_eq!(fault(&[0x40, 0]), ParseError::new(12, "DNS label type"));
        let long: Vec<u8> = (0..5).flat_map(|_| [vec![63], vec![b'a'; 63]].concat()).collect();
        assert_eq!(fault(&long), ParseError::new(12 + 64 * 3, "DNS name too long"));
        // 253 characters fit exactly.
        let mut fits: Vec<u8> = (0..3).flat_map(|_| [vec![63], vec![b'a'; 63]].concat()).collect();
        fits.extend([vec![61], vec![b'a'; 61], vec![0]].concat());
        assert_eq!(message(&query(&fits, 1, 1)).unwrap().questions[0].name.wire_len(), MAX_NAME);
    }

    #[test]
    fn claimed_counts_are_bounded() {
        assert_eq!(message(&head([0, 0xffff, 0xffff, 1])).unwrap_err(), ParseError::new(4, "too many DNS records"));
        assert_eq!(message(&head([0, 9, 0, 0])).unwrap_err().offset, 12);
        assert_eq!(header(&head([7, 0, 0, 0])).unwrap().counts[0], 7);
        assert_eq!(message(&[&head([0; 4])[..], b"xyz"].concat()).unwrap().trailing, 3);
        assert_eq!(tcp_message(&[0, 11]).error().unwrap().offset, 0);
    }

    #[test]
    fn numbers_have_names() {
        assert_eq!(type_name(65280), "TYPE65280");
        assert_eq!(class_name(7), "CLASS7");
        assert_eq!(opcode_name(5), "UPDATE");
        assert!(TYPES.windows(2).all(|w| w[0].0 < w[1].0));
    }
}
