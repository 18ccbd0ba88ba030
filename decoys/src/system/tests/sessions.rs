//! Sessions: what persists, what waits, what a terminal sees, and what is bounded per source.

use super::*;

fn run(shell: &mut Shell, line: &str) -> Ran {
    shell.run(line.as_bytes(), EOF, NOW)
}

#[test]
fn files_persist_for_the_same_source_only() {
    let machine = machine();
    assert_eq!(exec_on(&machine, "echo payload > /tmp/x; mkdir -p /opt/.h; rm /etc/motd").exit, 0);
    assert_eq!(text(&exec_on(&machine, "cat /tmp/x; ls -d /opt/.h; cat /etc/motd 2>/dev/null | wc -l").stdout), "payload\n/opt/.h\n0\n");
    let mut other = machine.login(login("root", "198.51.100.10:1", false));
    assert_eq!(text(&run(&mut other, "cat /tmp/x; wc -l < /etc/motd").stdout), "7\n");
    // The same host over a v4-mapped address, and one IPv6 network, are one source.
    let mut mapped = machine.login(login("root", "[::ffff:198.51.100.9]:2", false));
    assert_eq!(text(&run(&mut mapped, "cat /tmp/x").stdout), "payload\n");
    let mut v6 = machine.login(login("root", "[2001:db8:1:2::a]:3", false));
    run(&mut v6, "echo six > /tmp/six");
    let mut v6 = machine.login(login("root", "[2001:db8:1:2::b]:3", false));
    assert_eq!(text(&run(&mut v6, "cat /tmp/six").stdout), "six\n");
}

#[test]
fn sources_are_bounded_and_evictions_counted() {
    let machine = machine();
    for n in 0..limits::SOURCES + 20 {
        let peer = format!("10.{}.{}.1:9", n / 256, n % 256);
        run(&mut machine.login(login("root", &peer, false)), "echo a > /tmp/a");
    }
    let stats = machine.overlays();
    assert_eq!(stats.sources, limits::SOURCES);
    assert_eq!(stats.evicted, 20);
    // Bytes too: sources that fill their share push out the oldest.
    let share = limits::SOURCE_BYTES - (1 << 20);
    for n in 0..12 {
        let peer = format!("172.16.0.{n}:9");
        let mut shell = machine.login(login("root", &peer, false));
        let block = "head -c 262144 /dev/urandom >> /tmp/big; ".repeat(share / 262_144);
        run(&mut shell, &block);
        assert!(machine.overlays().bytes <= limits::TOTAL_BYTES, "{:?}", machine.overlays());
    }
    assert!(machine.overlays().bytes > limits::TOTAL_BYTES / 2);
}

#[test]
fn a_full_share_reads_as_a_full_disk() {
    let ran = exec("while head -c 262144 /dev/zero >> /tmp/big; do :; done; ls /tmp");
    assert!(text(&ran.stderr).contains("No space left on device") || ran.cut, "{}", text(&ran.stderr));
    let ran = exec("dd if=/dev/zero of=/tmp/big bs=1M count=100 2>/dev/null; stat -c %s /tmp/big; du -h /tmp/big; rm /tmp/big");
    assert_eq!(text(&ran.stdout), "104857600\n100M\t/tmp/big\n");
}

