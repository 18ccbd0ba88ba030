//! Commands and vsftpd's words for them.

use super::tree::{Kind, resolve};
use super::{Account, Reply, TELNET_ABOR, Visit, list, say};
use crate::conn::Conn;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::sync::PoisonError;

const FEATURES: &str = "211-Features:\r\n EPSV\r\n MDTM\r\n PASV\r\n REST STREAM\r\n SIZE\r\n TVFS\r\n211 End";
const HELP: &str = "214-The following commands are recognized.\r\n \
     ABOR ACCT ALLO APPE CDUP CWD  DELE EPRT EPSV FEAT HELP LIST MDTM MKD\r\n \
     MODE NLST NOOP OPTS PASS PASV PORT PWD  QUIT REIN REST RETR RMD  RNFR\r\n \
     RNTO SITE SIZE SMNT STAT STOR STOU STRU SYST TYPE USER XCUP XCWD XMKD\r\n \
     XPWD XRMD\r\n214 Help OK.";

impl Visit<'_> {
    pub(super) async fn answer(&mut self, conn: &mut Conn, verb: &[u8], argument: &[u8]) -> io::Result<Reply> {
        let first = match verb {
            b"QUIT" => Some(Reply::Last(b"221 Goodbye.\r\n".to_vec())),
            b"FEAT" => Some(say(FEATURES)),
            b"OPTS" if argument.eq_ignore_ascii_case(b"UTF8 ON") => Some(say("200 Always in UTF8 mode.")),
            b"OPTS" => Some(say("501 Option not understood.")),
            b"USER" => Some(self.user(argument)),
            b"PASS" => Some(self.password(argument).await),
            _ => None,
        };
        if let Some(reply) = first {
            return Ok(reply);
        }
        let Some(mut account) = self.account.take() else { return Ok(say("530 Please login with USER and PASS.")) };
        let reply = self.logged_in(conn, &mut account, verb, argument).await;
        self.account = Some(account);
        reply
    }

    fn user(&mut self, name: &[u8]) -> Reply {
        match &self.account {
            Some(account) if account.anonymous => say("530 Can't change from guest user."),
            Some(account) if account.user == name => say("331 Any password will do."),
            Some(_) => say("530 Can't change to another user."),
            None => {
                self.user = Some(name.to_vec());
                say("331 Please specify the password.")
            }
        }
    }

    async fn logged_in(&mut self, conn: &mut Conn, account: &mut Account, verb: &[u8], argument: &[u8]) -> io::Result<Reply> {
        let writable = self.server.settings.writable && !account.anonymous;
        Ok(match verb {
            b"PWD" | b"XPWD" => quoted("257 ", &account.cwd, " is the current directory"),
            b"CWD" | b"XCWD" => change(account, argument),
            b"CDUP" | b"XCUP" => change(account, b".."),
            b"PASV" | b"P@SW" => self.pasv(),
            b"EPSV" => self.epsv(argument),
            b"PORT" | b"EPRT" | b"PBSZ" | b"PROT" => say("550 Permission denied."),
            b"TYPE" => self.representation(argument),
            b"MODE" => say(if argument.eq_ignore_ascii_case(b"S") { "200 Mode set to S." } else { "504 Bad MODE command." }),
            b"STRU" => say(if argument.eq_ignore_ascii_case(b"F") { "200 Structure set to F." } else { "504 Bad STRU command." }),
            b"ALLO" => say("202 ALLO command ignored."),
            b"REIN" => say("502 REIN not implemented."),
            b"ACCT" => say("502 ACCT not implemented."),
            b"SMNT" => say("502 SMNT not implemented."),
            b"SYST" => say("215 UNIX Type: L8"),
            b"NOOP" => say("200 NOOP ok."),
            b"HELP" => say(HELP),
            b"SITE" => site(account, argument, writable),
            b"STAT" if argument.is_empty() => self.status(account),
            b"STAT" => {
                let tree = account.tree.lock().unwrap_or_else(PoisonError::into_inner);
                let mut argument = argument.to_vec();
                if !argument.starts_with(b"-") {
                    argument.splice(0..0, *b"-a ");
                }
                let mut out = b"213-Status follows:\r\n".to_vec();
                out.extend(list::list(&tree, &account.cwd, &argument, true, self.session.now_ns()).unwrap_or_default());
                out.extend_from_slice(b"213 End of status\r\n");
                Reply::Say(out)
            }
            b"SIZE" => match locked(account, argument, |tree, path| tree.file(path)) {
                Some((content, _)) => say(&format!("213 {}", content.len())),
                None => say("550 Could not get file size."),
            },
            b"MDTM" => modified(account, argument, writable),
            b"REST" => {
                let digits: String = argument.iter().take_while(|b| b.is_ascii_digit()).map(|b| char::from(*b)).collect();
                self.restart = digits.parse().unwrap_or(0);
                say(&format!("350 Restart position accepted ({}).", self.restart))
            }
            b"ABOR" | TELNET_ABOR => say("225 No transfer to ABOR."),
            b"LIST" => self.send_list(conn, account, argument, true).await?,
            b"NLST" => self.send_list(conn, account, argument, false).await?,
            b"RETR" => self.retrieve(conn, account, argument).await?,
            b"STOR" | b"APPE" | b"STOU" if writable => self.store(conn, account, verb, argument).await?,
            b"DELE" | b"MKD" | b"XMKD" | b"RMD" | b"XRMD" | b"RNFR" | b"RNTO" if writable => self.alter(account, verb, argument),
            b"STOR" | b"APPE" | b"STOU" | b"DELE" | b"MKD" | b"XMKD" | b"RMD" | b"XRMD" | b"RNFR" | b"RNTO" => {
                say("550 Permission denied.")
            }
            _ => say("500 Unknown command."),
        })
    }

    fn representation(&mut self, argument: &[u8]) -> Reply {
        match argument.to_ascii_uppercase().as_slice() {
            b"I" | b"L8" | b"L 8" => self.binary = true,
            b"A" | b"A N" => self.binary = false,
            _ => return say("500 Unrecognised TYPE command."),
        }
        say(if self.binary { "200 Switching to Binary mode." } else { "200 Switching to ASCII mode." })
    }

    fn pasv(&mut self) -> Reply {
        if self.only_epsv {
            return say("550 Permission denied.");
        }
        let Some(passive) = self.open_passive() else { return say("425 Failed to establish connection.") };
        let address = match passive.ip() {
            IpAddr::V4(ip) => ip.octets().map(|part| part.to_string()).join(","),
            IpAddr::V6(_) => "0,0,0,0".into(),
        };
        let [high, low] = passive.port().to_be_bytes();
        say(&format!("227 Entering Passive Mode ({address},{high},{low})."))
    }

    fn epsv(&mut self, argument: &[u8]) -> Reply {
        if argument.eq_ignore_ascii_case(b"ALL") {
            self.only_epsv = true;
            return say("200 EPSV ALL ok.");
        }
        // Debian's vsftpd listens on IPv6, so both protocols are its own.
        if !matches!(argument, b"" | b"1" | b"2") {
            return say("522 Bad network protocol.");
        }
        match self.open_passive() {
            Some(passive) => say(&format!("229 Entering Extended Passive Mode (|||{}|)", passive.port())),
            None => say("425 Failed to establish connection."),
        }
    }

    fn open_passive(&mut self) -> Option<std::net::SocketAddr> {
        // The port of an earlier wish closes first.
        self.passive = None;
        self.passive = self.session.passive();
        self.passive.as_ref().map(crate::session::Passive::address)
    }

    fn status(&self, account: &Account) -> Reply {
        let client = match self.session.source_ip() {
            IpAddr::V4(ip) => format!("::ffff:{ip}"),
            ip => ip.to_string(),
        };
        let user = if account.anonymous { "ftp".into() } else { String::from_utf8_lossy(&account.user) };
        let kind = if self.binary { "BINARY" } else { "ASCII" };
        say(&format!(
            "211-FTP server status:\r\n     Connected to {client}\r\n     Logged in as {user}\r\n     TYPE: {kind}\r\n     No session bandwidth limit\r\n     \
             Session timeout in seconds is 300\r\n     Control connection is plain text\r\n     Data connections will be plain text\r\n     \
             At session startup, client count was {}\r\n     vsFTPd 3.0.3 - secure, fast, stable\r\n211 End of status",
            self.client_count
        ))
    }

    fn alter(&mut self, account: &Account, verb: &[u8], argument: &[u8]) -> Reply {
        let now = self.session.now_ns();
        let path = resolve(&account.cwd, argument);
        let mut tree = account.tree.lock().unwrap_or_else(PoisonError::into_inner);
        let given = !argument.is_empty();
        match verb {
            b"DELE" if given && tree.remove(&path, false).is_ok() => say("250 Delete operation successful."),
            b"DELE" => say("550 Delete operation failed."),
            b"MKD" | b"XMKD" if given && tree.make_directory(&path, now).is_ok() => quoted("257 ", &path, " created"),
            b"MKD" | b"XMKD" => say("550 Create directory operation failed."),
            b"RMD" | b"XRMD" if given && tree.remove(&path, true).is_ok() => say("250 Remove directory operation successful."),
            b"RMD" | b"XRMD" => say("550 Remove directory operation failed."),
            b"RNFR" if given && tree.get(&path).is_some() => {
                self.rename = Some(path);
                say("350 Ready for RNTO.")
            }
            b"RNFR" => {
                self.rename = None;
                say("550 RNFR command failed.")
            }
            _ => match self.rename.take() {
                None => say("503 RNFR required first."),
                Some(from) if given && tree.rename(&from, &path).is_ok() => say("250 Rename successful."),
                Some(_) => say("550 Rename failed."),
            },
        }
    }
}

