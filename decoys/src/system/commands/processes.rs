//! Programs about processes: `ps`, `top`, `kill`, `pgrep`, `pkill`.

use super::{Cx, has, number, show, value};
use crate::system::{proc::Process, time};

/// All processes as this command sees them: itself included.
fn all(cx: &Cx<'_, '_>, name: &str, args: &[Vec<u8>]) -> Vec<Process> {
    let mut list: Vec<Process> = cx.x.fs.procs.list.as_ref().clone();
    let s = cx.x.session;
    let pid = s.pid.saturating_add(s.forks).saturating_add(cx.x.forks).saturating_add(2);
    for (n, (job, text)) in cx.st.jobs.iter().enumerate().take(16) {
        let comm = show(text.split(|b| *b == b' ').next().unwrap_or_default().rsplit(|b| *b == b'/').next().unwrap_or_default());
        // Only what can stay: a dropped program, not a shell command that has ended.
        if text.starts_with(b"./") || text.starts_with(b"/tmp") || text.starts_with(b"nohup") {
            list.push(Process {
                pid: *job,
                ppid: s.pid,
                uid: s.who.uid,
                user: s.user.clone(),
                tty: s.tty_name.clone(),
                comm,
                args: text.clone(),
                start: cx.now() - n as i64,
                vsz: 2_580,
                rss: 920,
                state: "S".into(),
                ..Process::default()
            });
        }
    }
    list.push(Process {
        pid,
        ppid: s.pid,
        uid: cx.st.who.uid,
        user: s.user.clone(),
        tty: s.tty_name.clone(),
        comm: name.to_owned(),
        args: args.join(&b' '),
        start: cx.now(),
        vsz: 11_220,
        rss: 4_480,
        state: if s.tty.is_some() { "R+" } else { "R" }.into(),
        ..Process::default()
    });
    list
}

fn text(format: &str, at: i64) -> String {
    String::from_utf8_lossy(&time::format(format.as_bytes(), at, 0)).into_owned()
}

fn start_text(at: i64, now: i64) -> String {
    if now - at < 86_400 && time::civil(at).day == time::civil(now).day {
        text("%H:%M", at)
    } else if time::civil(at).year == time::civil(now).year {
        text("%b%d", at)
    } else {
        text("%Y", at)
    }
}

/// A user name in a column of eight: longer ones lose their end to a plus sign.
fn user8(name: &str) -> String {
    if name.len() > 8 { format!("{}+", name.get(..7).unwrap_or(name)) } else { name.to_owned() }
}

fn percent_cpu(p: &Process, now: i64) -> f64 {
    let life = (now - p.start).max(1) as f64;
    (p.cpu as f64 * 100.0 / life * 10.0).floor() / 10.0
}

