use super::super::find;
use super::list::list;
use super::tree::{Tree, resolve};
use crate::testkit::Kit;
use glasshive_event::Kind;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(60);

struct Client(BufReader<DuplexStream>);

impl Client {
    async fn new(kit: &Kit) -> Self {
        let mut client = Self(BufReader::new(kit.connect()));
        assert_eq!(client.line().await, "220 (vsFTPd 3.0.3)");
        client
    }
    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        tokio::time::timeout(PATIENCE, self.0.read_until(b'\n', &mut line)).await.unwrap().unwrap();
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }
    /// The first line answered.
    async fn ask(&mut self, command: &str) -> String {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
        let first = self.line().await;
        if first.as_bytes().get(3) == Some(&b'-') {
            while !self.line().await.starts_with(&format!("{} ", &first[..3])) {}
        }
        first
    }
    async fn ask_all(&mut self, script: &[(&str, &str)]) {
        for (command, reply) in script {
            assert_eq!(self.ask(command).await, *reply, "{command}");
        }
    }
}

/// Replies taken from the real vsftpd 3.0.3.
#[tokio::test]
async fn words_of_vsftpd() {
    let kit = Kit::new(find("ftp").unwrap(), "").unwrap();
    let mut client = Client::new(&kit).await;
    let please = "530 Please login with USER and PASS.";
    client
        .ask_all(&[
            ("foo", please),
            ("FEAT", "211-Features:"),
            ("SYST", please),
            ("HELP", please),
            ("PASS x", "503 Login with USER first."),
            ("ACCT x", please),
            ("AUTH TLS", please),
            (".", please),
            ("opts utf8 on", "200 Always in UTF8 mode."),
            ("OPTS x", "501 Option not understood."),
            ("USER", "331 Please specify the password."),
            ("USER root", "331 Please specify the password."),
            ("PASS toor", "230 Login successful."),
            ("PASS x", "230 Already logged in."),
            ("USER root", "331 Any password will do."),
            ("USER other", "530 Can't change to another user."),
            ("PWD", "257 \"/root\" is the current directory"),
            ("CWD nope", "550 Failed to change directory."),
            ("CWD", "550 Failed to change directory."),
            ("TYPE L8", "200 Switching to Binary mode."),
            ("TYPE A N", "200 Switching to ASCII mode."),
            ("TYPE E", "500 Unrecognised TYPE command."),
            ("MODE B", "504 Bad MODE command."),
            ("MODE S", "200 Mode set to S."),
            ("STRU F", "200 Structure set to F."),
            ("SYST", "215 UNIX Type: L8"),
            ("NOOP x", "200 NOOP ok."),
            ("HELP", "214-The following commands are recognized."),
            ("STAT", "211-FTP server status:"),
            ("STAT /", "213-Status follows:"),
            ("SIZE nope", "550 Could not get file size."),
            ("MDTM nope", "550 Could not get file modification time."),
            ("DELE nope", "550 Delete operation failed."),
            ("MKD q\"uote", "257 \"/root/q\"\"uote\" created"),
            ("MKD q\"uote", "550 Create directory operation failed."),
            ("CWD q\"uote", "250 Directory successfully changed."),
            ("PWD", "257 \"/root/q\"\"uote\" is the current directory"),
            ("CDUP", "250 Directory successfully changed."),
            ("RNTO z", "503 RNFR required first."),
            ("RNFR nope", "550 RNFR command failed."),
            ("RNFR q\"uote", "350 Ready for RNTO."),
            ("NOOP", "200 NOOP ok."),
            ("RNTO z", "250 Rename successful."),
            ("RMD z", "250 Remove directory operation successful."),
            ("RMD z", "550 Remove directory operation failed."),
            ("REST 3", "350 Restart position accepted (3)."),
            ("REST -1", "350 Restart position accepted (0)."),
            ("PORT 127,0,0,1,4,5", "550 Permission denied."),
            ("EPRT |1|127.0.0.1|1029|", "550 Permission denied."),
            ("EPSV x", "522 Bad network protocol."),
            ("LIST", "425 Use PORT or PASV first."),
            ("STOR x", "425 Use PORT or PASV first."),
            ("ABOR", "225 No transfer to ABOR."),
            ("ACCT x", "502 ACCT not implemented."),
            ("SMNT", "502 SMNT not implemented."),
            ("MLSD", "500 Unknown command."),
            (".", "500 Unknown command."),
            ("EPSV ALL", "200 EPSV ALL ok."),
            ("PASV", "550 Permission denied."),
            ("QUIT", "221 Goodbye."),
        ])
        .await;
    drop(client);
    let seen = kit.memory.closed(1).await;
    let passwords: Vec<_> = seen.iter().filter(|s| s.kind == Kind::Request && s.detail["verb"] == "PASS").collect();
    assert_eq!(passwords.len(), 3);
    assert!(passwords.iter().all(|s| !s.detail.to_string().contains("toor")), "the password in clear");
    assert_eq!(seen.iter().filter(|s| s.kind == Kind::Login).count(), 1);
    assert_eq!(seen.last().unwrap().detail["reason"], "server");
}

#[tokio::test]
async fn wrong_passwords_and_long_lines() {
    let kit = Kit::new(find("ftp").unwrap(), "").unwrap();
    let mut client = Client::new(&kit).await;
    client.ask_all(&[("USER anonymous", "331 Please specify the password."), ("PASS a@b", "530 Login incorrect.")]).await;
    assert_eq!(client.ask("PASS again").await, "503 Login with USER first.");
    assert_eq!(client.ask(&"A".repeat(4094)).await, "530 Please login with USER and PASS.");
    assert_eq!(client.ask(&"A".repeat(4095)).await, "500 Input line too long.");
    assert_eq!(client.line().await, "");
    let login = kit.memory.of(Kind::Login);
    assert_eq!((login[0].detail["accepted"].as_bool(), login[0].detail["secret_sealed"].as_str()), (Some(false), Some("sealed:a@b")));
    assert_eq!(kit.memory.of(Kind::Malformed).len(), 1);
}

