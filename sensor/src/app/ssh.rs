//! SSH before encryption: both identification lines, both KEXINITs, and what follows from them by
//! RFC 4253 §7.1. It never decrypts; it is done as soon as both lists are there.

use super::pair::Pair;
use super::say::{Say, name, text};
use super::side::Side;
use super::{Parser, Role, Step};
use glasshive_event::observation::{Fact, SshAgreed};
use glasshive_proto::Parsed;
use glasshive_proto::ssh::{self, IdLimits, KexInit, NameList};

/// Longest line taken, and most lines a server may send before its own (RFC 4253 §4.2 sets no
/// number; OpenSSH's client takes 1024 lines of 8 KiB).
const LINE: usize = 2_048;
const LINES_BEFORE: usize = 16;
/// Longest packet before encryption; RFC 4253 §6.1 asks for 35 000.
const PACKET: usize = 60_000;
/// Longest name of an algorithm kept (RFC 4251 §6: 64).
const NAME: usize = 128;

/// Messages that may come before or instead of KEXINIT (RFC 4253 §11).
const DISCONNECT: u8 = 1;
const IGNORE: u8 = 2;
const DEBUG: u8 = 4;

#[derive(Debug, Default)]
struct Ssh {
    lines: Pair<Option<Vec<u8>>>,
    offers: Pair<Option<KexInit>>,
    over: Pair<bool>,
    said: bool,
}

pub(super) fn new() -> Box<dyn Parser> {
    Box::<Ssh>::default()
}

