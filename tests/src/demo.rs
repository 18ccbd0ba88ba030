//! The demonstration: every hop for real, from a visitor's first byte to the analyst's files.

mod packets;

use crate::lab::Lab;
use crate::process::{command, run_ok};
use crate::visitors::Visitor;
use crate::world::{Dial, LIMIT, PERSONA, Plan, World, is_root_tcp};
use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::path::Path;
use tokio::signal::unix::{SignalKind, signal};

/// Starts the lab and keeps it until interrupted; then nothing of it is left but its files.
pub fn run(out: &Path) -> crate::Result<()> {
    fresh(out)?;
    // Before anything is started: an interruption must not leave namespaces behind.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _within = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let root = Lab::possible();
    let mut world = World::start(&Plan { dir: out, root, nets: &[("lab", Dial::Node)], persona: PERSONA, extra: "" })?;
    let _sensor = if root { Some(crate::world_sensor::Sensor::start(&mut world, 0, "")?) } else { None };
    println!("{}", hints(&world)?);
    runtime.block_on(async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    });
    Ok(())
}

fn hints(world: &World) -> crate::Result<String> {
    let node = world.nodes.first().context("no node")?;
    let config = world.dir.join("controller/controller.toml");
    let (inside, place) = match &world.lab {
        Some(lab) => (format!("ip netns exec {} ", lab.netns("v1")), "in namespaces, with real ports and a sensor"),
        None => (String::new(), "on loopback, ports + 20000; live packet capture needs root"),
    };
    let control = match &world.lab {
        Some(lab) => format!("ip netns exec {} ", lab.netns("ctl")),
        None => String::new(),
    };
    let own = crate::process::binary("glasshive")?;
    let (decoy, review) = (node.decoy, format!("{control}{} --config {}", own.display(), config.display()));
    Ok(format!(
        "The lab runs {place}.\nVisit:\n  {inside}ssh -p {} deploy@{decoy}            (password: Summer2026!)\n  {inside}curl -k https://{decoy}:{}/\n  {inside}lftp -u backup,backup123 -p {} {decoy}\n  {inside}dig -p {} @{decoy} corp.example AXFR\nReview:\n  {review}\n  {review} sessions\n  {review} tail -f\nEnd with Ctrl-C. Everything is under {}",
        world.port(22),
        world.port(443),
        world.port(21),
        world.port(53),
        world.dir.display()
    ))
}

