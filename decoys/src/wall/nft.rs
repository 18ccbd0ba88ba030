//! Whether the wall stands, asked of the kernel's nf_tables (linux/netfilter/nf_tables.h) without `nft`.
//!
//! The ruleset's generation is asked for each time; chains and rules only when it changed. Sets'
//! elements are not looked at: they belong to a running firewall.

use super::nfnetlink::{Attributes, DUMP, Message, Socket, number, request, text};
use super::{Hook, State};
use glasshive_event::text::hex;
use glasshive_proto::reader::ParseError;
use sha2::{Digest as _, Sha256};
use std::io;

/// Subsystem of nf_tables, in the upper byte of a message's type.
const NFTABLES: u16 = 10 << 8;
const GET_TABLE: u16 = NFTABLES | 1;
const GET_CHAIN: u16 = NFTABLES | 4;
const GET_RULE: u16 = NFTABLES | 7;
const GET_GENERATION: u16 = NFTABLES | 16;
/// `NFT_TABLE_F_DORMANT`: loaded, but its chains are not hooked in.
const DORMANT: u32 = 1;
/// Tries of a dump that is overtaken by changes.
const TRIES: u32 = 5;
/// Expressions whose data changes as packets pass.
const COUNTING: [&str; 4] = ["counter", "quota", "last", "connlimit"];

/// Asks about one table.
pub(super) struct Nft {
    socket: Socket,
    family: u8,
    table: String,
    hooks: Vec<Hook>,
    entry: String,
    known: Option<State>,
}

/// One base chain or rule as it is hashed.
type Line = (String, Vec<u8>);

impl Nft {
    /// To ask about `table` (`inet NAME`), which must drop by default at `hooks`.
    ///
    /// # Errors
    /// The system's, or the family is not known.
    pub(super) fn open(table: &str, hooks: &[Hook], entry: &str) -> io::Result<Self> {
        let unknown = || io::Error::new(io::ErrorKind::InvalidInput, format!("{table:?} is not `inet NAME`, `ip NAME` or `ip6 NAME`"));
        let (family, name) = table.split_once(' ').ok_or_else(unknown)?;
        let family = match family {
            "inet" => 1,
            "ip" => 2,
            "ip6" => 10,
            _ => return Err(unknown()),
        };
        let (table, hooks, entry) = (name.to_owned(), hooks.to_vec(), entry.to_owned());
        Ok(Self { socket: Socket::open(false)?, family, table, hooks, entry, known: None })
    }

    /// How the wall stands now; counts are left at 0.
    pub(super) fn state(&mut self) -> State {
        match self.ask() {
            Ok(state) => {
                self.known = Some(state.clone());
                state
            }
            Err(error) => {
                self.known = None;
                State { table: self.name(), error: Some(error.to_string()), ..State::default() }
            }
        }
    }

    fn name(&self) -> String {
        let family = match self.family {
            2 => "ip",
            10 => "ip6",
            _ => "inet",
        };
        format!("{family} {}", self.table)
    }

