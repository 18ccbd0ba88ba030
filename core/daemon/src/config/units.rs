//! Values with units and addresses, as operators write them.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes: `"4 MiB"`, `"1.5GB"`, `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

/// A length of time: `"30d"`, `"90s"`, `"250ms"`, `"1h30m"`; a bare number is seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Period(pub Duration);

/// An address and port to listen on: `"127.0.0.1:7443"`, `"[::]:22"`, `"*:22"` (all IPv4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listen(pub SocketAddr);

/// A host (name or address) and port to reach: `"controller.example:7443"`, `"[fd00::1]:7443"`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// Name or address, without brackets.
    pub host: String,
    /// Port, never 0.
    pub port: u16,
}

/// A network: `"10.66.7.0/24"`, `"fd00::/64"`; a bare address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    bits: u8,
}

/// Why a text is not the value it should be, with an example of one that is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not {1}")]
pub struct ParseUnitError(String, &'static str);

const SIZE: &str = "a size; write a number with B, KiB, MiB, GiB, TiB, kB, MB, GB or TB, such as \"4 MiB\"";
const PERIOD: &str = "a length of time; write numbers with ms, s, m, h, d or w, such as \"30d\" or \"1h30m\"";
const LISTEN: &str = "an address to listen on; write ADDRESS:PORT, such as \"127.0.0.1:7443\" or \"[::]:7443\"";
const HOST_PORT: &str = "a host to reach; write HOST:PORT, such as \"controller.example:7443\" or \"[fd00::1]:7443\"";
const PREFIX: &str = "a network; write ADDRESS/BITS with no bits set after the prefix, such as \"10.66.7.0/24\" or \"fd00::/64\"";

impl FromStr for Size {
    type Err = ParseUnitError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseUnitError(text.to_owned(), SIZE);
        let (number, unit) = split_number(text.trim());
        let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "ki" | "kib" => 1 << 10,
            "m" | "mi" | "mib" => 1 << 20,
            "g" | "gi" | "gib" => 1 << 30,
            "t" | "ti" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(bad()),
        };
        scaled(number, scale).map(Self).ok_or_else(bad)
    }
}

impl FromStr for Period {
    type Err = ParseUnitError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseUnitError(text.to_owned(), PERIOD);
        let mut rest = text.trim();
        let mut millis: u64 = 0;
        let mut parts = 0;
        while !rest.is_empty() && parts < 8 {
            let (number, tail) = split_number(rest);
            let tail = tail.trim_start();
            let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at_checked(end).unwrap_or((tail, ""));
            let scale = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                "w" => 604_800_000,
                _ => return Err(bad()),
            };
            millis = scaled(number, scale).and_then(|value| millis.checked_add(value)).ok_or_else(bad)?;
            rest = tail.trim_start();
            parts += 1;
        }
        if parts == 0 || !rest.is_empty() { Err(bad()) } else { Ok(Self(Duration::from_millis(millis))) }
    }
}

impl FromStr for Listen {
    type Err = ParseUnitError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let written = match text.strip_prefix("*:") {
            Some(port) => format!("0.0.0.0:{port}"),
            None => text.to_owned(),
        };
        written.parse().map(Self).map_err(|_| ParseUnitError(text.to_owned(), LISTEN))
    }
}

impl FromStr for HostPort {
    type Err = ParseUnitError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseUnitError(text.to_owned(), HOST_PORT);
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()).ok_or_else(bad)?,
            None => host,
        };
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let usable =
            !host.is_empty() && host.len() <= 253 && (host.chars().all(name) || host.parse::<IpAddr>().is_ok() && text.starts_with('['));
        if usable { Ok(Self { host: host.to_owned(), port }) } else { Err(bad()) }
    }
}

impl FromStr for Prefix {
    type Err = ParseUnitError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseUnitError(text.to_owned(), PREFIX);
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| bad())?;
        let prefix = Self { address, bits };
        if bits <= most && mask(address, bits) == address { Ok(prefix) } else { Err(bad()) }
    }
}

impl Prefix {
    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Length of the prefix in bits.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Whether `address` is in the network; IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && mask(address, self.bits) == self.address
    }
}

fn mask(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32u32.saturating_sub(bits.into())).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128u32.saturating_sub(bits.into())).unwrap_or(0)).into()),
    }
}

