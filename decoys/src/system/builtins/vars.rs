//! Builtins about variables, options, aliases, traps and input.

use std::collections::BTreeMap;

use crate::system::{
    commands::{Cx, number, show},
    shell::{
        arith,
        lexer::valid_name,
        state::{Value, Var},
    },
};

/// A value in double quotes, as `declare -p` and `export` print it.
fn quoted(text: &[u8]) -> String {
    let mut out = String::from("\"");
    for c in show(text).chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

fn declaration(name: &[u8], var: &Var) -> String {
    let mut flags = String::new();
    match var.value {
        Value::Array(_) => flags.push('a'),
        Value::Map(_) => flags.push('A'),
        Value::Text(_) => {}
    }
    for (on, c) in [(var.integer, 'i'), (var.readonly, 'r'), (var.export, 'x')] {
        if on {
            flags.push(c);
        }
    }
    if flags.is_empty() {
        flags.push('-');
    }
    let value = match &var.value {
        Value::Text(t) => quoted(t),
        Value::Array(a) => format!("({})", a.iter().map(|(k, v)| format!("[{k}]={}", quoted(v))).collect::<Vec<_>>().join(" ")),
        Value::Map(m) => format!("({})", m.iter().map(|(k, v)| format!("[{}]={} ", show(k), quoted(v))).collect::<String>()),
    };
    format!("declare -{flags} {}={value}\n", show(name))
}

/// Splits `name=value`; also tells `+=`.
fn split_assign(arg: &[u8]) -> (&[u8], Option<&[u8]>, bool) {
    match arg.iter().position(|b| *b == b'=') {
        Some(at) => {
            let name = arg.get(..at).unwrap_or_default();
            let value = arg.get(at + 1..);
            match name.strip_suffix(b"+") {
                Some(n) => (n, value, true),
                None => (name, value, false),
            }
        }
        None => (arg, None, false),
    }
}

fn assign(cx: &mut Cx<'_, '_>, name: &[u8], value: Option<&[u8]>, append: bool) -> bool {
    if !valid_name(name) {
        cx.complain(&format!("`{}': not a valid identifier", show(name)));
        return false;
    }
    if let Some(value) = value {
        let value = if append { [cx.st.get(name).unwrap_or_default(), value.to_vec()].concat() } else { value.to_vec() };
        if cx.st.vars.get(name).is_some_and(|v| v.readonly) {
            let line = format!("{}: readonly variable", show(name));
            cx.x.complain(cx.st, cx.io, &line);
            return false;
        }
        return cx.st.set(name, value);
    }
    true
}

pub(super) fn export(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let rest: Vec<&Vec<u8>> = args.iter().skip(1).filter(|a| !matches!(a.as_slice(), b"-p" | b"--")).collect();
    if rest.is_empty() {
        let lines: Vec<String> = cx.st.vars.iter().filter(|(_, v)| v.export).map(|(n, v)| declaration(n, v)).collect();
        for line in lines {
            cx.say(&line);
        }
        return 0;
    }
    let mut status = 0;
    let mut on = true;
    for arg in rest {
        if arg == b"-n" {
            on = false;
            continue;
        }
        let (name, value, append) = split_assign(arg);
        if !assign(cx, name, value, append) {
            status = 1;
            continue;
        }
        if on && value.is_none() && !cx.st.vars.contains_key(name) && !cx.st.funcs.contains_key(name) {
            continue;
        }
        if let Some(var) = cx.st.vars.get_mut(name) {
            var.export = on;
        }
    }
    status
}

pub(super) fn readonly(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let rest: Vec<&Vec<u8>> = args.iter().skip(1).filter(|a| a.first() != Some(&b'-')).collect();
    if rest.is_empty() {
        let lines: Vec<String> = cx.st.vars.iter().filter(|(_, v)| v.readonly).map(|(n, v)| declaration(n, v)).collect();
        for line in lines {
            cx.say(&line);
        }
    }
    for arg in rest {
        let (name, value, append) = split_assign(arg);
        if !assign(cx, name, value, append) {
            return 1;
        }
        if !cx.st.vars.contains_key(name) {
            cx.st.set(name, Vec::new());
        }
        if let Some(var) = cx.st.vars.get_mut(name) {
            var.readonly = true;
        }
    }
    0
}

pub(super) fn local(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if cx.st.locals.is_empty() {
        return cx.complain("can only be used in a function");
    }
    declare(cx, args)
}

pub(super) fn declare(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut flags: Vec<u8> = Vec::new();
    let mut off: Vec<u8> = Vec::new();
    let mut names = Vec::new();
    for arg in args.iter().skip(1) {
        match (arg.first(), arg.len() > 1) {
            (Some(b'-'), true) if names.is_empty() => flags.extend(arg.iter().skip(1)),
            (Some(b'+'), true) if names.is_empty() => off.extend(arg.iter().skip(1)),
            _ => names.push(arg.clone()),
        }
    }
    if flags.contains(&b'f') || flags.contains(&b'F') {
        let all: Vec<(Vec<u8>, Vec<u8>)> = cx
            .st
            .funcs
            .iter()
            .filter(|(n, _)| names.is_empty() || names.contains(n))
            .map(|(n, (_, s))| (n.clone(), s.as_ref().clone()))
            .collect();
        let found = !all.is_empty() || names.is_empty();
        for (name, source) in all {
            let line = if flags.contains(&b'F') { format!("declare -f {}\n", show(&name)) } else { format!("{}\n", show(&source)) };
            cx.say(&line);
        }
        return i32::from(!found);
    }
    if flags.contains(&b'p') || names.is_empty() {
        let mut status = 0;
        if names.is_empty() {
            let want = |v: &Var| {
                (!flags.contains(&b'x') || v.export)
                    && (!flags.contains(&b'r') || v.readonly)
                    && (!flags.contains(&b'a') || matches!(v.value, Value::Array(_)))
            };
            let lines: Vec<String> = cx.st.vars.iter().filter(|(_, v)| want(v)).map(|(n, v)| declaration(n, v)).collect();
            for line in lines {
                cx.say(&line);
            }
        }
        for name in names {
            match cx.st.vars.get(&name).map(|v| declaration(&name, v)) {
                Some(line) => cx.say(&line),
                None => status = cx.complain(&format!("{}: not found", show(&name))),
            }
        }
        return status;
    }
    let local = !cx.st.locals.is_empty() && !flags.contains(&b'g');
    for arg in names {
        let (name, value, append) = split_assign(&arg);
        if local {
            super::make_local(cx.st, name);
        }
        let value = match value {
            Some(v) if flags.contains(&b'i') => Some(arith::eval(cx.st, v).unwrap_or(0).to_string().into_bytes()),
            Some(v) => Some(v.to_vec()),
            None => None,
        };
        if !assign(cx, name, value.as_deref(), append) {
            return 1;
        }
        if !cx.st.vars.contains_key(name) {
            let empty = if flags.contains(&b'A') {
                Value::Map(BTreeMap::new())
            } else if flags.contains(&b'a') {
                Value::Array(BTreeMap::new())
            } else {
                if flags.is_empty() && !local {
                    continue;
                }
                Value::Text(Vec::new())
            };
            cx.st.put(name, empty);
        }
        if let Some(var) = cx.st.vars.get_mut(name) {
            var.export = (var.export || flags.contains(&b'x')) && !off.contains(&b'x');
            var.integer = (var.integer || flags.contains(&b'i')) && !off.contains(&b'i');
            var.readonly |= flags.contains(&b'r');
        }
    }
    0
}

pub(super) fn unset(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut only_functions = false;
    let mut status = 0;
    for arg in args.iter().skip(1) {
        match arg.as_slice() {
            b"-f" => only_functions = true,
            b"-v" | b"-n" | b"--" => {}
            name => {
                if let Some(at) = name.iter().position(|b| *b == b'[') {
                    let (base, index) = name.split_at_checked(at).unwrap_or((name, b""));
                    let index = index.get(1..index.len().saturating_sub(1)).unwrap_or_default();
                    if let Some(var) = cx.st.vars.get_mut(base) {
                        match &mut var.value {
                            Value::Array(a) => {
                                a.remove(&number(index).unwrap_or(0));
                            }
                            Value::Map(m) => {
                                m.remove(index);
                            }
                            Value::Text(_) => {}
                        }
                    }
                    continue;
                }
                if cx.st.vars.get(name).is_some_and(|v| v.readonly) {
                    status = cx.complain(&format!("{}: cannot unset: readonly variable", show(name)));
                } else if !only_functions && cx.st.vars.contains_key(name) {
                    cx.st.unset(name);
                } else {
                    cx.st.funcs.remove(name);
                }
            }
        }
    }
    status
}

pub(super) fn set(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if args.len() == 1 {
        let lines: Vec<String> = cx
            .st
            .vars
            .iter()
            .map(|(n, v)| match &v.value {
                Value::Text(t) => format!("{}={}\n", show(n), show(&crate::system::commands::quote_shell(t)).replace("''", "")),
                _ => declaration(n, v).splitn(3, ' ').nth(2).unwrap_or("").to_owned(),
            })
            .collect();
        for line in lines {
            cx.say(&line);
        }
        return 0;
    }
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        match (arg.as_slice(), arg.first()) {
            (b"--", _) => {
                cx.st.args = rest.cloned().collect();
                return 0;
            }
            (b"-o" | b"+o", Some(sign)) => match rest.next().map(Vec::as_slice) {
                Some(b"pipefail") => cx.st.pipefail = *sign == b'-',
                Some(b"errexit") => flag(cx, b'e', *sign == b'-'),
                Some(b"nounset") => flag(cx, b'u', *sign == b'-'),
                Some(b"xtrace") => flag(cx, b'x', *sign == b'-'),
                Some(b"noglob") => flag(cx, b'f', *sign == b'-'),
                Some(b"allexport") => flag(cx, b'a', *sign == b'-'),
                Some(b"noclobber") => flag(cx, b'C', *sign == b'-'),
                Some(
                    b"history" | b"posix" | b"emacs" | b"vi" | b"monitor" | b"hashall" | b"braceexpand" | b"ignoreeof" | b"verbose"
                    | b"notify" | b"noexec",
                ) => {}
                Some(other) => return cx.complain(&format!("{}: invalid option name", show(other))),
                None => {}
            },
            (text, Some(sign @ (b'-' | b'+'))) if text.len() > 1 => {
                for letter in text.iter().skip(1) {
                    if *letter == b'o' {
                        if let Some(b"pipefail") = rest.next().map(Vec::as_slice) {
                            cx.st.pipefail = *sign == b'-';
                        }
                        continue;
                    }
                    if !b"abefhkmnptuvxBCEHPT".contains(letter) {
                        cx.complain(&format!("{}: invalid option", show(text)));
                        cx.err("set: usage: set [-abefhkmnptuvxBCEHPT] [-o option-name] [--] [-] [arg ...]\n");
                        return 2;
                    }
                    flag(cx, *letter, *sign == b'-');
                }
            }
            _ => {
                let mut all = vec![arg.clone()];
                all.extend(rest.cloned());
                cx.st.args = all;
                return 0;
            }
        }
    }
    0
}

