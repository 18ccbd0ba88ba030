//! Which protocol is at home on which port. One table; ports in the second column are registered for
//! the protocol (IANA), those in the third are where it is commonly met too.

use std::ops::RangeInclusive;

struct Row {
    protocol: &'static str,
    registered: &'static [u16],
    common: &'static [RangeInclusive<u16>],
}

const fn row(protocol: &'static str, registered: &'static [u16], common: &'static [RangeInclusive<u16>]) -> Row {
    Row { protocol, registered, common }
}

/// Ports given out on the fly: a protocol that uses them is at home on all of these.
const DYNAMIC: RangeInclusive<u16> = 1024..=u16::MAX;
const ANY: RangeInclusive<u16> = 0..=u16::MAX;

static TABLE: &[Row] = &[
    row("ftp", &[21], &[2121..=2121]),
    row("ssh", &[22], &[]),
    row("telnet", &[23], &[2323..=2323]),
    row("smtp", &[25, 465, 587], &[2525..=2525]),
    row("dns", &[53], &[5353..=5353, 5355..=5355, 137..=137]),
    row(
        "http",
        &[80],
        &[81..=81, 591..=591, 631..=631, 2869..=2869, 3128..=3128, 5357..=5357, 5985..=5985, 8000..=8008, 8080..=8081, 8088..=8088],
    ),
    row("kerberos", &[88, 464], &[749..=749]),
    row("iso-tsap", &[102], &[]),
    row("pop3", &[110], &[]),
    row("ntp", &[123], &[]),
    row("dcerpc", &[135, 593], &[DYNAMIC]),
    row("nbns", &[137], &[]),
    row("netbios-datagram", &[138], &[]),
    row("smb1", &[445], &[139..=139]),
    row("smb2", &[445], &[139..=139]),
    row("netbios-session", &[139], &[445..=445]),
    row("imap", &[143], &[]),
    row("snmp", &[161, 162], &[10_161..=10_162]),
    row("ldap", &[389], &[3268..=3268]),
    row("cldap", &[389], &[]),
    row(
        "tls",
        &[443, 636, 853, 989, 990, 992, 993, 995, 5061, 5671, 6514, 8883],
        &[
            465..=465,
            563..=563,
            2083..=2083,
            2087..=2087,
            2096..=2096,
            2376..=2376,
            3269..=3269,
            3389..=3389,
            4443..=4443,
            5223..=5223,
            5349..=5349,
            5986..=5986,
            6443..=6443,
            6697..=6697,
            8443..=8443,
            9443..=9443,
            10_250..=10_250,
        ],
    ),
    row("http2", &[], &[80..=80, 443..=443, 8080..=8080, 50_051..=50_051]),
    row("quic", &[443], &[80..=80, 853..=853, 8443..=8443]),
    row("modbus", &[502], &[]),
    row("ike", &[500, 4500], &[]),
    row("syslog", &[514], &[ANY]),
    row("rtsp", &[554], &[7070..=7070, 8554..=8554]),
    row("rsync", &[873], &[]),
    row("socks4", &[1080], &[1081..=1081, 9050..=9050, 9150..=9150]),
    row("socks5", &[1080], &[1081..=1081, 9050..=9050, 9150..=9150]),
    row("java-rmi", &[1099], &[DYNAMIC]),
    row("openvpn", &[1194], &[]),
    row("mssql", &[1433], &[1434..=1434]),
    row("oracle-tns", &[1521], &[1522..=1526]),
    row("radius", &[1812, 1813], &[1645..=1646, 3799..=3799]),
    row("mqtt", &[1883], &[]),
    row("ssdp", &[1900], &[DYNAMIC]),
    row("stun", &[3478], &[DYNAMIC]),
    row("mysql", &[3306], &[3307..=3307, 33_060..=33_060]),
    row("rdp", &[3389], &[]),
    row("sip", &[5060], &[5061..=5061, 5080..=5080]),
    row("mdns", &[5353], &[]),
    row("llmnr", &[5355], &[]),
    row("postgres", &[5432], &[5433..=5433, 6432..=6432]),
    row("adb", &[5555], &[5037..=5037]),
    row("amqp", &[5672], &[]),
    row("vnc", &[5900], &[5901..=5999]),
    row("x11", &[6000], &[6001..=6063]),
    row("redis", &[6379], &[6380..=6380, 26_379..=26_379]),
    row("irc", &[6667], &[194..=194, 6660..=6669, 7000..=7000]),
    row("ajp", &[8009], &[]),
    row("git", &[9418], &[]),
    row("memcached", &[11_211], &[]),
    row("mongodb", &[27_017], &[27_018..=27_019]),
    row("dhcp", &[67], &[68..=68]),
    row("tftp", &[69], &[DYNAMIC]),
    row("netflow5", &[], &[ANY]),
    row("netflow9", &[], &[ANY]),
    row("ipfix", &[4739], &[ANY]),
    row("sflow", &[6343], &[ANY]),
    row("wireguard", &[], &[51_820..=51_820]),
    row("bittorrent", &[], &[DYNAMIC]),
    row("stratum", &[], &[]),
    row("proxy", &[], &[ANY]),
];

