//! Reading the client's initial sequence number out of a saved SYN.

const TCP: u8 = 6;
/// Extension headers followed before giving up.
const MAX_EXTENSIONS: usize = 8;

/// The sequence number of a SYN as the kernel saved it: IP header, then TCP header.
///
/// `None` when the bytes are not that. IPv6 extension headers are followed (RFC 8200 §4).
pub fn syn_isn(saved: &[u8]) -> Option<u32> {
    let tcp = match saved.first()? >> 4 {
        4 => ipv4_payload(saved)?,
        6 => ipv6_payload(saved)?,
        _ => return None,
    };
    let syn_without_ack = tcp.get(13)? & 0x12 == 0x02;
    let isn = tcp.get(4..8)?.try_into().ok().map(u32::from_be_bytes)?;
    syn_without_ack.then_some(isn)
}

fn ipv4_payload(saved: &[u8]) -> Option<&[u8]> {
    let header = usize::from(saved.first()? & 0x0f) * 4;
    (header >= 20 && *saved.get(9)? == TCP).then(|| saved.get(header..))?
}

fn ipv6_payload(saved: &[u8]) -> Option<&[u8]> {
    let mut next = *saved.get(6)?;
    let mut rest = saved.get(40..)?;
    for _ in 0..MAX_EXTENSIONS {
        let length = match next {
            TCP => return Some(rest),
            // Hop-by-hop, routing, destination options: length in eights beyond the first.
            0 | 43 | 60 => (usize::from(*rest.get(1)?) + 1) * 8,
            // Fragment.
            44 => 8,
            // Authentication: length in fours beyond the first two.
            51 => (usize::from(*rest.get(1)?) + 2) * 4,
            _ => return None,
        };
        next = *rest.first()?;
        rest = rest.get(length..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tcp(flags: u8) -> Vec<u8> {
        let mut tcp = vec![0; 20];
        tcp[4..8].copy_from_slice(&0xdead_beef_u32.to_be_bytes());
        tcp[12] = 5 << 4;
        tcp[13] = flags;
        tcp
    }

    fn v4(ihl: u8, protocol: u8) -> Vec<u8> {
        let mut ip = vec![0; usize::from(ihl) * 4];
        ip[0] = 0x40 | ihl;
        ip[9] = protocol;
        ip
    }

    fn v6(next: u8) -> Vec<u8> {
        let mut ip = vec![0; 40];
        ip[0] = 0x60;
        ip[6] = next;
        ip
    }

    #[test]
    fn isn_of_each_family() {
        let hop = [TCP, 0, 1, 4, 0, 0, 0, 0];
        let long_hop = [vec![44, 1], vec![0; 14]].concat();
        let fragment = [TCP, 0, 0, 0, 0, 0, 0, 1];
        for (saved, expected) in [
            (vec![v4(5, TCP), tcp(2)], Some(0xdead_beef)),
            (vec![v4(15, TCP), tcp(2)], Some(0xdead_beef)),
            (vec![v4(5, TCP), tcp(0xc2)], Some(0xdead_beef)),
            (vec![v6(TCP), tcp(2)], Some(0xdead_beef)),
            (vec![v6(0), hop.to_vec(), tcp(2)], Some(0xdead_beef)),
            (vec![v6(0), long_hop, fragment.to_vec(), tcp(2)], Some(0xdead_beef)),
            (vec![v4(5, TCP), tcp(0x12)], None),
            (vec![v4(5, TCP), tcp(0x10)], None),
            (vec![v4(5, 17), tcp(2)], None),
            (vec![v6(17), tcp(2)], None),
            (vec![v4(5, TCP), tcp(2)[..13].to_vec()], None),
            (vec![vec![0x41; 40]], None),
            (vec![vec![0x00; 40]], None),
            (vec![vec![]], None),
        ] {
            assert_eq!(syn_isn(&saved.concat()), expected);
        }
        // Extension headers that never end.
        assert_eq!(syn_isn(&[v6(0), vec![0; 400]].concat()), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::fuzz_cases()))]
        #[test]
        fn any_bytes_are_answered(first in prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()], mut bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Some(slot) = bytes.first_mut() { *slot = first; }
            let _ = syn_isn(&bytes);
        }
    }
}