fn flag(cx: &mut Cx<'_, '_>, letter: u8, on: bool) {
    if matches!(letter, b'h' | b'B' | b'H' | b'm') {
        return;
    }
    if on {
        cx.st.flags.insert(letter, ());
    } else {
        cx.st.flags.remove(&letter);
    }
}

pub(super) fn shift(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let n = args.get(1).and_then(|a| number::<usize>(a)).unwrap_or(1);
    if n > cx.st.args.len() {
        return 1;
    }
    cx.st.args.drain(..n);
    0
}

pub(super) fn shopt(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let on = args.iter().any(|a| a == b"-s");
    let off = args.iter().any(|a| a == b"-u");
    let mut status = 0;
    for name in args.iter().skip(1).filter(|a| a.first() != Some(&b'-')) {
        if on || off {
            if cx.st.shopt.len() < 64 {
                cx.st.shopt.insert(name.clone(), on);
            }
        } else {
            let value = cx.st.shopt.get(name).copied().unwrap_or(false);
            cx.say(&format!("{:<15}\t{}\n", show(name), if value { "on" } else { "off" }));
            status = i32::from(!value);
        }
    }
    status
}

pub(super) fn alias(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if args.len() == 1 {
        let lines: Vec<String> = cx.st.aliases.iter().map(|(n, v)| format!("alias {}='{}'\n", show(n), show(v))).collect();
        for line in lines {
            cx.say(&line);
        }
    }
    let mut status = 0;
    for arg in args.iter().skip(1).filter(|a| a.as_slice() != b"-p") {
        let (name, value, _) = split_assign(arg);
        match value {
            Some(value) if cx.st.aliases.len() < 256 && value.len() < 8_192 => {
                cx.st.aliases.insert(name.to_vec(), value.to_vec());
            }
            Some(_) => {}
            None => match cx.st.aliases.get(name).cloned() {
                Some(v) => cx.say(&format!("alias {}='{}'\n", show(name), show(&v))),
                None => status = cx.complain(&format!("{}: not found", show(name))),
            },
        }
    }
    status
}