pub(super) fn ps(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let now = cx.now();
    let list = all(cx, "ps", args);
    let mem = cx.x.machine.facts.mem_kb.max(1);
    let (mut bsd_all, mut every, mut full, mut user_format, mut bsd_any, mut wide) = (false, false, false, false, false, false);
    let mut columns: Vec<String> = Vec::new();
    let (mut pids, mut users, mut names): (Vec<u32>, Vec<String>, Vec<String>) = (Vec::new(), Vec::new(), Vec::new());
    let (mut forest, mut long, mut no_header) = (false, false, false);
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        let word = show(arg);
        if let Some(name) = word.strip_prefix("--") {
            match name.split('=').next().unwrap_or("") {
                "forest" => forest = true,
                "no-headers" | "no-heading" | "noheader" | "noheaders" => no_header = true,
                "help" => {
                    cx.say("\nUsage:\n ps [options]\n\n Try 'ps --help <simple|list|output|threads|misc|all>'\n  or 'ps --help <s|l|o|t|m|a>'\n for additional help text.\n\nFor more details see ps(1).\n");
                    return 0;
                }
                "version" => {
                    cx.say("ps from procps-ng 4.0.2\n");
                    return 0;
                }
                _ => {}
            }
            continue;
        }
        let dash = word.starts_with('-');
        let letters: Vec<char> = word.trim_start_matches('-').chars().collect();
        if !dash && letters.iter().all(char::is_ascii_digit) {
            pids.extend(word.parse::<u32>().ok());
            continue;
        }
        bsd_any |= !dash;
        for (at, letter) in letters.iter().enumerate() {
            let inline: String = letters.iter().skip(at + 1).collect();
            let mut argument = || if inline.is_empty() { rest.next().map(|a| show(a)).unwrap_or_default() } else { inline.clone() };
            match (dash, letter) {
                (true, 'e' | 'A') => every = true,
                (true, 'f' | 'F') => full = true,
                (false, 'f') => forest = true,
                (true, 'o' | 'O') | (false, 'o') => {
                    for c in argument().split([',', ' ']) {
                        if columns.len() < 32 {
                            columns.push(c.to_owned());
                        }
                    }
                    break;
                }
                (_, 'p') => {
                    pids.extend(argument().split(',').filter_map(|p| p.trim().parse::<u32>().ok()));
                    break;
                }
                (true, 'u' | 'U') => {
                    let name = argument();
                    if !name.is_empty() {
                        users.push(name);
                    }
                    break;
                }
                (true, 'C') => {
                    names.push(argument());
                    break;
                }
                (true, 't' | 'g' | 'G' | 's') => {
                    argument();
                    break;
                }
                (false, 'a') => bsd_all = true,
                (false, 'x') => every |= bsd_all,
                (false, 'u') => user_format = true,
                (true, 'a' | 'd') => every = true,
                (true, 'x') => bsd_any = true,
                (_, 'w') => wide = true,
                (_, 'l') => long = true,
                (_, 'h') if !dash => no_header = true,
                (_, 'L' | 'T' | 'H' | 'M' | 'Z' | 'm' | 'c' | 'N' | 'j' | 'y' | 'r' | 'e' | 'S' | 'n' | 'v' | 'X') => {}
                _ => {
                    cx.err(&format!("error: {}\n\nUsage:\n ps [options]\n\n Try 'ps --help <simple|list|output|threads|misc|all>'\n  or 'ps --help <s|l|o|t|m|a>'\n for additional help text.\n\nFor more details see ps(1).\n", if dash { "unsupported SysV option" } else { "unsupported option (BSD syntax)" }));
                    return 1;
                }
            }
        }
    }
    every |= bsd_all && args.iter().any(|a| a.contains(&b'x'));
    let _ = (wide, forest);
    let own_tty = cx.x.session.tty_name.clone();
    let uid = cx.st.who.uid;
    let chosen: Vec<&Process> = list
        .iter()
        .filter(|p| {
            if !pids.is_empty() || !users.is_empty() || !names.is_empty() {
                pids.contains(&p.pid) || users.iter().any(|u| *u == p.user || u.parse() == Ok(p.uid)) || names.contains(&p.comm)
            } else if every {
                true
            } else if bsd_all {
                p.tty != "?"
            } else if bsd_any && args.iter().any(|a| a.contains(&b'x')) {
                p.uid == uid
            } else {
                p.uid == uid && p.tty == own_tty && !(own_tty == "?" && p.ppid <= 2) || own_tty == "?" && p.ppid == cx.x.session.pid
            }
        })
        .collect();
    let limit =
        if cx.tty_out() && !wide { cx.x.session.tty.as_ref().map_or(usize::MAX, |t| usize::from(t.columns.max(20))) } else { usize::MAX };
    let mut out = String::new();
    let clock = |p: &Process| format!("{:02}:{:02}:{:02}", p.cpu / 3_600, p.cpu / 60 % 60, p.cpu % 60);
    let command = |p: &Process| if p.kernel() || !p.args.is_empty() { show(&p.args) } else { p.comm.clone() };
    let mut line = |text: String| {
        let cut: String = if limit == usize::MAX { text } else { text.chars().take(limit).collect() };
        out.push_str(&cut);
        out.push('\n');
    };
    if !columns.is_empty() {
        let plan: Vec<(String, String)> = columns
            .iter()
            .map(|c| {
                let (key, title) = c.split_once('=').map_or((c.as_str(), None), |(k, t)| (k, Some(t.to_owned())));
                (key.to_owned(), title.unwrap_or_else(|| title_of(key)))
            })
            .collect();
        let cell = |p: &Process, key: &str| match key {
            "pid" | "tgid" => format!("{:>7}", p.pid),
            "ppid" => format!("{:>7}", p.ppid),
            "user" | "euser" | "uname" | "ruser" => format!("{:<8}", user8(&p.user)),
            "uid" | "euid" => format!("{:>5}", p.uid),
            "comm" | "ucmd" | "ucomm" => format!("{:<15}", p.comm),
            "cmd" | "args" | "command" => format!("{:<27}", command(p)),
            "tty" | "tt" | "tname" => format!("{:<8}", p.tty),
            "stat" => format!("{:<4}", p.state),
            "s" | "state" => p.state.chars().take(1).collect(),
            "pcpu" | "%cpu" => format!("{:>4.1}", percent_cpu(p, now)),
            "pmem" | "%mem" => format!("{:>4.1}", (p.rss as f64 * 1000.0 / mem as f64).floor() / 10.0),
            "vsz" | "vsize" => format!("{:>6}", p.vsz),
            "rss" | "rssize" => format!("{:>5}", p.rss),
            "time" | "cputime" => clock(p),
            "etime" => {
                let e = (now - p.start).max(0);
                let t = format!("{:02}:{:02}", e / 60 % 60, e % 60);
                let t = if e >= 86_400 {
                    format!("{}-{:02}:{t}", e / 86_400, e / 3_600 % 24)
                } else if e >= 3_600 {
                    format!("{:02}:{t}", e / 3_600)
                } else {
                    t
                };
                format!("{t:>11}")
            }
            "lstart" => text("%a %b %e %H:%M:%S %Y", p.start),
            "start" | "start_time" | "stime" => format!("{:>5}", start_text(p.start, now)),
            "ni" | "nice" => format!("{:>3}", 0),
            "pri" => format!("{:>3}", 19),
            _ => "-".to_owned(),
        };
        if plan.iter().any(|(_, t)| !t.is_empty()) && !no_header {
            let row: Vec<String> = plan
                .iter()
                .map(|(k, t)| {
                    let width = cell(&Process::default(), k).len().max(t.len());
                    let right = matches!(
                        k.as_str(),
                        "pid"
                            | "ppid"
                            | "uid"
                            | "pcpu"
                            | "%cpu"
                            | "pmem"
                            | "%mem"
                            | "vsz"
                            | "rss"
                            | "etime"
                            | "time"
                            | "cputime"
                            | "ni"
                            | "pri"
                            | "start"
                            | "stime"
                    );
                    if right { format!("{t:>width$}") } else { format!("{t:<width$}") }
                })
                .collect();
            line(row.join(" ").trim_end().to_owned());
        }
        for p in chosen {
            let row: Vec<String> = plan
                .iter()
                .map(|(k, t)| {
                    let c = cell(p, k);
                    if plan.len() == 1 { c.trim_end().to_owned() } else { format!("{c:<w$}", w = t.len()) }
                })
                .collect();
            line(row.join(" ").trim_end().to_owned());
        }
        cx.say(&out);
        return 0;
    }
    if user_format {
        if !no_header {
            line("USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND".to_owned());
        }
        for p in &chosen {
            line(format!(
                "{:<8} {:>7} {:>4.1} {:>4.1} {:>6} {:>5} {:<8} {:<4} {:<5} {:>6} {}",
                user8(&p.user),
                p.pid,
                percent_cpu(p, now),
                (p.rss as f64 * 1000.0 / mem as f64).floor() / 10.0,
                p.vsz,
                p.rss,
                p.tty,
                p.state,
                start_text(p.start, now),
                format!("{}:{:02}", p.cpu / 60, p.cpu % 60),
                command(p)
            ));
        }
    } else if full {
        if !no_header {
            line("UID          PID    PPID  C STIME TTY          TIME CMD".to_owned());
        }
        for p in &chosen {
            line(format!(
                "{:<8} {:>7} {:>7} {:>2} {:<5} {:<8} {} {}",
                user8(&p.user),
                p.pid,
                p.ppid,
                percent_cpu(p, now) as u32,
                start_text(p.start, now),
                p.tty,
                clock(p),
                command(p)
            ));
        }
    } else if long {
        line("F S   UID     PID    PPID  C PRI  NI ADDR SZ WCHAN  TTY          TIME CMD".to_owned());
        for p in &chosen {
            line(format!(
                "4 {} {:>5} {:>7} {:>7}  0  80   0 - {:>5} -      {:<8} {} {}",
                p.state.chars().next().unwrap_or('S'),
                p.uid,
                p.pid,
                p.ppid,
                p.vsz / 4,
                p.tty,
                clock(p),
                p.comm
            ));
        }
    } else if bsd_any {
        if !no_header {
            line("    PID TTY      STAT   TIME COMMAND".to_owned());
        }
        for p in &chosen {
            line(format!("{:>7} {:<8} {:<4} {:>6} {}", p.pid, p.tty, p.state, format!("{}:{:02}", p.cpu / 60, p.cpu % 60), command(p)));
        }
    } else {
        if !no_header {
            line("    PID TTY          TIME CMD".to_owned());
        }
        for p in &chosen {
            line(format!("{:>7} {:<8} {} {}", p.pid, p.tty, clock(p), p.comm));
        }
    }
    let found = !chosen.is_empty();
    cx.say(&out);
    i32::from(!found)
}

