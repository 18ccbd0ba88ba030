//! A flow of datagrams: what it speaks, by content, and every DNS message in it.

use super::pair::Pair;
use super::say::{Say, samples};
use super::{Speaker, dns};
use glasshive_event::observation::{ClearLogin, Fact, Identified};
use glasshive_proto::probe::{DATAGRAMS, datagram};

/// Datagrams looked at until the protocol is known by both sides.
const TRIES: u8 = 32;

/// The protocols whose every datagram is a message in DNS's form.
const DNS_FORMS: &[&str] = &["dns", "mdns", "llmnr", "nbns"];

/// LLMNR, and a question by mDNS that wants one answer, look like DNS: here the port breaks the tie
/// (RFC 4795 §2, RFC 6762 §6.7).
const TIES: &[(u16, &str)] = &[(5355, "llmnr"), (5353, "mdns")];

/// Protocols whose first datagram may show a secret, and the scheme if it does.
const LOGINS: &[(&str, fn(&[u8]) -> Option<&'static str>)] = &[("snmp", community)];

/// The community of SNMP 1 and 2c (RFC 1157 §4, RFC 1901 §3); version 3 has none.
fn community(bytes: &[u8]) -> Option<&'static str> {
    // SEQUENCE, its length in one to five bytes, INTEGER of one byte.
    let version = bytes.windows(3).take(6).find(|three| matches!(three, [2, 1, _]))?.last()?;
    (*version <= 1).then_some("community")
}

/// State of one flow.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    port: u16,
    protocol: Option<&'static str>,
    both: bool,
    spoke: Pair<bool>,
    samples: Pair<Vec<u8>>,
    tries: u8,
}

impl Datagrams {
    pub(super) fn new(port: u16) -> Self {
        Self { port, ..Self::default() }
    }

    /// Takes one datagram; says whether more can be learned.
    pub(super) fn take(&mut self, from: Speaker, bytes: &[u8], say: &mut Say<'_>) -> bool {
        if bytes.is_empty() {
            return true;
        }
        let sample = self.samples.of_mut(from);
        if sample.is_empty() {
            *sample = bytes.get(..64).unwrap_or(bytes).to_vec();
        }
        if !self.both && self.tries < TRIES {
            self.tries += 1;
            self.identify(from, bytes, say);
        }
        let Some(protocol) = self.protocol else { return self.tries < TRIES };
        if !DNS_FORMS.contains(&protocol) {
            return !self.both && self.tries < TRIES;
        }
        match glasshive_proto::dns::message(bytes) {
            Ok(message) => say.fact(Fact::Dns(dns::fact(&message, bytes.len()))),
            Err(e) => say.malformed(protocol, e.what, e.offset as u64, bytes.get(e.offset..).unwrap_or_default()),
        }
        true
    }

    fn identify(&mut self, from: Speaker, bytes: &[u8], say: &mut Say<'_>) {
        let Some(found) = datagram(bytes) else { return };
        let protocol = *self.protocol.get_or_insert_with(|| {
            let tie = (found == "dns").then(|| TIES.iter().find(|(port, _)| *port == self.port)).flatten();
            tie.map_or(found, |(_, name)| name)
        });
        let known = *self.spoke.of(from.other());
        let same = found == protocol
            || DNS_FORMS.contains(&found) && DNS_FORMS.contains(&protocol)
            || DATAGRAMS.iter().any(|def| def.name == protocol && (def.check)(bytes));
        // What only comes back as it was sent is not an answer.
        let echo = self.samples.of(from) == self.samples.of(from.other()) && protocol != "ntp";
        if !same || echo || *self.spoke.of(from) {
            return;
        }
        *self.spoke.of_mut(from) = true;
        self.both = known;
        say.application.protocol = protocol.to_owned();
        say.application.both = self.both;
        say.fact(Fact::Identified(Identified { protocol, both: self.both, samples: samples(&self.samples) }));
        if let Some((_, login)) = LOGINS.iter().find(|(name, _)| *name == protocol).filter(|_| !known)
            && let Some(scheme) = login(bytes)
        {
            say.fact(Fact::ClearLogin(ClearLogin { protocol, scheme }));
        }
    }
}