pub(super) fn unalias(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut status = 0;
    for arg in args.iter().skip(1) {
        if arg == b"-a" {
            cx.st.aliases.clear();
        } else if cx.st.aliases.remove(arg).is_none() {
            status = cx.complain(&format!("{}: not found", show(arg)));
        }
    }
    status
}

pub(super) fn trap(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let rest: Vec<Vec<u8>> = args.iter().skip(1).filter(|a| !matches!(a.as_slice(), b"--" | b"-p")).cloned().collect();
    if rest.first().is_some_and(|a| a == b"-l") {
        return 0;
    }
    let name = |n: &[u8]| match n {
        b"0" => b"EXIT".to_vec(),
        n => n.strip_prefix(b"SIG").unwrap_or(n).to_ascii_uppercase(),
    };
    if rest.is_empty() {
        let lines: Vec<String> = cx
            .st
            .traps
            .iter()
            .map(|(n, a)| {
                let prefix = if matches!(n.as_slice(), b"EXIT" | b"ERR" | b"DEBUG" | b"RETURN") { "" } else { "SIG" };
                format!("trap -- '{}' {prefix}{}\n", show(a), show(n))
            })
            .collect();
        for line in lines {
            cx.say(&line);
        }
        return 0;
    }
    let (action, signals) = if rest.len() == 1 {
        (b"-".to_vec(), rest.clone())
    } else {
        (rest.first().cloned().unwrap_or_default(), rest.get(1..).unwrap_or_default().to_vec())
    };
    for signal in signals {
        if action == b"-" {
            cx.st.traps.remove(&name(&signal));
        } else if cx.st.traps.len() < 80 && action.len() < 8_192 {
            cx.st.traps.insert(name(&signal), action.clone());
        }
    }
    0
}