fn title_of(key: &str) -> String {
    match key {
        "pcpu" | "%cpu" => "%CPU",
        "pmem" | "%mem" => "%MEM",
        "comm" | "args" | "command" | "ucmd" => "COMMAND",
        "cmd" => "CMD",
        "tty" | "tt" | "tname" => "TT",
        "etime" => "ELAPSED",
        "lstart" => "STARTED",
        "stime" => "STIME",
        "start" => "STARTED",
        "s" | "state" => "S",
        other => return other.to_uppercase(),
    }
    .to_owned()
}

pub(super) fn top(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let batch = args.iter().skip(1).any(|a| a.starts_with(b"-") && a.contains(&b'b'));
    if !batch && cx.x.session.tty.is_none() {
        cx.err("top: failed tty get\n");
        return 1;
    }
    let now = cx.now();
    let list = all(cx, "top", args);
    let f = &cx.x.machine.facts;
    let m = f.memory(now);
    let mib = |k: u64| k as f64 / 1_024.0;
    let busy = f.noise("top", now, 3);
    let mut out = format!("top -{}", super::status::uptime_line(cx));
    let running = list.iter().filter(|p| p.state.starts_with('R')).count();
    out.push_str(&format!(
        "Tasks: {:>3} total, {running:>3} running, {:>3} sleeping,   0 stopped,   0 zombie\n",
        list.len(),
        list.len() - running
    ));
    out.push_str(&format!(
        "%Cpu(s): {:>4.1} us, {:>4.1} sy,  0.0 ni, {:>4.1} id,  0.0 wa,  0.0 hi,  0.0 si,  0.0 st \n",
        busy * 3.0,
        busy * 2.0,
        100.0 - busy * 3.0 - busy * 2.0
    ));
    let cache = m.buffers + m.cached + m.slab * 2 / 3;
    out.push_str(&format!(
        "MiB Mem : {:>8.1} total, {:>8.1} free, {:>8.1} used, {:>8.1} buff/cache     \n",
        mib(m.total),
        mib(m.free),
        mib(m.total - m.available),
        mib(cache)
    ));
    out.push_str(&format!(
        "MiB Swap: {:>8.1} total, {:>8.1} free, {:>8.1} used. {:>8.1} avail Mem \n\n",
        mib(m.swap),
        mib(m.swap_free),
        mib(m.swap - m.swap_free),
        mib(m.available)
    ));
    out.push_str("    PID USER      PR  NI    VIRT    RES    SHR S  %CPU  %MEM     TIME+ COMMAND\n");
    let mut sorted: Vec<&Process> = list.iter().collect();
    sorted.sort_by_key(|p| (!p.state.starts_with('R'), p.pid));
    for p in sorted {
        out.push_str(&format!(
            "{:>7} {:<8} {:>3} {:>3} {:>7} {:>6} {:>6} {} {:>5.1} {:>5.1} {:>9} {}\n",
            p.pid,
            user8(&p.user),
            20,
            if p.state.contains('<') { -20 } else { 0 },
            p.vsz,
            p.rss,
            p.rss * 3 / 4,
            p.state.chars().next().unwrap_or('S'),
            0.0,
            (p.rss as f64 * 1000.0 / m.total as f64).floor() / 10.0,
            format!("{}:{:02}.{:02}", p.cpu / 60, p.cpu % 60, p.pid % 100),
            p.comm
        ));
    }
    cx.say(&out);
    if !batch {
        cx.x.starve(crate::system::api::Waiting::Line);
    }
    0
}

