//! Visitors made for load: each does one whole visit and fails unless the server's part of it was
//! what it must be. They come from many loopback addresses, as many visitors would.

use anyhow::{Context as _, bail, ensure};
use russh::keys::{Algorithm, HashAlg, PublicKeyOrCertificate};
use russh::{Disconnect, Preferred, cipher, client, compression, kex, mac};
use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// A visit that takes longer has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Source addresses used in turn.
const SOURCES: usize = 200;
/// Longest answer read.
const MAX_ANSWER: usize = 64 * 1024;

/// A connection of visitor `n`.
pub(super) async fn connect(to: SocketAddr, n: usize) -> crate::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    let last = u8::try_from(n % SOURCES + 1).unwrap_or(1);
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 1, last), 0))).context("taking a source port")?;
    let stream = socket.connect(to).await.context("connecting")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects and waits for the first bytes; how long that took.
pub(super) async fn first_bytes(to: SocketAddr, n: usize) -> crate::Result<Duration> {
    let start = Instant::now();
    let mut stream = connect(to, n).await?;
    let mut bytes = [0; 256];
    ensure!(stream.read(&mut bytes).await? > 0, "closed without a word");
    Ok(start.elapsed())
}

/// What servers say, where they differ.
#[derive(Debug)]
pub(super) struct Words {
    /// The answer to an FTP password.
    pub(super) ftp_login: &'static str,
    /// FTP visitors say QUIT and are answered.
    pub(super) ftp_quit: bool,
    /// The page that is there.
    pub(super) page: &'static str,
    /// Telnet's prompts, and what is typed at each.
    pub(super) telnet: [(&'static str, &'static str); 3],
    /// The Telnet options of its greeting are answered. One peer sends them and forgets that it did;
    /// what is then said to and fro about them must end before a name is typed, or no login does.
    pub(super) telnet_greeting: bool,
}

/// The subject's words, and those of its controls.
pub(super) static OURS: Words = Words {
    ftp_login: "230 ",
    ftp_quit: true,
    page: "/",
    telnet: [("login: ", "root\r\0"), ("Password: ", "vizxv\r\0"), ("Login incorrect", "")],
    telnet_greeting: true,
};

/// A conversation: what was heard and not used yet.
struct Talk {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Talk {
    async fn open(to: SocketAddr, n: usize) -> crate::Result<Self> {
        Ok(Self { stream: connect(to, n).await?, heard: Vec::new() })
    }

    /// More bytes; `false` at the end of the stream.
    async fn hear(&mut self) -> crate::Result<bool> {
        ensure!(self.heard.len() < MAX_ANSWER, "an answer without end");
        Ok(self.stream.read_buf(&mut self.heard).await? > 0)
    }

    /// Waits for `word` and forgets all up to it.
    async fn expect(&mut self, word: &str) -> crate::Result<()> {
        loop {
            if let Some(at) = self.heard.windows(word.len()).position(|window| window == word.as_bytes()) {
                self.heard.drain(..at + word.len());
                return Ok(());
            }
            if !self.hear().await? {
                bail!("closed before {word:?}; last heard {:?}", String::from_utf8_lossy(&self.heard));
            }
        }
    }

    async fn say(&mut self, text: &str) -> crate::Result<()> {
        Ok(self.stream.write_all(text.as_bytes()).await?)
    }