    fn ask(&mut self) -> io::Result<State> {
        let generation = self.generation()?;
        if let Some(known) = self.known.as_ref().filter(|known| known.generation == generation) {
            return Ok(known.clone());
        }
        for _ in 0..TRIES {
            let (before, state) = match (self.generation()?, self.look()) {
                (before, Ok(state)) => (before, state),
                (_, Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                (_, Err(error)) => return Err(error),
            };
            if self.generation()? == before {
                return Ok(State { generation: before, ..state });
            }
        }
        Err(io::Error::other("the ruleset changes faster than it can be read"))
    }

    fn generation(&self) -> io::Result<u32> {
        let mut found = None;
        self.socket.dump(&request(GET_GENERATION, 0, 0, 0, &[]), |message| {
            each(message.attributes(), |kind, value| {
                if kind == 1 {
                    found = number(value);
                }
                Ok(())
            })
        })?;
        found.ok_or_else(|| io::Error::other("the kernel names no generation"))
    }

    fn look(&self) -> io::Result<State> {
        let (mut loaded, mut entry) = (false, false);
        self.socket.dump(&request(GET_TABLE, DUMP, 0, 0, &[]), |message| {
            let (name, dormant) = table(message)?;
            loaded |= !dormant && name == self.table && message.family() == self.family;
            entry |= !dormant && name == self.entry && message.family() == 1;
            Ok(())
        })?;
        let (mut dropping, mut lines): (Vec<u32>, Vec<Line>) = (Vec::new(), Vec::new());
        self.socket.dump(&request(GET_CHAIN, DUMP, self.family, 0, &[]), |message| {
            let chain = chain(message)?;
            if chain.table == self.table && message.family() == self.family {
                dropping.extend(chain.hook.filter(|_| chain.drops));
                lines.push((chain.name, chain.base));
            }
            Ok(())
        })?;
        self.socket.dump(&request(GET_RULE, DUMP, self.family, 0, &[]), |message| {
            if let Some(line) = rule(message, &self.table)? {
                lines.push(line);
            }
            Ok(())
        })?;
        let open = self.hooks.iter().copied().filter(|hook| !dropping.contains(&number_of(*hook))).collect();
        Ok(State { table: self.name(), loaded, open, entry, hash: if loaded { hash(&lines) } else { String::new() }, ..State::default() })
    }
}

/// `NF_INET_LOCAL_IN`, `NF_INET_FORWARD`, `NF_INET_LOCAL_OUT`.
fn number_of(hook: Hook) -> u32 {
    match hook {
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
    }
}

fn hash(lines: &[Line]) -> String {
    let mut hash = Sha256::new();
    for (name, data) in lines {
        for part in [name.as_bytes(), data] {
            hash.update(u64::try_from(part.len()).unwrap_or(0).to_be_bytes());
            hash.update(part);
        }
    }
    hex(&hash.finalize())
}

fn each<'a>(mut attributes: Attributes<'a>, mut take: impl FnMut(u16, &'a [u8]) -> Result<(), ParseError>) -> Result<(), ParseError> {
    while let Some((kind, value)) = attributes.next()? {
        take(kind, value)?;
    }
    Ok(())
}

/// Name, and whether it is dormant.
fn table(message: &Message<'_>) -> Result<(String, bool), ParseError> {
    let (mut name, mut dormant) = (String::new(), false);
    each(message.attributes(), |kind, value| {
        match kind {
            1 => name = text(value),
            2 => dormant = number(value).is_some_and(|flags| flags & DORMANT != 0),
            _ => {}
        }
        Ok(())
    })?;
    Ok((name, dormant))
}

struct Chain {
    table: String,
    name: String,
    hook: Option<u32>,
    drops: bool,
    base: Vec<u8>,
}

fn chain(message: &Message<'_>) -> Result<Chain, ParseError> {
    let mut chain = Chain { table: String::new(), name: String::new(), hook: None, drops: false, base: Vec::new() };
    let mut filters = false;
    each(message.attributes(), |kind, value| {
        match kind {
            1 => chain.table = text(value),
            3 => chain.name = text(value),
            4 => {
                each(Attributes::nested(value), |kind, value| {
                    if kind == 1 {
                        chain.hook = number(value);
                    }
                    Ok(())
                })?;
                chain.base.extend_from_slice(value);
            }
            5 => {
                chain.drops = number(value) == Some(0);
                chain.base.extend_from_slice(value);
            }
            7 => filters = text(value) == "filter",
            _ => {}
        }
        Ok(())
    })?;
    chain.drops &= filters;
    Ok(chain)
}

/// Chain and expressions of a rule of `wanted`, without what counts.
fn rule(message: &Message<'_>, wanted: &str) -> Result<Option<Line>, ParseError> {
    let (mut table, mut chain, mut data) = (String::new(), String::new(), Vec::new());
    each(message.attributes(), |kind, value| {
        match kind {
            1 => table = text(value),
            2 => chain = text(value),
            4 => each(Attributes::nested(value), |_, expression| {
                let mut name = String::new();
                each(Attributes::nested(expression), |kind, value| {
                    match kind {
                        1 => {
                            name = text(value);
                            data.extend_from_slice(value);
                        }
                        2 if !COUNTING.contains(&name.as_str()) => data.extend_from_slice(value),
                        _ => {}
                    }
                    Ok(())
                })
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((table == wanted).then_some((chain, data)))
}

#[cfg(test)]
mod tests {
    use super::super::nfnetlink::next;
    use super::*;
    use glasshive_proto::reader::Reader;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// As Linux 6.18 said it of a table with a dropping output chain, an accepting prerouting chain,
    /// and a counting rule.
    const CHAINS: &str = "74000000030a0200010000004c2f00000100000213000100676c617373686976655f77616c6c0000080003006f7574000c0002000000000000000001140004000800010000000003080002000000000008000500000000000b00070066696c746572000008000a0000000001080006000000000274000000030a0200010000004c2f00000100000213000100676c617373686976655f77616c6c000008000300707265000c000200000000000000000214000400080001000000000008000200ffffff6a08000500000000010b00070066696c746572000008000a00000000010800060000000001";
    const TABLE: &str = "44000000000a0200010000004c2f00000100000213000100676c617373686976655f77616c6c000008000300000000020c00040000000000000000010800020000000000";
    const RULE: &str = "a4000000060a0208010000004c2f00000100000213000100676c617373686976655f77616c6c0000080002006f7574000c00030000000000000000040c00060000000000000000035c0004002c000100080001006c6f67002000020013000200676c61737368697665206f757420000006000100000700002c0001000c000100636f756e746572001c0002000c00010000000000000000000c0002000000000000000000";

    #[test]
    fn what_the_kernel_says_is_read() {
        let data = bytes(TABLE);
        let message = next(&mut Reader::new(&data)).unwrap().unwrap();
        assert_eq!((table(&message).unwrap(), message.family()), (("glasshive_wall".to_owned(), false), 1));
        let data = bytes(CHAINS);
        let mut reader = Reader::new(&data);
        let mut found = Vec::new();
        while let Some(message) = next(&mut reader).unwrap() {
            found.push(chain(&message).unwrap());
        }
        let said: Vec<_> = found.iter().map(|chain| (chain.name.as_str(), chain.hook, chain.drops)).collect();
        assert_eq!(said, [("out", Some(number_of(Hook::Output)), true), ("pre", Some(0), false)]);
    }

    #[test]
    fn a_rule_is_hashed_without_its_counts() {
        let line = |hex: &str| {
            let data = bytes(hex);
            rule(&next(&mut Reader::new(&data)).unwrap().unwrap(), "glasshive_wall").unwrap().unwrap()
        };
        let first = line(RULE);
        assert_eq!(first.0, "out");
        // Packets passed: the two numbers behind `counter` grew.
        let counted =
            line(&RULE.replace("0c00010000000000000000000c0002000000000000000000", "0c00010000000000000000050c0002000000000000000001"));
        assert_eq!(hash(std::slice::from_ref(&first)), hash(&[counted]));
        // The group it logs to is another one.
        let changed = line(&RULE.replace("0600010000070000", "0600010000080000"));
        assert_ne!(hash(std::slice::from_ref(&first)), hash(&[changed]));
        let data = bytes(RULE);
        assert!(rule(&next(&mut Reader::new(&data)).unwrap().unwrap(), "another").unwrap().is_none());
    }

    #[test]
    fn a_table_is_named_with_its_family() {
        assert!(Nft::open("glasshive_wall", &[], "e").is_err() && Nft::open("bridge x", &[], "e").is_err());
    }
}