const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD",
    "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "POLL", "PWR", "SYS",
];

pub(in crate::system) fn kill(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut rest = args.get(1..).unwrap_or_default();
    let mut probe = false;
    let mut strong = false;
    if let Some(first) = rest.first() {
        if first == b"-l" || first == b"-L" {
            if let Some(n) = rest.get(1).and_then(|a| number::<usize>(a)) {
                let name = SIGNALS.get((n & 127).wrapping_sub(1)).copied().unwrap_or("");
                cx.say(&format!("{name}\n"));
                return 0;
            }
            let mut out = String::new();
            for (n, name) in SIGNALS.iter().enumerate() {
                out.push_str(&format!(
                    "{:>2}) {:<11}{}",
                    n + 1,
                    format!("SIG{name}"),
                    if n % 5 == 4 || n + 1 == SIGNALS.len() { "\n" } else { "\t" }
                ));
            }
            cx.say(&out);
            return 0;
        }
        let known = |name: &[u8]| {
            number::<u32>(name).is_some_and(|n| n <= 64)
                || SIGNALS
                    .iter()
                    .any(|s| name.eq_ignore_ascii_case(s.as_bytes()) || name.eq_ignore_ascii_case(format!("SIG{s}").as_bytes()))
        };
        let mut note = |name: &[u8]| {
            probe = name == b"0";
            strong = name == b"9" || name.eq_ignore_ascii_case(b"KILL") || name.eq_ignore_ascii_case(b"SIGKILL");
        };
        if first == b"-s" || first == b"-n" {
            note(rest.get(1).map_or(b"".as_slice(), Vec::as_slice));
            rest = rest.get(2..).unwrap_or_default();
        } else if let Some(name) = first.strip_prefix(b"-").filter(|n| !n.is_empty() && *n != b"-") {
            if !known(name) {
                return cx.complain(&format!("{}: invalid signal specification", show(name)));
            }
            note(name);
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    if rest.is_empty() {
        cx.complain("usage: kill [-s sigspec | -n signum | -sigspec] pid | jobspec ... or kill -l [sigspec]");
        return 2;
    }
    let mut status = 0;
    for arg in rest {
        if arg.first() == Some(&b'%') {
            status = cx.complain(&format!("{}: no such job", show(arg)));
            continue;
        }
        let Some(pid) = number::<i64>(arg) else {
            status = cx.complain(&format!("{}: arguments must be process or job IDs", show(arg)));
            continue;
        };
        let found = cx.x.fs.procs.list.iter().find(|p| i64::from(p.pid) == pid).cloned();
        match found {
            Some(p) if cx.st.who.uid != 0 && p.uid != cx.st.who.uid => status = cx.complain(&format!("({pid}) - Operation not permitted")),
            Some(p) if !probe && strong && p.pid == cx.st.pid => {
                cx.st.last = 137;
                cx.x.flow = crate::system::shell::exec::Flow::Exit;
                return 137;
            }
            Some(_) => {}
            None if cx.st.jobs.iter().any(|(p, _)| i64::from(*p) == pid) => cx.st.jobs.retain(|(p, _)| i64::from(*p) != pid),
            None => status = cx.complain(&format!("({pid}) - No such process")),
        }
    }
    status
}

fn named<'a>(list: &'a [Process], name: &str, full: bool, exact: bool) -> Vec<&'a Process> {
    let regex = crate::system::regex::Regex::extended(name.as_bytes(), false);
    list.iter()
        .filter(|p| {
            let text = if full { p.args.clone() } else { p.comm.clone().into_bytes() };
            if exact {
                return text == name.as_bytes();
            }
            let mut work = 20_000;
            regex.as_ref().is_ok_and(|r| r.find(&text, 0, &mut work).is_some())
        })
        .collect()
}

