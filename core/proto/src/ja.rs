//! Fingerprints of TLS hellos: JA3 and JA3S (MD5 of decimal lists in order) and JA4's TLS client
//! fingerprint (sorted lists, SHA-256 cut to twelve digits; BSD-licensed specification).
//!
//! Facts about a program's TLS stack; they must never be read as a name or a verdict. The rest of
//! the JA4+ family is deliberately absent.

use crate::tls::{ClientHello, ServerHello, extension, is_grease};
use crate::{hex, md5_hex};
use sha2::{Digest as _, Sha256};

/// What carried a hello: the first letter of JA4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// TLS over TCP.
    Tcp,
    /// QUIC.
    Quic,
}

/// The string JA3 hashes: version, ciphers, extensions, groups, point formats; GREASE left out.
pub fn ja3_string(hello: &ClientHello) -> String {
    format!(
        "{},{},{},{},{}",
        hello.version,
        decimal(hello.ciphers.iter().copied()),
        decimal(hello.extension_kinds()),
        decimal(hello.groups.iter().copied()),
        decimal(hello.point_formats.iter().copied().map(u16::from)),
    )
}

/// JA3: 32 hexadecimal digits.
pub fn ja3(hello: &ClientHello) -> String {
    md5_hex(ja3_string(hello).as_bytes())
}

/// The string JA3S hashes: version, cipher, extensions.
pub fn ja3s_string(hello: &ServerHello) -> String {
    format!("{},{},{}", hello.version, hello.cipher, dashed(hello.extensions.iter().map(|e| e.kind)))
}

/// JA3S: 32 hexadecimal digits.
pub fn ja3s(hello: &ServerHello) -> String {
    md5_hex(ja3s_string(hello).as_bytes())
}

/// JA4 of a client hello, as `t13d1516h2_8daaf6152771_e5627efa2ab1`.
pub fn ja4(hello: &ClientHello, carrier: Carrier) -> String {
    let (ciphers, extensions) = ja4_lists(hello);
    format!("{}_{}_{}", ja4_a(hello, carrier), hash12(&ciphers), hash12(&extensions))
}

/// JA4_r: the lists themselves instead of their hashes.
pub fn ja4_raw(hello: &ClientHello, carrier: Carrier) -> String {
    let (ciphers, extensions) = ja4_lists(hello);
    format!("{}_{ciphers}_{extensions}", ja4_a(hello, carrier))
}

fn decimal(list: impl Iterator<Item = u16>) -> String {
    dashed(list.filter(|&v| !is_grease(v)))
}

fn dashed(list: impl Iterator<Item = u16>) -> String {
    list.map(|v| v.to_string()).collect::<Vec<_>>().join("-")
}

fn ja4_a(hello: &ClientHello, carrier: Carrier) -> String {
    let carrier = match carrier {
        Carrier::Tcp => 't',
        Carrier::Quic => 'q',
    };
    let version = match hello.highest_version() {
        Some(0x0304) => "13",
        Some(0x0303) => "12",
        Some(0x0302) => "11",
        Some(0x0301) => "10",
        Some(0x0300) => "s3",
        Some(0x0002) => "s2",
        _ => "00",
    };
    let name = if hello.extension_kinds().any(|k| k == extension::SERVER_NAME) { 'd' } else { 'i' };
    let ciphers = hello.ciphers.iter().filter(|&&c| !is_grease(c)).count().min(99);
    let extensions = hello.extension_kinds().filter(|&k| !is_grease(k)).count().min(99);
    format!("{carrier}{version}{name}{ciphers:02}{extensions:02}{}", alpn_ends(hello.alpn.first().map_or(&[], Vec::as_slice)))
}

/// First and last character of the first application protocol; of its hexadecimal form when either
/// is not alphanumeric; `00` without one.
fn alpn_ends(name: &[u8]) -> String {
    let (Some(&first), Some(&last)) = (name.first(), name.last()) else { return "00".to_owned() };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(first), char::from(last)].iter().collect();
    }
    let digits = hex(&[first, last]);
    digits.chars().take(1).chain(digits.chars().skip(3)).collect()
}

/// Sorted ciphers; sorted extensions (server name and ALPN aside) with the signature algorithms in order.
fn ja4_lists(hello: &ClientHello) -> (String, String) {
    let mut ciphers: Vec<u16> = hello.ciphers.iter().copied().filter(|&c| !is_grease(c)).collect();
    ciphers.sort_unstable();
    let counted = |k: &u16| !is_grease(*k) && *k != extension::SERVER_NAME && *k != extension::ALPN;
    let mut kinds: Vec<u16> = hello.extension_kinds().filter(counted).collect();
    kinds.sort_unstable();
    let mut extensions = four_digits(&kinds);
    let algorithms: Vec<u16> = hello.signature_algorithms.iter().copied().filter(|&a| !is_grease(a)).collect();
    if !algorithms.is_empty() {
        extensions.push('_');
        extensions.push_str(&four_digits(&algorithms));
    }
    (four_digits(&ciphers), extensions)
}

fn four_digits(list: &[u16]) -> String {
    list.iter().map(|v| format!("{v:04x}")).collect::<Vec<_>>().join(",")
}