/// Runs the demonstration; fails when anything is not as it must be.
pub fn demo(out: &Path, loopback: bool) -> crate::Result<()> {
    fresh(out)?;
    let root = Lab::possible() && !loopback;
    say(if root { "lab in namespaces with real ports" } else { "lab on loopback (ports + 20000); live packet capture needs root" });
    let mut world = World::start(&Plan { dir: out, root, nets: &[("lab", Dial::Node)], persona: PERSONA, extra: "" })?;
    let mut packets = if root { Some(packets::Packets::start(&mut world)?) } else { None };
    let dir = world.dir.clone();
    let original = dir.join("invoice-2026.bin");
    // All byte values, larger than what fits a record, so the content travels as a file.
    let content: Vec<u8> = (0..40_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    std::fs::write(&original, &content)?;

    let visitor = Visitor::new(&world, 0);
    let mut opened = 0;
    say("ssh: guesses until one opens, then one command as somebody who knew the password");
    for (user, guess) in [("admin", "admin"), ("oracle", "oracle"), ("root", "123456"), ("root", "admin"), ("root", "root")] {
        opened += visitor.ssh_wrong(user, guess)?;
    }
    opened += visitor.ssh_exec("root", "toor", "id", None)?.0;
    let (n, uname) = visitor.ssh_exec("deploy", "Summer2026!", "uname -a; id; cat /etc/os-release | head -2", None)?;
    opened += n;
    ensure!(String::from_utf8_lossy(&uname).contains("Linux"), "uname said {:?}", String::from_utf8_lossy(&uname));
    say("ssh: an interactive shell on a terminal");
    let (n, screen) = visitor.ssh_interactive(
        "deploy",
        "Summer2026!",
        &["whoami", "ls -la /", "echo 'from the keyboard' > /tmp/note", "cat /tmp/note", "exit"],
    )?;
    opened += n;
    ensure!(screen.contains("from the keyboard"), "the shell did not answer:\n{screen}");
    say("http and https");
    opened += visitor.http(false, "/", &[])?.0;
    opened += visitor.http(false, "/admin/login.php?next=%2F", &["-A", "Mozilla/5.0 \u{202e}evil\u{202c} <script>alert(1)</script>"])?.0;
    opened += visitor.http(true, "/", &["-d", "user=admin&password=letmein"])?.0;
    say("ftp: upload, list, fetch back");
    let back = dir.join("fetched-back.bin");
    opened += visitor.ftp("backup", "backup123", &original, &back)?;
    ensure!(std::fs::read(&back)? == content, "what FTP gave back is not what was uploaded");
    std::fs::remove_file(&back)?;
    say("dns: A, AXFR, CHAOS");
    let (n, answer) = visitor.dig(&["+short", "web-01.corp.example", "A"])?;
    opened += n;
    ensure!(answer.trim() == visitor.decoy()?, "the A record says {answer:?}");
    opened += visitor.dig(&["corp.example", "AXFR"])?.0;
    opened += visitor.dig(&["+short", "version.bind", "TXT", "CH"])?.0;
    say("a silent connect");
    opened += visitor.silent(9100)?;

    say(&format!("clients opened {opened} TCP connections; waiting for as many sessions at the controller"));
    let sessions = world.wait_sessions(opened, LIMIT)?;
    let roots: Vec<_> = sessions.iter().filter(|s| is_root_tcp(s)).collect();
    ensure!(roots.len() == opened, "{} TCP sessions without parent, but {opened} connections", roots.len());
    let mut ids: Vec<_> = sessions.iter().filter_map(|s| s["session"].as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == sessions.len(), "a session is listed twice");
    if let Some(packets) = &packets {
        packets.visit(&world)?;
    }
    std::fs::write(dir.join("sessions.json"), world.cli(&["sessions", "--json", "--children", "--limit", "1000"])?)?;

    let interactive = sessions
        .iter()
        .find(|s| s["service"] == "ssh" && s["commands"].as_u64() >= Some(4))
        .context("the interactive session is not listed")?;
    let interactive = interactive["session"].as_str().context("session id")?.to_owned();
    std::fs::write(dir.join("session.txt"), world.cli(&["session", &interactive])?)?;
    say("exports: cast, files, jsonl, csv");
    let export = |id: &str, format: &str| -> crate::Result<std::path::PathBuf> {
        let to = dir.join(format!("export-{format}"));
        world.cli(&["export", "session", id, "--format", format, "-o", &to.to_string_lossy()])?;
        Ok(to)
    };
    let casts = export(&interactive, "cast")?;
    let cast = find(&casts, |name| name.ends_with(".cast")).context("no cast was exported")?;
    let cast_path = dir.join("session.cast");
    std::fs::copy(&cast, &cast_path)?;
    // asciinema insists on a terminal.
    let mut play = command(["script", "-qec", &format!("asciinema cat {}", cast_path.display()), "/dev/null"]);
    play.env("ASCIINEMA_CONFIG_HOME", dir.join("asciinema")).env("HOME", &dir).env("LC_ALL", "C.UTF-8");
    let played = run_ok(play, None, LIMIT)?;
    ensure!(played.contains("from the keyboard"), "the cast does not show what was typed");
    let _ = std::fs::remove_dir_all(dir.join("asciinema"));
    export(&interactive, "jsonl")?;
    export(&interactive, "csv")?;
    let upload = sessions.iter().find(|s| s["service"] == "ftp" && s["files"].as_u64() > Some(0)).context("no session holds the upload")?;
    let upload = upload["session"].as_str().context("session id")?.to_owned();
    let files = export(&upload, "files")?;
    let sha256: String = Sha256::digest(&content).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    let exported = find(&files, |name| name.starts_with(&sha256)).context("the upload was not exported under its SHA-256")?;
    ensure!(std::fs::read(&exported)? == content, "the exported upload differs from the original");
    std::fs::copy(&exported, dir.join("upload.bin"))?;

    let packets = match &mut packets {
        Some(packets) => packets.review(&world)?,
        None => "packets       not captured: live capture needs root\n".to_owned(),
    };
    let summary = summary(&world, opened, &sessions, root, &packets)?;
    std::fs::write(dir.join("SUMMARY.txt"), &summary)?;
    println!("{summary}");
    Ok(())
}

fn summary(world: &World, opened: usize, sessions: &[serde_json::Value], root: bool, packets: &str) -> crate::Result<String> {
    let mut text = String::from("Glasshive demonstration\n\n");
    let _ = writeln!(text, "place         {}", if root { "network namespaces, real ports" } else { "loopback, ports + 20000" });
    let _ =
        writeln!(text, "connections   {opened} opened by the clients, {opened} TCP sessions without parent at the controller, each once");
    text.push_str(packets);
    let _ = writeln!(text, "sessions      {} in all (with FTP data connections and UDP)", sessions.len());
    let _ = writeln!(text, "upload        byte-equal to the original: upload.bin");
    let _ = writeln!(text, "files         sessions.json session.txt session.cast export-*/\n");
    text.push_str(&world.cli(&["sessions", "--children"])?);
    text.push('\n');
    text.push_str(&world.cli(&["credentials"])?);
    Ok(text)
}

/// A directory holding nothing of an earlier run.
fn fresh(out: &Path) -> crate::Result<()> {
    if out.exists() {
        std::fs::remove_dir_all(out).with_context(|| format!("removing the earlier run in {}", out.display()))?;
    }
    std::fs::create_dir_all(out)?;
    Ok(())
}

fn find(dir: &Path, wanted: impl Fn(&str) -> bool) -> Option<std::path::PathBuf> {
    std::fs::read_dir(dir)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| wanted(&name.to_string_lossy())))
}

fn say(text: &str) {
    println!("· {text}");
}
