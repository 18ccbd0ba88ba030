//! Hostile input: nothing panics, everything ends, output and memory stay within their bounds.

use proptest::prelude::*;

use super::*;

fn cases() -> u32 {
    std::env::var("GLASSHIVE_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

thread_local! {
    static MACHINE: Arc<Machine> = machine();
}

/// Runs text in an exec channel and on a terminal and checks the bounds.
fn survives(text: &[u8], peer: u8) {
    MACHINE.with(|machine| {
        for tty in [false, true] {
            let mut shell =
                machine.login(login(if peer.is_multiple_of(2) { "root" } else { "deploy" }, &format!("203.0.113.{peer}:7"), tty));
            for input in [EOF, Input { bytes: b"", eof: false }] {
                let ran = shell.run(text, input, NOW);
                assert!(ran.stdout.len() + ran.stderr.len() <= limits::OUTPUT + 256);
                assert!(ran.took.as_secs() <= 3_600);
                assert!(ran.files_written.len() <= 2 * limits::REPORTS && ran.downloads.len() <= limits::REPORTS);
                if ran.waiting.is_some() {
                    shell.input(b"y\nn\n", false, NOW);
                    shell.input(text, true, NOW);
                }
                shell.complete(text);
                shell.prompt();
            }
        }
        assert!(machine.overlays().bytes <= limits::TOTAL_BYTES);
    });
}

/// Pieces that matter to the parsers, thrown together.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&str; 96] = [
        "$(",
        ")",
        "`",
        "${",
        "}",
        "$((",
        "))",
        "((",
        "[[ ",
        " ]]",
        "[ ",
        " ]",
        "{",
        "{1..9}",
        "{a,b}",
        "<<E\n",
        "\nE\n",
        "<<<",
        "<(",
        ">",
        ">>",
        "2>&1",
        "&>",
        "<",
        "|",
        "||",
        "&&",
        "&",
        ";",
        ";;",
        "\n",
        " ",
        "'",
        "\"",
        "\\",
        "#",
        "if ",
        "then ",
        "else ",
        "fi ",
        "for i in ",
        "do ",
        "done ",
        "while ",
        "case ",
        "in ",
        "esac ",
        "function f ",
        "f() ",
        "x=",
        "x+=(",
        "a[0]=",
        "export ",
        "local ",
        "declare -A ",
        "eval ",
        "exec ",
        "set -e ",
        "trap ",
        "read x ",
        "printf '%s' ",
        "%*d",
        "echo -e ",
        "awk '{print $1}' ",
        "awk 'BEGIN{while(1)x=x\"a\"}' ",
        "sed 's/a/b/g' ",
        "sed ':a;ba' ",
        "grep -E '(a*)*b' ",
        "find / ",
        "xargs ",
        "tr a-z ",
        "sort -k2 ",
        "cut -d: -f1 ",
        "head -c 99999999 ",
        "dd if=/dev/zero bs=1G count=9 ",
        "seq 9999999999 ",
        "yes ",
        "cat /dev/urandom ",
        "base64 -d ",
        "tar x ",
        "ls -R / ",
        "ps aux ",
        "kill -9 $$ ",
        "../../..",
        "/proc/self/fd/0",
        "/dev/stdin",
        "~",
        "*",
        "?",
        "[a-",
        "$x",
        "$@",
        "$?",
        "0x",
        "-1",
        "\u{0}",
    ];
    prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24).prop_map(|p| p.concat().into_bytes())
}

/// Corpus lines with bytes changed, removed or doubled.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    const CORPUS: &[&str] = include!("corpus.rs");
    (prop::sample::select(CORPUS), prop::collection::vec((any::<u16>(), any::<u8>(), 0..3u8), 1..6)).prop_map(|(line, edits)| {
        let mut text = line.as_bytes().to_vec();
        for (at, byte, kind) in edits {
            let at = usize::from(at) % text.len().max(1);
            match kind {
                0 if at < text.len() => text[at] = byte,
                1 if at < text.len() => {
                    text.remove(at);
                }
                _ => text.insert(at.min(text.len()), byte),
            }
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_survived(text in prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..200),
        4 => soup(),
        3 => mutated(),
    ], peer in any::<u8>()) {
        survives(&text, peer);
    }

    #[test]
    fn any_keys_are_survived(keys in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"\x1b[ABCD\r\n\t\x03\x04\x08\x15\x17\x7f3~O"[..])], 0..400), mode in 0..3u8) {
        let mut terminal = Terminal::new("xterm", 40, keys.len() % 2 == 0);
        let mut echoed = terminal.begin(b"\x1b]0;t\x07$ ").len();
        terminal.set_mode([Mode::Edit, Mode::Cooked, Mode::Secret][usize::from(mode)]);
        for chunk in keys.chunks(7) {
            terminal.push(chunk);
            while let Some(action) = terminal.next(&mut |before| Completion { replace: before.len() + 3, words: vec![b"ab/".to_vec(), b"abc".to_vec()] }) {
                match action {
                    Action::Echo(bytes) => echoed += bytes.len(),
                    Action::Line(line) => assert!(line.len() <= limits::LINE),
                    Action::Interrupt | Action::Eof => {}
                }
            }
        }
        assert!(echoed < 2_000_000);
    }
}