pub(super) fn pgrep(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "flaxnocu:U:svP:t:d:", &[]) else { return 2 };
    let list = cx.x.fs.procs.list.as_ref().clone();
    let Some(name) = rest.first().map(|r| show(r)) else {
        if cx.name == "pidof" {
            return 1;
        }
        cx.err("pgrep: no matching criteria specified\nTry `pgrep --help' for more information.\n");
        return 2;
    };
    let user = value(&options, b'u').or(value(&options, b'U')).map(show);
    let mut found: Vec<&Process> = named(&list, &name, has(&options, b'f'), has(&options, b'x') || cx.name == "pidof");
    found.retain(|p| user.as_ref().is_none_or(|u| *u == p.user));
    if cx.name == "pidof" {
        let text: Vec<String> = found.iter().rev().map(|p| p.pid.to_string()).collect();
        if !text.is_empty() {
            cx.say(&format!("{}\n", text.join(" ")));
        }
        return i32::from(text.is_empty());
    }
    if has(&options, b'n') {
        found = found.into_iter().next_back().into_iter().collect();
    }
    let mut out = String::new();
    if has(&options, b'c') {
        out = format!("{}\n", found.len());
    } else {
        for p in &found {
            if has(&options, b'a') {
                out.push_str(&format!("{} {}\n", p.pid, show(&p.args)));
            } else if has(&options, b'l') {
                out.push_str(&format!("{} {}\n", p.pid, p.comm));
            } else {
                out.push_str(&format!("{}\n", p.pid));
            }
        }
    }
    let none = found.is_empty();
    cx.say(&out);
    i32::from(none)
}

pub(super) fn kill_by_name(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let words: Vec<Vec<u8>> = args.iter().skip(1).filter(|a| a.first() != Some(&b'-')).cloned().collect();
    let full = args.iter().any(|a| a == b"-f");
    let list = cx.x.fs.procs.list.as_ref().clone();
    let Some(name) = words.last().map(|r| show(r)) else {
        cx.err("pkill: no matching criteria specified\nTry `pkill --help' for more information.\n");
        return 2;
    };
    let found = named(&list, &name, full, args.iter().any(|a| a == b"-x"));
    if cx.st.who.uid != 0
        && let Some(p) = found.iter().find(|p| p.uid != cx.st.who.uid)
    {
        let pid = p.pid;
        cx.err(&format!("pkill: killing pid {pid} failed: Operation not permitted\n"));
    }
    i32::from(found.is_empty())
}
