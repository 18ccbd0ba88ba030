//! The same bytes to the decoy and to a real OpenSSH server: same answers, same ends.

use super::{Decoy, QUICK};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A real sshd on loopback, ended when dropped.
struct Sshd {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sshd {
    /// An sshd without sntrup761 and UMAC, the hardening the decoy claims.
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let mut config = format!(
            "Port {}\nListenAddress 127.0.0.1\nPidFile none\nUsePAM no\nMaxStartups 1000\n\
             KexAlgorithms -sntrup*\nMACs -umac-*\n",
            address.port()
        );
        for kind in ["rsa", "ecdsa", "ed25519"] {
            let key = dir.path().join(kind);
            let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", kind, "-f"]).arg(&key).stdin(Stdio::null()).status();
            assert!(made.expect("ssh-keygen: install the package openssh-client").success());
            config.push_str(&format!("HostKey {}\n", key.display()));
        }
        let file = dir.path().join("sshd_config");
        std::fs::write(&file, config).unwrap();
        // sshd started by root wants its directory; the package's service makes it at boot.
        let _ = std::fs::create_dir("/run/sshd");
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("/usr/sbin/sshd: install the package openssh-server");
        let sshd = Self { child, address, _dir: dir };
        while TcpStream::connect(sshd.address).is_err() {
            std::thread::yield_now();
        }
        sshd
    }
}

/// What a server sent after its own line, without a KEXINIT, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    kexinit: Option<Vec<u8>>,
    text: String,
    end: &'static str,
}