pub(super) fn arithmetic(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut value = 0;
    for arg in args.iter().skip(1) {
        match arith::eval(cx.st, arg) {
            Ok(v) => value = v,
            Err(message) => return cx.complain(&message),
        }
    }
    i32::from(value == 0)
}

pub(super) fn read(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let (mut raw, mut silent, mut array, mut count, mut delimiter, mut fd) = (false, false, None, None, b'\n', 0u32);
    let mut names = Vec::new();
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        if arg.first() == Some(&b'-') && arg.len() > 1 && names.is_empty() {
            let mut letters = arg.iter().enumerate().skip(1);
            while let Some((at, letter)) = letters.next() {
                match letter {
                    b'r' => raw = true,
                    b's' => silent = true,
                    b'e' => {}
                    b'p' | b't' | b'n' | b'N' | b'd' | b'u' | b'a' | b'i' => {
                        let inline = arg.get(at + 1..).unwrap_or_default();
                        let value = if inline.is_empty() { rest.next().cloned().unwrap_or_default() } else { inline.to_vec() };
                        match letter {
                            b'p' if cx.x.is_tty(cx.io.get(0)) => cx.err(&show(&value)),
                            b'n' | b'N' => count = number::<usize>(&value),
                            b'd' => delimiter = value.first().copied().unwrap_or(0),
                            b'u' => fd = number(&value).unwrap_or(0),
                            b'a' => array = Some(value),
                            _ => {}
                        }
                        break;
                    }
                    other => {
                        cx.complain(&format!("-{}: invalid option", char::from(*other)));
                        return 2;
                    }
                }
            }
        } else {
            names.push(arg.clone());
        }
    }
    let from = cx.io.get(fd);
    let mut line = Vec::new();
    let ended;
    match count {
        Some(n) => {
            line = cx.x.read_bytes(from, n.min(65_536));
            ended = line.len() < n;
        }
        None => loop {
            match cx.x.read_until(from, delimiter) {
                Some(mut part) => {
                    let whole = part.last() == Some(&delimiter);
                    if whole {
                        part.pop();
                    }
                    if !raw && whole && delimiter == b'\n' && part.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1 {
                        part.pop();
                        line.extend(part);
                        continue;
                    }
                    line.extend(part);
                    ended = !whole;
                    break;
                }
                None => {
                    ended = true;
                    break;
                }
            }
        },
    }
    if cx.x.waiting.is_some() {
        if silent {
            cx.x.waiting = Some(crate::system::api::Waiting::Secret);
        }
        return 1;
    }
    let ifs = cx.st.get(b"IFS").unwrap_or_else(|| b" \t\n".to_vec());
    let fields = if array.is_some() { usize::MAX } else { names.len().max(1) };
    let values = if names.is_empty() && array.is_none() {
        vec![if raw { line } else { unescape(&line) }]
    } else {
        split_fields(&line, &ifs, fields, raw)
    };
    match array {
        Some(name) => {
            let map = values.into_iter().enumerate().map(|(k, v)| (k as i64, v)).collect();
            cx.st.put(&name, Value::Array(map));
        }
        None if names.is_empty() => {
            for value in values {
                cx.st.set(b"REPLY", value);
            }
        }
        None => {
            for (at, name) in names.iter().enumerate() {
                cx.st.set(name, values.get(at).cloned().unwrap_or_default());
            }
        }
    }
    i32::from(ended)
}