fn locked<T>(account: &Account, argument: &[u8], look: impl FnOnce(&mut super::Tree, &[u8]) -> Option<T>) -> Option<T> {
    if argument.is_empty() {
        return None;
    }
    look(&mut account.tree.lock().unwrap_or_else(PoisonError::into_inner), &resolve(&account.cwd, argument))
}

fn change(account: &mut Account, argument: &[u8]) -> Reply {
    let path = resolve(&account.cwd, argument);
    let open = !argument.is_empty() && account.tree.lock().unwrap_or_else(PoisonError::into_inner).is_open_directory(&path);
    if open {
        account.cwd = path;
        say("250 Directory successfully changed.")
    } else {
        say("550 Failed to change directory.")
    }
}

/// A reply with a path in quotes; a quote within is doubled (RFC 959 appendix II).
fn quoted(before: &str, path: &[u8], after: &str) -> Reply {
    let mut out = before.as_bytes().to_vec();
    out.push(b'"');
    for byte in path {
        out.push(*byte);
        if *byte == b'"' {
            out.push(b'"');
        }
    }
    out.push(b'"');
    out.extend_from_slice(after.as_bytes());
    out.extend_from_slice(b"\r\n");
    Reply::Say(out)
}

fn site(account: &Account, argument: &[u8], writable: bool) -> Reply {
    if account.anonymous {
        return say("550 Permission denied.");
    }
    let mut words = argument.splitn(2, |b| *b == b' ');
    let (verb, rest) = (words.next().unwrap_or_default().to_ascii_uppercase(), words.next().unwrap_or_default());
    match verb.as_slice() {
        b"CHMOD" if writable => {
            let at = rest.iter().position(|b| *b == b' ');
            let Some((mode, path)) = at.and_then(|at| Some((rest.get(..at)?, rest.get(at + 1..)?))) else {
                return say("500 SITE CHMOD needs 2 arguments.");
            };
            let mode = std::str::from_utf8(mode).ok().and_then(|mode| u16::from_str_radix(mode, 8).ok()).unwrap_or(0);
            match locked(account, path, |tree, path| tree.set_mode(path, mode).ok()) {
                Some(()) => say("200 SITE CHMOD command ok."),
                None => say("550 SITE CHMOD command failed."),
            }
        }
        b"CHMOD" => say("550 Permission denied."),
        b"UMASK" if rest.is_empty() => say("200 Your current UMASK is 077"),
        b"UMASK" => {
            let mode = std::str::from_utf8(rest).ok().and_then(|mode| u16::from_str_radix(mode, 8).ok()).unwrap_or(0) & 0o777;
            say(&format!("200 UMASK set to 0{mode:o}"))
        }
        b"HELP" => say(if writable { "214 CHMOD UMASK HELP" } else { "214 UMASK HELP" }),
        _ => say("500 Unknown SITE command."),
    }
}