impl Parser for Ssh {
    fn advance(&mut self, from: Role, side: &mut Side, say: &mut Say<'_>) -> Step {
        loop {
            let step = match (*self.over.of(from), self.lines.of(from)) {
                (true, _) => return self.side_over(from, say),
                (false, None) => self.identification(from, side, say),
                (false, Some(_)) => self.packet(from, side, say),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    fn finish(&mut self, say: &mut Say<'_>) {
        self.say(say);
    }
}

impl Ssh {
    fn identification(&mut self, from: Role, side: &mut Side, say: &mut Say<'_>) -> Option<Step> {
        let pre_lines = if from == Role::Server { LINES_BEFORE } else { 0 };
        match ssh::identification(side.peek(), IdLimits { line: LINE, pre_lines }) {
            Parsed::Done { value, used } => {
                side.take(used);
                let version = name(&value.protocol, 16);
                // 1.99 is a server that speaks both (RFC 4253 §5.1).
                if version != "2.0" && version != "1.99" {
                    *self.over.of_mut(from) = true;
                }
                if from == Role::Server || say.application.version.is_none() {
                    say.application.version = Some(version);
                }
                *self.lines.of_mut(from) = Some(value.line);
                None
            }
            Parsed::Incomplete { .. } => Some(Step::More),
            Parsed::Malformed { offset, what } => Some(Step::malformed(side, offset, what)),
        }
    }

    fn packet(&mut self, from: Role, side: &mut Side, say: &mut Say<'_>) -> Option<Step> {
        let input = side.peek();
        match ssh::packet(input, PACKET) {
            Parsed::Done { value: packet, used } => match packet.payload.first() {
                Some(&DISCONNECT) => {
                    *self.over.of_mut(from) = true;
                    None
                }
                Some(&IGNORE | &DEBUG) => {
                    side.take(used);
                    None
                }
                _ => match ssh::kexinit(input) {
                    Parsed::Done { value, used } => {
                        side.take(used);
                        match from {
                            Role::Client => say.application.hassh = Some(value.hassh()),
                            Role::Server => say.application.hassh_server = Some(value.hassh_server()),
                        }
                        *self.offers.of_mut(from) = Some(value);
                        *self.over.of_mut(from) = true;
                        None
                    }
                    Parsed::Incomplete { .. } => Some(Step::More),
                    Parsed::Malformed { offset, what } => Some(Step::malformed(side, offset, what)),
                },
            },
            Parsed::Incomplete { needed } => {
                side.want(input.len() + needed);
                Some(Step::More)
            }
            Parsed::Malformed { offset, what } => Some(Step::malformed(side, offset, what)),
        }
    }

    fn side_over(&mut self, from: Role, say: &mut Say<'_>) -> Step {
        let _ = from;
        if !self.over.all(|over| *over) {
            return Step::SideDone;
        }
        self.say(say);
        Step::Done
    }

    fn say(&mut self, say: &mut Say<'_>) {
        if self.said || self.lines.all(Option::is_none) {
            return;
        }
        self.said = true;
        let line = |role| text(self.lines.of(role).as_deref().unwrap_or_default(), LINE);
        let (client, server) = (self.offers.of(Role::Client), self.offers.of(Role::Server));
        let mut agreed = match (client, server) {
            (Some(client), Some(server)) => agree(client, server),
            _ => SshAgreed::default(),
        };
        agreed.client = line(Role::Client);
        agreed.server = line(Role::Server);
        agreed.hassh = client.as_ref().map(KexInit::hassh).unwrap_or_default();
        agreed.hassh_server = server.as_ref().map(KexInit::hassh_server).unwrap_or_default();
        if !agreed.ciphers[0].is_empty() {
            say.application.cipher = Some(agreed.ciphers[0].clone());
        }
        say.fact(Fact::SshAgreed(agreed));
    }
}

/// What both lists lead to: of each kind, the client's first name that the server has too.
fn agree(client: &KexInit, server: &KexInit) -> SshAgreed {
    let kex = first_common(&client.kex, &server.kex, |name| !is_signal(name));
    let pick = |ours: &NameList, theirs: &NameList| first_common(ours, theirs, |_| true);
    let ciphers = [pick(&client.cipher_in, &server.cipher_in), pick(&client.cipher_out, &server.cipher_out)];
    let [to_server, to_client] = &ciphers;
    // A cipher that authenticates has no MAC, and what the lists say of MACs is ignored (RFC 5647 §5.1
    // and OpenSSH's PROTOCOL.chacha20poly1305).
    let mac = |cipher: &str, ours, theirs| if authenticates(cipher) { String::new() } else { pick(ours, theirs) };
    let macs = [mac(to_server, &client.mac_in, &server.mac_in), mac(to_client, &client.mac_out, &server.mac_out)];
    SshAgreed { kex, host_key: pick(&client.host_key, &server.host_key), ciphers, macs, ..SshAgreed::default() }
}

fn first_common(client: &NameList, server: &NameList, counts: impl Fn(&[u8]) -> bool) -> String {
    // Lists are bounded by their packet; a set keeps two long ones from costing their product.
    let theirs: std::collections::HashSet<&[u8]> = server.names().collect();
    let common = client.names().find(|name| counts(name) && theirs.contains(name));
    common.map(|found| name(found, NAME)).unwrap_or_default()
}

/// Names in the key exchange list that are no key exchange (RFC 8308 §2.1, OpenSSH's strict mode).
fn is_signal(name: &[u8]) -> bool {
    name.starts_with(b"ext-info-") || name.starts_with(b"kex-strict-")
}

fn authenticates(cipher: &str) -> bool {
    cipher.starts_with("chacha20-poly1305") || cipher.contains("-gcm@") || cipher.starts_with("AEAD_") || cipher.ends_with("-gcm")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &str) -> NameList {
        NameList(names.as_bytes().to_vec())
    }

    fn offer(kex: &str, cipher: &str, mac: &str) -> KexInit {
        KexInit {
            kex: list(kex),
            host_key: list("ssh-ed25519,ssh-rsa"),
            cipher_in: list(cipher),
            cipher_out: list(cipher),
            mac_in: list(mac),
            mac_out: list(mac),
            ..KexInit::default()
        }
    }

    #[test]
    fn the_clients_order_decides() {
        let client = offer("ext-info-c,x,b,a", "c3,aes128-ctr,c1", "m2,m1");
        let server = offer("a,b,ext-info-c", "c1,aes128-ctr", "m1,m2");
        let agreed = agree(&client, &server);
        assert_eq!((agreed.kex.as_str(), agreed.ciphers[0].as_str(), agreed.macs[1].as_str()), ("b", "aes128-ctr", "m2"));
        assert_eq!(agreed.host_key, "ssh-ed25519");
    }

    #[test]
    fn no_mac_beside_an_authenticating_cipher_and_nothing_without_a_common_name() {
        let client = offer("a", "chacha20-poly1305@openssh.com", "m1");
        assert_eq!(agree(&client, &client).macs, [String::new(), String::new()]);
        assert_eq!(agree(&client, &offer("z", "aes128-ctr", "m1")).kex, "");
        assert_eq!(agree(&offer("", "", ""), &offer("", "", "")).kex, "");
    }
}