#[test]
fn greedy_commands_end() {
    let deep_groups = format!("f() {{ {} f; {} }}; f", "{ ".repeat(20), "; }".repeat(20));
    let deep_substitutions = format!("{}echo x{}", "echo $(".repeat(22), ")".repeat(22));
    let too_deep = format!("{}echo x{}", "echo $(".repeat(500), ")".repeat(500));
    let parens = format!("echo $(({}1{}))", "(".repeat(5_000), ")".repeat(5_000));
    let long_and = format!("true{}", " && true".repeat(120));
    let many_pipes = format!("echo a{}", " | cat".repeat(60));
    let commands = [
        "while true; do :; done",
        "while :; do echo spam spam spam; done",
        ":(){ :|:& };:",
        "f() { f; }; f",
        "f() { eval f; }; f",
        "f() { $(f); }; f",
        deep_groups.as_str(),
        deep_substitutions.as_str(),
        too_deep.as_str(),
        parens.as_str(),
        long_and.as_str(),
        many_pipes.as_str(),
        "x=a; while :; do x=$x$x; done",
        "a=(); while :; do a+=(xxxxxxxxxxxxxxxx); done",
        "echo {1..99999999}",
        "echo {a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}",
        "yes | cat | cat | wc -l",
        "yes",
        "cat /dev/zero /dev/zero /dev/zero /dev/zero /dev/zero /dev/zero",
        "cat /dev/urandom | tr -dc a-z | head -c 100000000",
        "seq 1 999999999",
        "seq 1 999999999 | wc -l",
        "awk 'BEGIN{while(1)i++}'",
        "awk 'BEGIN{while(1)x=x\"aaaaaaaa\"}'",
        "awk 'BEGIN{while(1)a[i++]=1}'",
        "awk 'function f(n){return f(n+1)} BEGIN{f(0)}'",
        "awk 'BEGIN{while(1) print \"x\"}'",
        "echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa | grep -E '(a*)*(a|aa)*(a|a)*b'",
        "echo x | sed ':a;s/x/xx/;ba'",
        "find / -exec find / \\;",
        "find / | xargs -n1 echo | wc -l",
        "ls -R / / / / / / / /",
        "grep -r root / 2>/dev/null | wc -l",
        "printf '%99999999d' 1; printf '%s' {1..20000} | wc -c",
        "for((;;)); do ((x++)); done",
        "until false; do date; done",
        "head -c 999999999 /dev/zero | sha512sum",
        "i=0; while [ $i -lt 99999 ]; do echo $i > /tmp/f$i; i=$((i+1)); done",
        "mkdir -p a/a/a/a/a/a/a/a/a/a; cp -r a b; while cp -r a/. b/x$RANDOM; do :; done",
        "ln -s /tmp/l /tmp/l; cat /tmp/l; cd /tmp; ln -s . loop; ls -R loop/loop/loop",
        "echo 'sh /tmp/s' > /tmp/s; sh /tmp/s",
        "echo '. /tmp/d' > /tmp/d; . /tmp/d",
        "alias a='a a'; eval a; trap 'kill $$' EXIT; exec sh -c 'exec sh'",
        "dd if=/dev/zero of=/dev/stdout bs=1M count=4000",
        "x=; for i in {1..2000}; do x=\"$x$(echo $i)\"; done; echo ${#x}",
        "IFS=; x=$(head -c 1000000 /dev/zero | tr '\\0' ' '); echo $x | wc -c; echo ${x// /ab} | wc -c",
        "diff <(seq 5000) <(seq 2 5001) | wc -l",
        "sleep 99999999; ping -c 100 10.0.0.1; wget http://203.0.113.1/",
        "timeout 5 yes | head -c 10",
        "tar c / | tar t | wc -l",
        "nohup sh -c 'while :; do echo x; done' &",
        "echo $((9223372036854775807 + 1)) $((-9223372036854775808 / -1)) $((1 << 99)) $((2 ** 99))",
    ];
    for command in commands {
        let ran = exec(command);
        assert!(ran.stdout.len() + ran.stderr.len() <= limits::OUTPUT + 256, "{command}");
        assert!(ran.took.as_secs() <= 3_600, "{command}");
    }
    assert!(exec("while true; do :; done").cut);
    assert_eq!(exec("while true; do :; done").exit, 137);
    assert!(exec("yes").cut);
    assert_eq!(out(&long_and.replace("&& true", "&& :")), "");
    assert_eq!(out(&many_pipes), "a\n");
    assert_eq!(out("yes | head -2"), "y\ny\n");
}

#[test]
fn variables_and_sources_are_bounded() {
    let machine = machine();
    let mut shell = machine.login(login("root", "198.51.100.9:1", true));
    shell.run(b"x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done", EOF, NOW);
    let ran = shell.run(b"echo ${#x}", EOF, NOW);
    let size: usize = text(&ran.stdout).trim().parse().unwrap();
    assert!(size <= limits::STATE);
    let line = vec![b'a'; limits::SOURCE * 2];
    assert!(shell.run(&line, EOF, NOW).cut);
    for _ in 0..limits::HISTORY + 50 {
        shell.run(b"true", EOF, NOW);
    }
    let ran = shell.run(b"history | wc -l", EOF, NOW);
    assert_eq!(text(&ran.stdout), format!("{}\n", limits::HISTORY));
}