fn modified(account: &Account, argument: &[u8], writable: bool) -> Reply {
    // `MDTM YYYYMMDDHHMMSS file` sets the time.
    if let Some((time, path)) = argument.split_at_checked(15)
        && time.iter().take(14).all(u8::is_ascii_digit)
        && time.ends_with(b" ")
    {
        let at = std::str::from_utf8(time).ok().and_then(|time| jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", time.trim_end()).ok());
        let at = at.and_then(|at| jiff::tz::TimeZone::UTC.to_timestamp(at).ok()).map(|at| at.as_second().saturating_mul(1_000_000_000));
        let set = at.filter(|_| writable).and_then(|at| locked(account, path, |tree, path| tree.set_time(path, at).ok()));
        return say(if set.is_some() { "213 File modification time set." } else { "550 Could not set file modification time." });
    }
    let node = locked(account, argument, |tree, path| tree.get(path).filter(|node| matches!(node.kind, Kind::File(_))).cloned());
    let mut out = String::new();
    if let Some(node) = node
        && let Ok(time) = jiff::Timestamp::from_second(node.modified_ns.div_euclid(1_000_000_000))
    {
        let _ = write!(out, "213 {}", time.strftime("%Y%m%d%H%M%S"));
        return say(&out);
    }
    say("550 Could not get file modification time.")
}