async fn run(program: &str, arguments: &[&str]) -> String {
    let child = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, child)
        .await
        .unwrap_or_else(|_| panic!("{program} does not end"))
        .unwrap_or_else(|error| panic!("{program} is needed: apt-get install {program}: {error}"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

async fn listening(settings: &str) -> (Arc<Kit>, SocketAddr) {
    let kit = Arc::new(Kit::new(find("ftp").unwrap(), settings).unwrap());
    let address = kit.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    (kit, address)
}

/// All 256 byte values, and 200 KiB: what real clients upload they fetch again byte for byte.
#[tokio::test(flavor = "multi_thread")]
async fn real_clients_get_back_what_they_sent() {
    let (kit, address) = listening("").await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let small: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = (0..200 * 1024u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(path("small"), &small).unwrap();
    std::fs::write(path("large"), &large).unwrap();
    for name in ["small", "large"] {
        let url = format!("ftp://{address}/{name}");
        run("curl", &["-sS", "--noproxy", "*", "-u", "root:toor", "-T", &path(name), &url]).await;
        run("curl", &["-sS", "--noproxy", "*", "-u", "root:toor", "-o", &path("back"), &url]).await;
        assert_eq!(std::fs::read(path("back")).unwrap(), std::fs::read(path(name)).unwrap(), "curl {name}");
        let script = format!(
            "set net:max-retries 1; set ftp:ssl-allow no; open -u root,toor ftp://{address}; put {} -o l-{name}; get l-{name} -o {}; ls; bye",
            path(name),
            path(&format!("l-{name}"))
        );
        let shown = run("lftp", &["--norc", "-c", &script]).await;
        assert_eq!(std::fs::read(path(&format!("l-{name}"))).unwrap(), std::fs::read(path(name)).unwrap(), "lftp {name}");
        assert!(shown.contains(&format!("l-{name}")), "{shown}");
    }
    let files = kit.memory.of(Kind::File);
    for data in [&small, &large] {
        use sha2::Digest as _;
        let hash = glasshive_event::text::hex(&sha2::Sha256::digest(data));
        for direction in ["upload", "download"] {
            let count = files.iter().filter(|f| f.detail["sha256"] == hash.as_str() && f.detail["direction"] == direction).count();
            assert_eq!(count, 2, "{direction} of {} bytes", data.len());
        }
    }
    // Data connections are sessions with a parent.
    let opens = kit.memory.of(Kind::SessionOpen);
    assert!(opens.iter().filter(|open| open.envelope.parent.is_some()).count() >= 8);
    kit.cancel.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn nmap_names_vsftpd() {
    let (kit, address) = listening("").await;
    let text = run("nmap", &["-n", "-Pn", "-sV", "-p", &address.port().to_string(), "127.0.0.1"]).await;
    assert!(text.contains("vsftpd 3.0.3"), "{text}");
    kit.cancel.cancel();
}

#[test]
fn trees_are_bounded_and_keep_to_their_owner() {
    let mut tree = Tree::new("/home/ann", 1001, 0);
    assert!(tree.write(b"/home/ann/a", vec![1; 10], 5).is_ok());
    assert!(tree.write(b"/etc/a", vec![1], 5).is_err());
    assert!(tree.write(b"/home/ann/big", vec![0; super::tree::MAX_BYTES], 5).is_err());
    assert!(tree.write(b"/home/ann/a", vec![0; super::tree::MAX_BYTES], 5).is_ok(), "replacing frees what was there");
    assert_eq!(tree.room(), 0);
    assert!(tree.remove(b"/home/ann/a", false).is_ok());
    assert_eq!(tree.bytes(), 0);
    let made = (0..2000).filter(|n| tree.make_directory(format!("/home/ann/{n}").as_bytes(), 0).is_ok()).count();
    assert!(made < 600, "{made}");
    assert!(tree.rename(b"/home/ann/1", b"/home/ann/1/2").is_err());
    assert!(tree.remove(b"/home", true).is_err() && tree.remove(b"/", true).is_err());
    assert_eq!(resolve(b"/a/b", b"../../../c//./d"), b"/c/d");
}

/// Bytes of a row the real vsftpd wrote, ids and times aside.
#[test]
fn rows_of_vsftpd() {
    let at = 1_795_582_000_000_000_000;
    let mut tree = Tree::new("/root", 0, at);
    tree.write(b"/root/a.txt", b"hi\n".to_vec(), at).unwrap();
    tree.set_mode(b"/root/a.txt", 0o644).unwrap();
    tree.make_directory(b"/root/up", at).unwrap();
    let text = String::from_utf8(list(&tree, b"/root", b"", true, at + 1).unwrap()).unwrap();
    assert_eq!(
        text,
        "-rw-r--r--    1 0        0               3 Nov 25 04:46 a.txt\r\ndrwx------    2 0        0            4096 Nov 25 04:46 up\r\n"
    );
    let names = |argument: &str| String::from_utf8(list(&tree, b"/root", argument.as_bytes(), false, at).unwrap()).unwrap();
    assert_eq!((names("*.txt").as_str(), names("up").as_str(), names("nope").as_str()), ("a.txt\r\n", "", ""));
    assert_eq!(names("/root"), "/root/a.txt\r\n/root/up\r\n");
    assert!(list(&tree, b"/root", b"no/such", true, at).is_none());
}