fn unescape(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = line.iter();
    while let Some(b) = bytes.next() {
        out.extend(if *b == b'\\' { bytes.next() } else { Some(b) });
    }
    out
}

/// Splits a line for `read`: the last name takes the rest.
fn split_fields(line: &[u8], ifs: &[u8], most: usize, raw: bool) -> Vec<Vec<u8>> {
    let white = |b: u8| ifs.contains(&b) && matches!(b, b' ' | b'\t' | b'\n');
    let mut out: Vec<Vec<u8>> = Vec::new();
    let mut at = line.iter().take_while(|b| white(**b)).count();
    while at < line.len() && out.len() < most {
        let last = out.len() + 1 == most;
        if last {
            let mut rest = line.get(at..).unwrap_or_default();
            while rest.last().is_some_and(|b| white(*b)) {
                rest = rest.get(..rest.len() - 1).unwrap_or_default();
            }
            // One trailing separator that stands alone belongs to the field before it.
            if rest.last().is_some_and(|b| ifs.contains(b) && !white(*b)) && rest.iter().filter(|b| ifs.contains(b)).count() == 1 {
                rest = rest.get(..rest.len() - 1).unwrap_or_default();
            }
            out.push(if raw { rest.to_vec() } else { unescape(rest) });
            break;
        }
        let mut field = Vec::new();
        while let Some(&b) = line.get(at) {
            if !raw && b == b'\\' {
                field.extend(line.get(at + 1));
                at += 2;
                continue;
            }
            if ifs.contains(&b) {
                break;
            }
            field.push(b);
            at += 1;
        }
        out.push(field);
        let mut hard = false;
        while let Some(&b) = line.get(at).filter(|b| ifs.contains(b)) {
            if !white(b) {
                if hard {
                    break;
                }
                hard = true;
            }
            at += 1;
        }
    }
    out
}

pub(super) fn mapfile(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let trim = args.iter().any(|a| a == b"-t");
    let name = args.iter().skip(1).find(|a| a.first() != Some(&b'-')).cloned().unwrap_or_else(|| b"MAPFILE".to_vec());
    let mut map = BTreeMap::new();
    while let Some(mut line) = cx.x.read_until(cx.io.get(0), b'\n') {
        if trim && line.last() == Some(&b'\n') {
            line.pop();
        }
        map.insert(map.len() as i64, line);
        if !cx.alive() {
            break;
        }
    }
    cx.st.put(&name, Value::Array(map));
    0
}

pub(super) fn getopts(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let (Some(spec), Some(name)) = (args.get(1).cloned(), args.get(2).cloned()) else { return 2 };
    let list = if args.len() > 3 { args.get(3..).unwrap_or_default().to_vec() } else { cx.st.args.clone() };
    let index: usize = cx.st.get(b"OPTIND").and_then(|v| number(&v)).unwrap_or(1).max(1);
    if index == 1 && cx.st.getopts > list.first().map_or(0, Vec::len) {
        cx.st.getopts = 1;
    }
    let Some(arg) = list.get(index - 1).filter(|a| a.len() > 1 && a.first() == Some(&b'-') && a.as_slice() != b"--") else {
        cx.st.set(&name, "?");
        return 1;
    };
    let at = cx.st.getopts.max(1);
    let letter = arg.get(at).copied().unwrap_or(b'?');
    let mut next = (index, at + 1);
    if at + 1 >= arg.len() {
        next = (index + 1, 1);
    }
    let known = spec.iter().position(|b| *b == letter && letter != b':');
    match known {
        None => {
            if spec.first() != Some(&b':') {
                let line = format!("illegal option -- {}", char::from(letter));
                let text = format!("{}: {line}\n", show(&cx.st.arg0));
                cx.err(&text);
            }
            cx.st.set(&name, "?");
        }
        Some(p) if spec.get(p + 1) == Some(&b':') => {
            let inline = arg.get(at + 1..).unwrap_or_default().to_vec();
            let value = if inline.is_empty() {
                next = (index + 2, 1);
                list.get(index).cloned().unwrap_or_default()
            } else {
                next = (index + 1, 1);
                inline
            };
            cx.st.set(b"OPTARG", value);
            cx.st.set(&name, vec![letter]);
        }
        Some(_) => {
            cx.st.set(&name, vec![letter]);
        }
    }
    cx.st.set(b"OPTIND", next.0.to_string());
    cx.st.getopts = next.1;
    0
}