/// The probe's own word for a name.
pub(super) fn known(name: &str) -> Option<&'static str> {
    TABLE.iter().find(|row| row.protocol == name).map(|row| row.protocol)
}

/// The protocol a port is registered for.
pub(super) fn registered(port: u16) -> Option<&'static str> {
    TABLE.iter().find(|row| row.registered.contains(&port)).map(|row| row.protocol)
}

/// Whether a protocol is at home on a port.
pub(super) fn is_usual(protocol: &str, port: u16) -> bool {
    TABLE
        .iter()
        .filter(|row| row.protocol == protocol)
        .any(|row| row.registered.contains(&port) || row.common.iter().any(|range| range.contains(&port) && is_free(range, port)))
}

/// A wide range does not reach into a port registered for a protocol that is not given out on the fly.
fn is_free(range: &RangeInclusive<u16>, port: u16) -> bool {
    *range != DYNAMIC || registered(port).is_none()
}

/// Protocols that bring a person or a program onto a host, or a host into a network: where they
/// travel on a port meant for something else, that is an encapsulation nobody expects.
const CONTROL: &[&str] =
    &["ssh", "rdp", "vnc", "telnet", "smb1", "smb2", "netbios-session", "dcerpc", "adb", "x11", "socks4", "socks5", "openvpn", "wireguard"];
/// Stores of data, and what else is serious on a port of its own choice.
const SERIOUS: &[&str] = &[
    "rdp",
    "vnc",
    "telnet",
    "smb1",
    "smb2",
    "netbios-session",
    "adb",
    "x11",
    "socks4",
    "socks5",
    "mysql",
    "postgres",
    "mssql",
    "oracle-tns",
    "mongodb",
    "redis",
    "memcached",
    "ldap",
    "stratum",
];

/// Whether it is one of remote control.
pub(super) fn is_control(protocol: &str) -> bool {
    CONTROL.contains(&protocol)
}

/// Whether it is serious on an unlisted port.
pub(super) fn is_serious(protocol: &str) -> bool {
    SERIOUS.contains(&protocol)
}

/// Ports people choose when the registered one is taken.
pub(super) fn is_alternative(protocol: &str, port: u16) -> bool {
    matches!((protocol, port), ("http" | "tls" | "http2", 3000 | 5000 | 8888 | 9000) | ("ssh", 2222))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_of_the_table_is_at_home_where_it_is_registered() {
        for row in TABLE {
            assert!(row.registered.iter().all(|port| is_usual(row.protocol, *port)), "{}", row.protocol);
            assert_eq!(TABLE.iter().filter(|other| other.protocol == row.protocol).count(), 1, "{} twice", row.protocol);
        }
        for list in [CONTROL, SERIOUS] {
            assert!(list.iter().all(|name| known(name).is_some()));
        }
    }

    #[test]
    fn ports_given_out_on_the_fly_do_not_cover_registered_ones() {
        assert!(is_usual("dcerpc", 49_152) && !is_usual("dcerpc", 3389) && !is_usual("bittorrent", 6379));
        assert!(is_usual("http", 8080) && !is_usual("http", 8888) && is_alternative("http", 8888));
        assert!(!is_usual("ssh", 443) && registered(443) == Some("tls") && registered(4022).is_none());
    }
}