fn ask(address: SocketAddr, bytes: &[u8], close: bool) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    assert!(line.starts_with(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u"), "{}", line.escape_ascii());
    let _ = stream.write_all(bytes);
    if close {
        stream.shutdown(Shutdown::Write).unwrap();
    }
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    let (mut kexinit, mut whole) = (None, false);
    let end = loop {
        if !whole && all.len() > 5 && all[5] == 20 {
            let size = u32::from_be_bytes([all[0], all[1], all[2], all[3]]) as usize + 4;
            if all.len() >= size {
                whole = true;
                let rest = all.split_off(size);
                kexinit = Some(std::mem::replace(&mut all, rest));
                // The server waits for ours now: our own end shows that nothing else comes.
                let _ = stream.shutdown(Shutdown::Write);
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => break "FIN",
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break "RST",
            Err(error) => panic!("{error} after {}", all.escape_ascii()),
        }
    };
    let mut text = all.escape_ascii().to_string();
    if end == "RST" {
        // Whether the line end behind the text still left before the reset is the kernel's timing.
        text = text.trim_end_matches("\\r\\n").to_owned();
    }
    Answer { kexinit, text, end }
}

fn cases() -> Vec<(&'static str, Vec<u8>, bool)> {
    let long = |n: usize| [b"SSH-2.0-".as_slice(), &vec![b'a'; n - 8], b"\r\n"].concat();
    let after_id = |bytes: &[u8]| [b"SSH-2.0-x\r\n", bytes].concat();
    let filled = |bytes: &[u8]| [b"SSH-2.0-x\r\n", bytes, &[b'a'; 60]].concat();
    vec![
        ("http", b"GET / HTTP/1.0\r\n\r\n".to_vec(), false),
        ("SSH-1111", b"SSH-1111-x\r\n".to_vec(), false),
        ("SSH-1337", b"SSH-1337-OpenSSH_9.0\r\n".to_vec(), false),
        ("8 LF", vec![b'\n'; 8], false),
        ("LF", b"\n".to_vec(), false),
        ("CRLF", b"\r\n".to_vec(), false),
        ("2 CRLF", b"\r\n\r\n".to_vec(), false),
        ("no line end", b"SSH-2.0-x".to_vec(), true),
        ("CR only", b"SSH-2.0-x\r".to_vec(), true),
        ("nothing", Vec::new(), true),
        ("255 bytes", long(253), false),
        ("302 bytes", long(300), false),
        ("8192 bytes", long(8192), false),
        ("8193 bytes", long(8193), false),
        ("9000 bytes, no line end", vec![b'a'; 9000], false),
        ("double banner", b"SSH-2.0-a\r\nSSH-2.0-b\r\n".to_vec(), false),
        ("2.2", b"SSH-2.2-x\r\n".to_vec(), false),
        ("2.0 without software", b"SSH-2.0\r\n".to_vec(), false),
        ("2.0 with empty software", b"SSH-2.0-\r\n".to_vec(), false),
        ("1.99", b"SSH-1.99-x\r\n".to_vec(), false),
        ("1.5", b"SSH-1.5-x\r\n".to_vec(), false),
        ("3.0", b"SSH-3.0-x\r\n".to_vec(), false),
        ("huge version", b"SSH-99999999999.0-x\r\n".to_vec(), false),
        ("signed version", b"SSH-+2.0-x\r\n".to_vec(), false),
        ("blank version", b"SSH- 2.0-x\r\n".to_vec(), false),
        ("NUL", b"SSH-2.0-x\0y\r\n".to_vec(), false),
        ("CR inside", b"SSH-2.0-x\ry\r\n".to_vec(), false),
        ("LF only", b"SSH-2.0-x\n".to_vec(), false),
        ("not UTF-8", b"SSH-2.0-\xff\xfe\r\n".to_vec(), false),
        ("lower case", b"ssh-2.0-x\r\n".to_vec(), false),
        ("probe", b"SSH-2.0-Probe-x\r\n".to_vec(), false),
        ("mapper", b"SSH-2.0-SSH_Version_Mapper\r\n".to_vec(), false),
        ("TLS", [b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03".as_slice(), &[0x11; 160]].concat(), false),
        ("RDP", b"\x03\x00\x00\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0".to_vec(), false),
        ("packet length 0", after_id(&[0; 16]), false),
        ("packet length 3", filled(&[0, 0, 0, 3]), false),
        ("packet length huge", filled(&[0x7f, 0xff, 0xff, 0xff]), false),
        ("packet length odd", filled(&[0, 0, 0, 17]), false),
        ("padding beyond packet", filled(&[0, 0, 0, 12, 255]), false),
        ("padding too short", after_id(&[&[0, 0, 0, 12, 3][..], &[20; 11]].concat()), false),
        ("KEXINIT cut short", after_id(&[&[0, 0, 0, 28, 10, 20][..], &[b'c'; 16], &[0; 10]].concat()), false),
        ("unknown message", after_id(&[&[0, 0, 0, 12, 10, 99][..], &[0; 10]].concat()), false),
        ("disconnect", after_id(&[&[0, 0, 0, 28, 10, 1, 0, 0, 0, 11][..], &[0; 22]].concat()), false),
        ("ignore", after_id(&[&[0, 0, 0, 12, 6, 2][..], &[0; 10]].concat()), false),
        ("NEWKEYS first", after_id(&[&[0, 0, 0, 12, 10, 21][..], &[0; 10]].concat()), false),
        ("service request first", after_id(&[&[0, 0, 0, 28, 10, 5, 0, 0, 0, 12][..], b"ssh-userauth", &[0; 10]].concat()), false),
    ]
}

/// A KEXINIT without its cookie and padding.
fn lists(kexinit: &[u8]) -> String {
    let padding = usize::from(kexinit[4]);
    kexinit[22..kexinit.len() - padding].escape_ascii().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_as_sshd_does() {
    let decoy = Decoy::start(QUICK).await;
    let address = decoy.address;
    let cases = cases();
    let count = cases.len();
    tokio::task::spawn_blocking(move || {
        let sshd = Sshd::start();
        let mut differences = Vec::new();
        for (name, bytes, close) in cases {
            let mut real = ask(sshd.address, &bytes, close);
            let mut ours = ask(address, &bytes, close);
            if let (Some(real), Some(ours)) = (real.kexinit.take(), ours.kexinit.take()) {
                assert_eq!(lists(&real), lists(&ours), "KEXINIT, {name}");
            } else if real.kexinit.is_some() != ours.kexinit.is_some() {
                differences.push(format!("{name}: KEXINIT sent by one only"));
            }
            if real != ours {
                differences.push(format!("{name}: sshd {real:?}, decoy {ours:?}"));
            }
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    })
    .await
    .unwrap();
    decoy.closed(count).await;
}
