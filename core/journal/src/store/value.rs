//! A stored block: who sent it and when, then the records exactly as received.
//!
//! ```text
//! 1 ‖ node length u16 BE ‖ node ‖ net length u16 BE ‖ net ‖ received i64 BE ns UTC
//! ‖ chain head before its first record 32 ‖ (record length u32 BE ‖ record)*
//! ```

use glasshive_event::record::MAX_RECORD;

/// Bytes of records a block holds before the next one starts; a single larger record stands alone.
pub(crate) const BLOCK_BYTES: usize = 8 * 1024;
const VERSION: u8 = 1;

/// A stored block read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockView<'a> {
    pub(crate) node: &'a str,
    pub(crate) net: &'a str,
    pub(crate) received_ns: i64,
    pub(crate) chain_before: [u8; 32],
    pub(crate) records: &'a [u8],
}

impl<'a> BlockView<'a> {
    /// Reads a stored value; `None` when it is damaged or of a later build.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        if *version != VERSION {
            return None;
        }
        let (node, rest) = text(rest)?;
        let (net, rest) = text(rest)?;
        let (received, rest) = rest.split_first_chunk::<8>()?;
        let (chain_before, records) = rest.split_first_chunk::<32>()?;
        Some(Self { node, net, received_ns: i64::from_be_bytes(*received), chain_before: *chain_before, records })
    }

    /// The records in order; stops at damage.
    pub(crate) fn iter(&self) -> Records<'a> {
        Records(self.records)
    }
}

/// The stored form, without records yet.
pub(crate) fn start(node: &str, net: &str, received_ns: i64, chain_before: &[u8; 32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(BLOCK_BYTES + 256);
    out.push(VERSION);
    for text in [node, net] {
        out.extend_from_slice(&(text.len() as u16).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(&received_ns.to_be_bytes());
    out.extend_from_slice(chain_before);
    out
}

/// Adds a record.
pub(crate) fn push(out: &mut Vec<u8>, record: &[u8]) {
    out.extend_from_slice(&(record.len() as u32).to_be_bytes());
    out.extend_from_slice(record);
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// Length-prefixed records. Ends early, with [`Records::damaged`], at a length that cannot be.
pub(crate) struct Records<'a>(pub(crate) &'a [u8]);

impl Records<'_> {
    /// Whether bytes are left that are no record.
    pub(crate) fn damaged(&self) -> bool {
        !self.0.is_empty()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok().filter(|len| (1..=MAX_RECORD).contains(len))?;
        let (record, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glasshive_event::text::hex;
    use proptest::prelude::*;

    /// Golden vector of stored block version 1: a change here makes every stored log unreadable.
    #[test]
    fn golden_v1() {
        let mut bytes = start("n1", "lab", 1_700_000_000_000_000_001, &[0xaa; 32]);
        push(&mut bytes, b"abc");
        push(&mut bytes, b"d");
        assert_eq!(hex(&bytes), format!("0100026e3100036c616217979cfe362a0001{}00000003616263{}", "aa".repeat(32), "0000000164"));
        let view = BlockView::parse(&bytes).unwrap();
        assert_eq!((view.node, view.net, view.received_ns, view.chain_before), ("n1", "lab", 1_700_000_000_000_000_001, [0xaa; 32]));
        let mut records = view.iter();
        assert_eq!(records.by_ref().collect::<Vec<_>>(), [&b"abc"[..], b"d"]);
        assert!(!records.damaged());
    }

    #[test]
    fn damage_ends_the_records() {
        for bytes in [&b"\0\0\0\0"[..], b"\0\0\0\x02a", b"\xff\xff\xff\xffa", b"\0\0", b"\0\0\x40\x01"] {
            let mut records = Records(bytes);
            assert_eq!(records.next(), None);
            assert!(records.damaged());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::store::fuzz_cases()))]
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), first in 0u8..3) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.first_mut() { *byte = first; }
            if let Some(view) = BlockView::parse(&bytes) {
                let total: usize = view.iter().map(<[u8]>::len).sum();
                prop_assert!(total <= bytes.len());
            }
        }
    }
}