    async fn end(mut self) -> crate::Result<()> {
        while self.hear().await? {
            self.heard.clear();
        }
        Ok(())
    }
}

/// One FTP login.
pub(super) async fn ftp(to: SocketAddr, n: usize, words: &Words) -> crate::Result<()> {
    let mut talk = Talk::open(to, n).await?;
    talk.expect("220 ").await?;
    talk.say("USER backup\r\n").await?;
    talk.expect("331 ").await?;
    talk.say("PASS backup123\r\n").await?;
    talk.expect(words.ftp_login).await?;
    if !words.ftp_quit {
        return Ok(());
    }
    talk.say("QUIT\r\n").await?;
    talk.expect("221 ").await?;
    talk.end().await
}

/// One page by HTTP.
pub(super) async fn http(to: SocketAddr, n: usize, words: &Words) -> crate::Result<()> {
    let mut talk = Talk::open(to, n).await?;
    let page = words.page;
    let request =
        format!("GET {page} HTTP/1.1\r\nHost: www.corp.example\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    talk.say(&request).await?;
    talk.expect("HTTP/1.1 200 ").await?;
    talk.end().await
}

/// A Telnet login that is refused; the visitor then leaves.
pub(super) async fn telnet(to: SocketAddr, n: usize, words: &Words) -> crate::Result<()> {
    let mut talk = Talk::open(to, n).await?;
    for (step, (prompt, line)) in words.telnet.into_iter().enumerate() {
        loop {
            let answers = options(&mut talk.heard);
            if !answers.is_empty() && (step > 0 || words.telnet_greeting) {
                talk.stream.write_all(&answers).await?;
            }
            if talk.heard.windows(prompt.len()).any(|window| window == prompt.as_bytes()) {
                talk.heard.clear();
                break;
            }
            ensure!(talk.hear().await?, "closed before {prompt:?}");
        }
        talk.say(line).await?;
    }
    Ok(())
}

/// Takes option commands out of what was heard and answers them: echo and suppress-go-ahead are
/// welcome, everything else is not.
fn options(heard: &mut Vec<u8>) -> Vec<u8> {
    let mut answers = Vec::new();
    let mut text = Vec::new();
    let mut rest = heard.as_slice();
    loop {
        match rest {
            [255, verb @ (251..=254), option, after @ ..] => {
                match (verb, option) {
                    (251, 1 | 3) => answers.extend([255, 253, *option]),
                    (251, _) => answers.extend([255, 254, *option]),
                    (253, _) => answers.extend([255, 252, *option]),
                    // What was welcome ends; one peer waits for the answer before it judges a password.
                    (252, 1 | 3) => answers.extend([255, 254, *option]),
                    _ => {}
                }
                rest = after;
            }
            // Cut off: the rest comes with the next bytes.
            [255] | [255, 251..=254] | [] => break,
            [255, _, after @ ..] => rest = after,
            [byte, after @ ..] => {
                text.push(*byte);
                rest = after;
            }
        }
    }
    text.extend_from_slice(rest);
    *heard = text;
    answers
}

struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;
    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// One algorithm of each kind, so that every server does the same work; the second of a kind is for
/// peers that do not know the first.
pub(super) fn ssh_config() -> Arc<client::Config> {
    let preferred = Preferred {
        kex: Cow::Borrowed(&[kex::CURVE25519]),
        key: Cow::Borrowed(&[Algorithm::Ed25519, Algorithm::Rsa { hash: Some(HashAlg::Sha512) }]),
        cipher: Cow::Borrowed(&[cipher::CHACHA20_POLY1305, cipher::AES_128_CTR]),
        mac: Cow::Borrowed(&[mac::HMAC_SHA256_ETM, mac::HMAC_SHA256]),
        compression: Cow::Borrowed(&[compression::NONE]),
        ..Preferred::DEFAULT
    };
    Arc::new(client::Config { preferred, ..client::Config::default() })
}

/// A full key exchange and one password that is refused.
pub(super) async fn ssh(to: SocketAddr, n: usize, config: Arc<client::Config>) -> crate::Result<()> {
    let stream = connect(to, n).await?;
    let mut handle = client::connect_stream(config, stream, Trusting).await.context("key exchange")?;
    let accepted = handle.authenticate_password("root", format!("guess-{n}")).await.context("authentication")?;
    ensure!(!accepted.success(), "a wrong password was accepted");
    handle.disconnect(Disconnect::ByApplication, "", "").await?;
    // Ends when the connection is closed.
    let _ = handle.await;
    Ok(())
}

/// Identification lines and KEXINITs are exchanged, then the visitor is silent.
pub(super) async fn ssh_kexinit(to: SocketAddr, n: usize) -> crate::Result<TcpStream> {
    let mut talk = Talk::open(to, n).await?;
    talk.expect("\r\n").await?;
    talk.say("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n").await?;
    talk.stream.write_all(&kexinit()).await?;
    // The server's KEXINIT: its packet type follows length and padding length.
    while talk.heard.len() < 6 {
        ensure!(talk.hear().await?, "closed before its KEXINIT");
    }
    ensure!(talk.heard.get(5) == Some(&20), "no KEXINIT");
    Ok(talk.stream)
}

/// An SSH binary packet (RFC 4253 sections 6 and 7.1) with the lists of an OpenSSH client.
fn kexinit() -> Vec<u8> {
    let lists = [
        "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,diffie-hellman-group14-sha256,ext-info-c",
        "ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512,rsa-sha2-256",
        "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr",
        "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr",
        "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512",
        "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512",
        "none,zlib@openssh.com",
        "none,zlib@openssh.com",
        "",
        "",
    ];
    let mut payload = vec![20];
    payload.extend([7; 16]);
    for list in lists {
        payload.extend(u32::try_from(list.len()).unwrap_or(0).to_be_bytes());
        payload.extend(list.as_bytes());
    }
    payload.extend([0; 5]);
    let mut padding = 8 - (payload.len() + 5) % 8;
    if padding < 4 {
        padding += 8;
    }
    let mut packet = u32::try_from(payload.len() + padding + 1).unwrap_or(0).to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).unwrap_or(0));
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telnet_options_are_answered_and_taken_out() {
        let mut heard = [&[255, 253, 24, 255, 251, 1][..], b"login: ", &[255, 251]].concat();
        assert_eq!(options(&mut heard), [255, 252, 24, 255, 253, 1]);
        assert_eq!(heard, [&b"login: "[..], &[255, 251]].concat());
        heard.push(5);
        assert_eq!(options(&mut heard), [255, 254, 5]);
        assert_eq!(heard, b"login: ");
    }

    #[test]
    fn an_option_that_ends_is_answered() {
        let mut heard = [&[255, 252, 1][..], b"x"].concat();
        assert_eq!(options(&mut heard), [255, 254, 1]);
        assert_eq!(heard, b"x");
    }

    #[test]
    fn the_kexinit_is_one() {
        let packet = kexinit();
        assert_eq!(packet.len() % 8, 0);
        assert!(matches!(glasshive_proto::ssh::kexinit(&packet), glasshive_proto::Parsed::Done { .. }));
    }
}