/// First twelve hexadecimal digits of SHA-256; zeros for an empty list.
fn hash12(text: &str) -> String {
    if text.is_empty() {
        return "000000000000".to_owned();
    }
    hex(&Sha256::digest(text.as_bytes())).chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::{ext, message, numbers, records, sni, vec8, vec16};
    use crate::tls::{client_hello, client_hello_message};

    /// The hello of the JA4 specification's worked example, with GREASE added everywhere.
    fn example() -> ClientHello {
        let list = [
            ext(0x1a1a, &[]),
            ext(0x001b, &[2, 0, 2]),
            sni(b"example.com"),
            ext(0x0033, &[0, 0]),
            ext(0x0010, &vec16(&[vec8(b"h2"), vec8(b"http/1.1")].concat())),
            ext(0x4469, &[0, 3, 2, b'h', b'2']),
            ext(0x0017, &[]),
            ext(0x002d, &[1, 1]),
            ext(0x000d, &vec16(&numbers(&[0x5a5a, 0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601]))),
            ext(0x0005, &[1, 0, 0, 0, 0]),
            ext(0x0023, &[]),
            ext(0x0012, &[]),
            ext(0x002b, &vec8(&numbers(&[0x7a7a, 0x0304, 0x0303]))),
            ext(0xff01, &[0]),
            ext(0x000b, &vec8(&[0])),
            ext(0x000a, &vec16(&numbers(&[0x2a2a, 0x001d, 0x0017, 0x0018]))),
            ext(0x0015, &[0; 20]),
        ];
        let ciphers = [
            0x0a0a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
        ];
        client_hello(&records(&message(0x0303, &ciphers, Some(&list)), 512)).done().unwrap()
    }

    /// Published: JA4 technical details, "Example".
    #[test]
    fn published_ja4() {
        assert_eq!(ja4(&example(), Carrier::Tcp), "t13d1516h2_8daaf6152771_e5627efa2ab1");
        assert_eq!(
            ja4_raw(&example(), Carrier::Tcp),
            "t13d1516h2_002f,0035,009c,009d,1301,1302,1303,c013,c014,c02b,c02c,c02f,c030,cca8,cca9_\
             0005,000a,000b,000d,0012,0015,0017,001b,0023,002b,002d,0033,4469,ff01_0403,0804,0401,0503,0805,0501,0806,0601"
        );
        assert!(ja4(&example(), Carrier::Quic).starts_with("q13d1516h2_"));
    }

    /// Published: the same page, without signature algorithms.
    #[test]
    fn published_ja4_without_signature_algorithms() {
        let mut hello = example();
        hello.signature_algorithms.clear();
        assert_eq!(ja4(&hello, Carrier::Tcp), "t13d1516h2_8daaf6152771_6d807ffa2a79");
    }

    /// Published: the JA3 project's README gives string and digest of both.
    #[test]
    fn published_ja3() {
        let list = [sni(b"x"), ext(10, &vec16(&numbers(&[23, 24, 25]))), ext(11, &vec8(&[0]))];
        let hello = message(769, &[47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4], Some(&list));
        let hello = client_hello_message(&hello).done().unwrap();
        assert_eq!(ja3_string(&hello), "769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0");
        assert_eq!(ja3(&hello), "ada70206e40642a3e4461f35503241d5");

        let bare = message(769, &[4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99], None);
        let bare = client_hello_message(&bare).done().unwrap();
        assert_eq!(ja3_string(&bare), "769,4-5-10-9-100-98-3-6-19-18-99,,,");
        assert_eq!(ja3(&bare), "de350869b8c85de67a350c8d186f11e6");
    }

    /// `printf %s 769,47,65281-0-11-35-5-16 | md5sum`.
    #[test]
    fn ja3s_keeps_the_order() {
        let extensions = [65281, 0, 11, 35, 5, 16].map(|kind| crate::tls::Extension { kind, data: Vec::new() }).to_vec();
        let hello = ServerHello { version: 769, cipher: 47, extensions, ..ServerHello::default() };
        assert_eq!(ja3s_string(&hello), "769,47,65281-0-11-35-5-16");
        assert_eq!(ja3s(&hello), "836ce314215654b5b1f85f97c73e506f");
    }

    /// GREASE must not show. Checked with
    /// `python3 -c 'import hashlib; print(hashlib.md5(b"771,4865-…-53,27-0-…-21,29-23-24,0").hexdigest())'`.
    #[test]
    fn ja3_ignores_grease() {
        let text = ja3_string(&example());
        assert_eq!(
            text,
            "771,4865-4866-4867-49195-49199-49196-49200-52393-52392-49171-49172-156-157-47-53,\
             27-0-51-16-17513-23-45-13-5-35-18-43-65281-11-10-21,29-23-24,0"
        );
        assert_eq!(ja3(&example()), "c000e2caf3a25423f9de6c8a4b12a975");
    }

    /// The specification's table for names that are not alphanumeric.
    #[test]
    fn alpn_of_other_bytes() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "00"),
            (b"h2", "h2"),
            (b"http/1.1", "h1"),
            (b"x", "xx"),
            (&[0xab], "ab"),
            (&[0xab, 0xcd], "ad"),
            (&[0x30, 0xab], "3b"),
            (&[0x30, 0x31, 0xab, 0xcd], "3d"),
            (&[0x30, 0xab, 0xcd, 0x31], "01"),
        ];
        for (name, expected) in cases {
            assert_eq!(&alpn_ends(name), expected, "{name:x?}");
        }
    }

    #[test]
    fn empty_lists_are_zeros() {
        let hello = ClientHello { version: 0x0301, ..ClientHello::default() };
        assert_eq!(ja4(&hello, Carrier::Tcp), "t10i000000_000000000000_000000000000");
        let many = ClientHello { version: 0x0303, ciphers: (1..200).collect(), ..ClientHello::default() };
        assert!(ja4(&many, Carrier::Tcp).starts_with("t12i990000_"));
    }
}