#[test]
fn unfinished_lines_ask_for_more() {
    let machine = machine();
    let mut shell = machine.login(login("root", "198.51.100.9:1", true));
    assert_eq!(text(&shell.prompt()), "root@mail2:~# ");
    assert!(run(&mut shell, "for i in 1 2; do").needs_more);
    assert_eq!(text(&shell.prompt()), "> ");
    assert!(run(&mut shell, "echo $i").needs_more);
    assert_eq!(text(&run(&mut shell, "done").stdout), "1\n2\n");
    assert!(run(&mut shell, "cat <<X").needs_more);
    assert!(run(&mut shell, "text").needs_more);
    assert_eq!(text(&run(&mut shell, "X").stdout), "text\n");
    assert!(run(&mut shell, "echo 'a").needs_more);
    assert_eq!(shell.interrupt(NOW).exit, 130);
    assert_eq!(text(&run(&mut shell, "echo $?; cd /usr/bin").stdout), "130\n");
    assert_eq!(text(&shell.prompt()), "root@mail2:/usr/bin# ");
    assert!(run(&mut shell, "echo a && \\").needs_more);
    assert_eq!(text(&run(&mut shell, "echo b").stdout), "a\nb\n");
    let bad = run(&mut shell, "echo )");
    assert_eq!(text(&bad.stdout), "-bash: syntax error near unexpected token `)'\n");
    assert_eq!(text(&run(&mut shell, "history 2").stdout), "    5  echo )\n    6  history 2\n");
    let end = run(&mut shell, "exit 3");
    assert!(end.logout && end.exit == 3 && text(&end.stdout) == "logout\n");
}

#[test]
fn commands_wait_for_their_input() {
    let machine = machine();
    let wait = Input { bytes: b"", eof: false };
    let mut shell = machine.login(login("root", "198.51.100.9:1", true));
    let ran = shell.run(b"echo one; cat > /tmp/f; echo after; wc -c /tmp/f", wait, NOW);
    assert_eq!((text(&ran.stdout).as_str(), ran.waiting), ("one\n", Some(Waiting::Line)));
    assert_eq!(shell.input(b"abc\n", false, NOW).waiting, Some(Waiting::Line));
    let done = shell.input(b"def\n", true, NOW);
    assert_eq!((text(&done.stdout).as_str(), done.waiting), ("after\n8 /tmp/f\n", None));
    assert_eq!(done.files_written.len(), 1);
    // A line-wise reader answers line by line.
    let ran = shell.run(b"while read l; do echo got $l; [ $l = q ] && break; done; echo end", wait, NOW);
    assert_eq!(ran.waiting, Some(Waiting::Line));
    assert_eq!(text(&shell.input(b"x\n", false, NOW).stdout), "got x\n");
    assert_eq!(text(&shell.input(b"q\n", false, NOW).stdout), "got q\nend\n");
    // Secrets are not echoed; the change is made once.
    let ran = shell.run(b"passwd", wait, NOW);
    assert_eq!((text(&ran.stdout).as_str(), ran.waiting), ("New password: ", Some(Waiting::Secret)));
    assert_eq!(text(&shell.input(b"s3cret\n", false, NOW).stdout), "Retype new password: ");
    let done = shell.input(b"s3cret\n", false, NOW);
    assert_eq!((text(&done.stdout).as_str(), done.exit), ("passwd: password updated successfully\n", 0));
    // Interrupting gives it up, and nothing of it stays.
    shell.run(b"echo x > /tmp/half; cat", wait, NOW);
    shell.interrupt(NOW);
    assert_eq!(text(&run(&mut shell, "ls /tmp").stdout), "f\n");
    // An exec channel whose client keeps its input open is not held up by commands that do not read.
    let mut exec = machine.login(login("root", "198.51.100.9:1", false));
    let ran = exec.run(b"uname; ls /tmp", wait, NOW);
    assert_eq!((text(&ran.stdout).as_str(), ran.waiting, ran.logout), ("Linux\nf\n", None, true));
    let mut exec = machine.login(login("root", "198.51.100.9:1", false));
    assert!(exec.run(b"cat | md5sum", wait, NOW).waiting.is_some());
    for _ in 0..100 {
        exec.input(&[b'z'; 3_000], false, NOW);
    }
    let sum = exec.input(b"", true, NOW);
    assert_eq!(text(&sum.stdout), format!("{}  -\n", md5_of(300_000)));
}