/// Splits leading digits (with one optional point) from what follows.
fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// `number × scale`, exact, with at most six decimals; `None` when it is no number or too large.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if decimals.len() > 6 || (whole.is_empty() && decimals.is_empty()) || number.ends_with('.') {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part = if decimals.is_empty() { 0 } else { decimals.parse::<u64>().ok()?.checked_mul(scale)? / 10u64.pow(decimals.len() as u32) };
    whole.checked_mul(scale)?.checked_add(part)
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(scale, _)| self.0 >= *scale && self.0.is_multiple_of(*scale)) {
            Some((scale, unit)) => write!(f, "{} {unit}", self.0 / scale),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let units = [(86_400_000u128, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.iter().find(|(scale, _)| millis >= *scale && millis.is_multiple_of(*scale)) {
            Some((scale, unit)) => write!(f, "{}{unit}", millis / scale),
            None => write!(f, "{millis}ms"),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Text or a bare whole number.
struct Written<T>(std::marker::PhantomData<T>, &'static str);

impl<T: FromStr<Err = ParseUnitError> + FromNumber> de::Visitor<'_> for Written<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        T::from_number(number).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        u64::try_from(number).ok().and_then(T::from_number).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
    }
}

trait FromNumber: Sized {
    fn from_number(_: u64) -> Option<Self> {
        None
    }
}

impl FromNumber for Size {
    fn from_number(number: u64) -> Option<Self> {
        Some(Self(number))
    }
}
impl FromNumber for Period {
    fn from_number(number: u64) -> Option<Self> {
        Some(Self(Duration::from_secs(number)))
    }
}
impl FromNumber for Listen {}
impl FromNumber for HostPort {}
impl FromNumber for Prefix {}

macro_rules! written {
    ($($type:ident $words:ident),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Written::<$type>(std::marker::PhantomData, $words))
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
written!(Size SIZE, Period PERIOD, Listen LISTEN, HostPort HOST_PORT, Prefix PREFIX);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check<T: FromStr<Err = ParseUnitError> + PartialEq + fmt::Debug>(text: &str, expected: Option<T>) {
        assert_eq!(text.parse::<T>().ok(), expected, "{text}");
    }

    #[test]
    fn sizes() {
        for (text, expected) in
            [("4 MiB", 4 << 20), ("4MB", 4_000_000), ("1.5 GiB", 3 << 29), ("0", 0), ("17", 17), ("12kB", 12_000), ("1 t", 1 << 40)]
        {
            check(text, Some(Size(expected)));
        }
        for text in ["", "MiB", "-1", "4 XiB", "1.2.3 MiB", "99999999 TiB", "1e3", "1. MiB", "4 MiB 2"] {
            check::<Size>(text, None);
        }
    }

    #[test]
    fn periods() {
        for (text, millis) in [
            ("30d", 2_592_000_000),
            ("90s", 90_000),
            ("250ms", 250),
            ("1h30m", 5_400_000),
            ("1 h 30 m", 5_400_000),
            ("2w", 1_209_600_000),
            ("1.5s", 1_500),
        ] {
            check(text, Some(Period(Duration::from_millis(millis))));
        }
        for text in ["", "d", "30", "30y", "-1s", "1h30", "99999999999999999w"] {
            check::<Period>(text, None);
        }
    }

    #[test]
    fn addresses() {
        check("127.0.0.1:80", Some(Listen("127.0.0.1:80".parse().unwrap())));
        check("*:80", Some(Listen("0.0.0.0:80".parse().unwrap())));
        check("[::]:0", Some(Listen("[::]:0".parse().unwrap())));
        for text in ["localhost:80", "127.0.0.1", "::1:80", "1.2.3.4:99999"] {
            check::<Listen>(text, None);
        }
        check("c.example:7443", Some(HostPort { host: "c.example".into(), port: 7443 }));
        check("[fd00::1]:7443", Some(HostPort { host: "fd00::1".into(), port: 7443 }));
        for text in ["c.example", "c.example:0", ":1", "[c]:1", "fd00::1:7443", "a b:1"] {
            check::<HostPort>(text, None);
        }
    }

    #[test]
    fn networks() {
        let net: Prefix = "10.66.7.0/24".parse().unwrap();
        assert!(net.contains("10.66.7.255".parse().unwrap()) && net.contains("::ffff:10.66.7.1".parse().unwrap()));
        assert!(!net.contains("10.66.8.0".parse().unwrap()) && !net.contains("::1".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Prefix>().unwrap().contains("8.8.8.8".parse().unwrap()));
        assert_eq!("fd00::1".parse::<Prefix>().unwrap().bits(), 128);
        for text in ["10.66.7.1/24", "10.0.0.0/33", "::/129", "x/8", "10.0.0.0/"] {
            check::<Prefix>(text, None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::fuzz_cases()))]
        #[test]
        fn shown_values_read_back(bytes: u64, millis in 0..u64::MAX / 2) {
            prop_assert_eq!(Size(bytes).to_string().parse::<Size>().unwrap(), Size(bytes));
            let period = Period(Duration::from_millis(millis));
            prop_assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,24}") {
            let _ = (text.parse::<Size>(), text.parse::<Period>(), text.parse::<Listen>(), text.parse::<HostPort>(), text.parse::<Prefix>());
        }
    }
}
