//! `awk` (Debian's is mawk).

mod parse;
mod run;

use super::{Cx, has, show};
use crate::system::shell::escape;

pub(super) fn awk(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if args.iter().any(|a| matches!(a.as_slice(), b"-W" | b"--version" | b"-version")) {
        cx.say("mawk 1.3.4 20200120\nCopyright 2008-2019,2020, Thomas E. Dickey\nCopyright 1991-1996,2014, Michael D. Brennan\n\nrandom-funcs:       srandom/random\nregex-funcs:        internal\ncompiled limits:\nsprintf buffer      8192\nmaximum-integer     2147483647\n");
        return 0;
    }
    let Ok((options, mut rest)) = cx.options(args, "+F:v:f:W:", &[]) else { return 2 };
    if has(&options, 0) {
        return 0;
    }
    let mut text = Vec::new();
    for (_, path) in options.iter().filter(|o| o.0 == b'f') {
        match cx.read(path) {
            Ok(data) => text.extend_from_slice(&data),
            Err(_) => {
                cx.err(&format!("mawk: couldn't open {} (No such file or directory)\n", show(path)));
                return 2;
            }
        }
    }
    if !has(&options, b'f') {
        if rest.is_empty() {
            cx.err("Usage: mawk [Options] [Program] [file ...]\n");
            return 2;
        }
        text = rest.remove(0);
    }
    let mut parser = parse::Parser::new(&text);
    let program = match parser.program() {
        Ok(p) => p,
        Err(message) => {
            let line = parser.line;
            cx.err(&format!("mawk: line {line}: {message}\n"));
            return 2;
        }
    };
    let mut awk = run::Awk::new(cx, &program);
    for (letter, value) in &options {
        match letter {
            b'F' => {
                let separator = if value == b"t" { b"\t".to_vec() } else { escape::all(value, escape::Style::Printf).0 };
                awk.preset("FS", separator);
            }
            b'v' => {
                if let Some((name, value)) = run::assignment(value) {
                    awk.preset(&show(name), escape::all(value, escape::Style::Printf).0);
                }
            }
            _ => {}
        }
    }
    let result = awk.run(&rest);
    let status = awk.status;
    match result {
        Ok(()) => status,
        Err(message) => {
            cx.err(&format!("mawk: run time error: {message}\n"));
            2
        }
    }
}