fn md5_of(count: usize) -> String {
    use md5::Digest as _;
    md5::Md5::digest(vec![b'z'; count]).iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn other_users_meet_their_limits() {
    let machine = machine();
    let mut shell = machine.login(login("deploy", "198.51.100.9:1", true));
    assert!(text(&shell.prompt()).ends_with("deploy@mail2\u{1b}[00m:\u{1b}[01;34m~\u{1b}[00m$ "), "{}", shell.prompt().escape_ascii());
    for (line, want) in [
        (
            "id",
            "uid=1000(deploy) gid=1000(deploy) groups=1000(deploy),24(cdrom),25(floppy),29(audio),30(dip),44(video),46(plugdev),100(users),108(netdev)\n",
        ),
        ("cat /etc/shadow", "cat: /etc/shadow: Permission denied\n"),
        ("echo x > /etc/x", "-bash: /etc/x: Permission denied\n"),
        ("ls /root", "ls: cannot open directory '/root': Permission denied\n"),
        ("dmesg", "dmesg: read kernel buffer failed: Operation not permitted\n"),
        ("rm /etc/passwd", "rm: cannot remove '/etc/passwd': Permission denied\n"),
        ("cat /opt/app/config.ini", "[db]\n"),
        (
            "apt-get update",
            "E: Could not open lock file /var/lib/apt/lists/lock - open (13: Permission denied)\nE: Unable to lock directory /var/lib/apt/lists/, are you root?\n",
        ),
        ("kill 1", "-bash: kill: (1) - Operation not permitted\n"),
        ("echo mine > x; chmod 600 x; ls -l x | cut -d' ' -f1-5", "-rw------- 1 deploy deploy 5\n"),
    ] {
        assert_eq!(text(&run(&mut shell, line).stdout), want, "{line}");
    }
    let ran = shell.run(b"su -", Input { bytes: b"", eof: false }, NOW);
    assert_eq!((text(&ran.stdout).as_str(), ran.waiting), ("Password: ", Some(Waiting::Secret)));
    assert_eq!(text(&shell.input(b"guess\n", false, NOW).stdout), "su: Authentication failure\n");
}

#[test]
fn tab_completes() {
    let machine = machine();
    let shell = machine.login(login("root", "198.51.100.9:1", true));
    assert_eq!(shell.complete(b"ls /etc/pass").words, [b"/etc/passwd".to_vec(), b"/etc/passwd-".to_vec()]);
    assert_eq!(shell.complete(b"cat /usr/sb").words, [b"/usr/sbin/".to_vec()]);
    assert_eq!(shell.complete(b"unam").words, [b"uname".to_vec()]);
    assert!(shell.complete(b"").words.is_empty());
}

#[test]
fn a_new_account_can_log_in() {
    let machine = machine();
    exec_on(&machine, "useradd -m -s /bin/bash -G sudo eve; echo eve:x | chpasswd");
    let mut shell = machine.login(login("eve", "198.51.100.9:1", false));
    assert_eq!(
        text(&run(&mut shell, "id; pwd; ls -a").stdout),
        "uid=1001(eve) gid=1001(eve) groups=1001(eve),27(sudo)\n/home/eve\n.\n..\n.bash_logout\n.bashrc\n.profile\n"
    );
}

#[test]
fn time_is_told() {
    let ran = exec("sleep 3; date +%S");
    assert_eq!((text(&ran.stdout).as_str(), ran.took.as_secs()), ("33\n", 3));
    let ran = exec("timeout 2 sleep 100; echo $?");
    assert_eq!((text(&ran.stdout).as_str(), ran.took.as_secs()), ("124\n", 2));
}

#[test]
fn shells_inside_shells_on_a_terminal() {
    let machine = machine();
    let mut shell = machine.login(login("root", "198.51.100.9:1", true));
    let open = Input { bytes: b"", eof: false };
    assert!(shell.run(b"x=1; sh", open, NOW).waiting.is_none());
    assert_eq!(text(&shell.prompt()), "# ");
    assert_eq!(text(&shell.run(b"echo [$x] $0", open, NOW).stdout), "[] sh\n");
    assert_eq!(text(&shell.run(b"nosuch", open, NOW).stdout), "sh: 2: nosuch: not found\n");
    assert!(shell.run(b"for i in 1; do", open, NOW).needs_more);
    assert_eq!(text(&shell.run(b"echo $i; done", open, NOW).stdout), "1\n");
    let ran = shell.run(b"exit 4", open, NOW);
    assert_eq!((ran.logout, ran.exit, text(&ran.stdout).as_str()), (false, 4, ""));
    assert_eq!(text(&shell.run(b"echo $? $x", open, NOW).stdout), "4 1\n");
    shell.run(b"su - deploy", open, NOW);
    assert_eq!(text(&shell.run(b"whoami; pwd", open, NOW).stdout), "deploy\n/home/deploy\n");
    assert_eq!(text(&shell.run(b"bash", open, NOW).stdout), "");
    assert_eq!(text(&shell.run(b"exit", open, NOW).stdout), "exit\n");
    assert_eq!(text(&shell.run(b"exit", open, NOW).stdout), "logout\n");
    assert_eq!(text(&shell.run(b"whoami", open, NOW).stdout), "root\n");
    for _ in 0..40 {
        shell.run(b"bash", open, NOW);
    }
    assert!(shell.run(b"exit", open, NOW).stdout.starts_with(b"exit"));
}

#[test]
fn a_shell_fed_through_a_channel_answers_line_by_line() {
    let machine = machine();
    let open = Input { bytes: b"", eof: false };
    let mut shell = machine.login(login("root", "198.51.100.9:1", false));
    let ran = shell.run(b"echo start; sh", open, NOW);
    assert_eq!((text(&ran.stdout).as_str(), ran.waiting, ran.logout), ("start\n", Some(Waiting::Line), false));
    let ran = shell.input(b"echo one\necho tw", false, NOW);
    assert_eq!((text(&ran.stdout).as_str(), ran.waiting), ("one\n", Some(Waiting::Line)));
    assert_eq!(text(&shell.input(b"o; x=5\n", false, NOW).stdout), "two\n");
    // A command inside takes its input from what follows.
    assert_eq!(text(&shell.input(b"read y; echo got $y $x\n", false, NOW).stdout), "");
    assert_eq!(text(&shell.input(b"line\necho next\n", false, NOW).stdout), "got line 5\nnext\n");
    assert_eq!(text(&shell.input(b"head -n1\nfirst\necho after\n", false, NOW).stdout), "first\nafter\n");
    assert_eq!(text(&shell.input(b"for i in a b\ndo echo $i\n", false, NOW).stdout), "");
    assert_eq!(text(&shell.input(b"done\n", false, NOW).stdout), "a\nb\n");
    for n in 0..600 {
        shell.input(format!("echo -n 0123456789abcdef0123456789abcdef >> /tmp/drop{}\n", n % 2).as_bytes(), false, NOW);
    }
    assert_eq!(text(&shell.input(b"wc -c < /tmp/drop0\n", false, NOW).stdout), "9600\n");
    let ran = shell.input(b"exit 3\n", true, NOW);
    assert_eq!((ran.logout, ran.exit), (true, 3));
    // The end of the input ends it too.
    let mut shell = machine.login(login("root", "198.51.100.9:1", false));
    shell.run(b"bash -s", open, NOW);
    let ran = shell.input(b"echo a; false\ncat > /tmp/tail\nrest\n", false, NOW);
    assert_eq!(text(&ran.stdout), "a\n");
    let ran = shell.hang_up(NOW);
    assert_eq!((ran.logout, ran.files_written[0].content.as_slice()), (true, b"rest\n".as_slice()));
    // Lines on a connection without a terminal: numbered messages, no prompt words.
    let mut shell = machine.login(Login { interactive: true, ..login("root", "198.51.100.9:1", false) });
    assert!(!shell.run(b"echo a", open, NOW).logout);
    assert_eq!(text(&shell.run(b"nosuch", open, NOW).stderr), "-bash: line 2: nosuch: command not found\n");
    let ran = shell.run(b"exit 2", open, NOW);
    assert_eq!((ran.logout, ran.exit, ran.stdout.len() + ran.stderr.len()), (true, 2, 0));
}
