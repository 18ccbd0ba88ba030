//! Functions, `print` and `printf` of `awk`.

use super::{
    ast::{Expr, Stmt},
    run::{Array, Awk, End},
    value::Value,
};
use crate::system::{commands::words::Spec, limits};

impl Awk<'_, '_, '_> {
    pub(super) fn call(&mut self, name: &str, args: &[Expr]) -> Result<Value, String> {
        let program = self.program;
        if let Some((_, params, body)) = program.functions.iter().find(|f| f.0 == name) {
            return self.user(params, body, args);
        }
        // `split`, `sub` and `gsub` take names, not values.
        match name {
            "split" => {
                let text = args.first().map(|a| self.eval(a)).transpose()?.unwrap_or(Value::Nothing).text();
                let Some(Expr::Var(array)) = args.get(1) else { return Err("split: second argument is no array".to_owned()) };
                let parts = match args.get(2) {
                    Some(Expr::Regex(r)) => {
                        let regex = r.as_ref().clone();
                        let mut parts = Vec::new();
                        let (mut from, mut work) = (0, self.work());
                        while let Some((s, e)) =
                            regex.find(&text, from, &mut work).and_then(|g| g.first().copied().flatten()).filter(|(s, e)| e > s)
                        {
                            parts.push(text.get(from..s).unwrap_or_default().to_vec());
                            from = e;
                        }
                        parts.push(text.get(from..).unwrap_or_default().to_vec());
                        if text.is_empty() { Vec::new() } else { parts }
                    }
                    Some(e) => {
                        let sep = self.eval(e)?.text();
                        self.split(&text, &sep)
                    }
                    None => {
                        let sep = self.var("FS").text();
                        self.split(&text, &sep)
                    }
                };
                let n = parts.len();
                self.cx.x.spend(n as u64 / 4);
                self.arrays.insert(
                    array.clone(),
                    parts.into_iter().enumerate().map(|(k, v)| ((k + 1).to_string().into_bytes(), Value::from_input(v))).collect(),
                );
                return Ok(Value::Number(n as f64));
            }
            "sub" | "gsub" => return self.substitute(args, name == "gsub"),
            "length" => {
                if let Some(Expr::Var(array)) = args.first()
                    && let Some(a) = self.arrays.get(array)
                {
                    return Ok(Value::Number(a.len() as f64));
                }
                let text = match args.first() {
                    Some(a) => self.eval(a)?.text(),
                    None => self.record.clone(),
                };
                return Ok(Value::Number(text.len() as f64));
            }
            "match" => {
                let text = args.first().map(|a| self.eval(a)).transpose()?.unwrap_or(Value::Nothing).text();
                let regex = match args.get(1) {
                    Some(Expr::Regex(r)) => Some(r.as_ref().clone()),
                    Some(other) => {
                        let p = self.eval(other)?.text();
                        self.regex(&p)
                    }
                    None => None,
                };
                let mut work = self.work();
                let found = regex.and_then(|r| r.find(&text, 0, &mut work)).and_then(|g| g.first().copied().flatten());
                let (start, len) = found.map_or((0.0, -1.0), |(s, e)| (s as f64 + 1.0, (e - s) as f64));
                self.vars.insert("RSTART".to_owned(), Value::Number(start));
                self.vars.insert("RLENGTH".to_owned(), Value::Number(len));
                return Ok(Value::Number(start));
            }
            _ => {}
        }
        let mut values = Vec::new();
        for a in args {
            values.push(self.eval(a)?);
        }
        let first = values.first().cloned().unwrap_or(Value::Nothing);
        let n = first.number();
        Ok(match name {
            "substr" => {
                let text = first.text();
                let from = values.get(1).map_or(1.0, Value::number).round();
                let len = values.get(2).map_or(f64::from(u32::MAX), Value::number).round();
                let end = (from + len).min(text.len() as f64 + 1.0);
                let start = from.max(1.0);
                if end > start {
                    Value::Text(text.get(start as usize - 1..end as usize - 1).unwrap_or_default().to_vec())
                } else {
                    Value::Text(Vec::new())
                }
            }
            "index" => {
                let (text, part) = (first.text(), values.get(1).map(Value::text).unwrap_or_default());
                let at = if part.is_empty() { Some(0) } else { text.windows(part.len()).position(|w| w == part.as_slice()) };
                Value::Number(at.map_or(0.0, |p| p as f64 + 1.0))
            }
            "sprintf" => Value::Text(self.sprintf(&values)),
            "tolower" => Value::Text(first.text().to_ascii_lowercase()),
            "toupper" => Value::Text(first.text().to_ascii_uppercase()),
            "int" => Value::Number(n.trunc()),
            "sqrt" => Value::Number(n.sqrt()),
            "exp" => Value::Number(n.exp()),
            "log" => Value::Number(n.ln()),
            "sin" => Value::Number(n.sin()),
            "cos" => Value::Number(n.cos()),
            "atan2" => Value::Number(n.atan2(values.get(1).map_or(0.0, Value::number))),
            "rand" => Value::Number((self.cx.st.random.next() >> 11) as f64 / (1u64 << 53) as f64),
            "srand" => Value::Number(0.0),
            "systime" => Value::Number(self.cx.now() as f64),
            "system" => {
                let command = first.text();
                let state = self.cx.x.subshell_state(self.cx.st);
                let io = self.cx.io;
                Value::Number(f64::from(self.cx.x.script(&state, io, &command, &[b"sh".to_vec()], true)))
            }
            "close" => {
                let name = first.text();
                self.streams.remove(&name);
                if let Some((kind, data)) = self.files.remove(&name) {
                    self.flush(&name, kind, data);
                }
                Value::Number(0.0)
            }
            "fflush" => Value::Number(0.0),
            other => return Err(format!("function {other} never defined")),
        })
    }

    fn user(&mut self, params: &[String], body: &Stmt, args: &[Expr]) -> Result<Value, String> {
        if self.depth >= limits::RUN_DEPTH {
            self.cx.x.kill();
            return Ok(Value::Nothing);
        }
        let mut values = Vec::new();
        // Arrays go in by name: the caller's array is moved in and back out.
        let mut moved: Vec<(String, String)> = Vec::new();
        for (param, arg) in params.iter().zip(args) {
            match arg {
                Expr::Var(name) if self.arrays.contains_key(name) => moved.push((param.clone(), name.clone())),
                _ => {}
            }
            values.push(self.eval(arg)?);
        }
        let saved: Vec<(String, Option<Value>, Option<Array>)> = params
            .iter()
            .map(|p| (p.clone(), self.vars.remove(p), if moved.iter().any(|m| &m.1 == p) { None } else { self.arrays.remove(p) }))
            .collect();
        for (param, name) in &moved {
            if param != name
                && let Some(array) = self.arrays.remove(name)
            {
                self.arrays.insert(param.clone(), array);
            }
        }
        for (param, value) in params.iter().zip(values) {
            self.vars.insert(param.clone(), value);
        }
        self.depth += 1;
        let end = self.stmt(body);
        self.depth -= 1;
        for (param, name) in &moved {
            if param != name
                && let Some(array) = self.arrays.remove(param)
            {
                self.arrays.insert(name.clone(), array);
            }
        }
        for (name, value, array) in saved {
            match value {
                Some(v) => self.vars.insert(name.clone(), v),
                None => self.vars.remove(&name),
            };
            if let Some(a) = array {
                self.arrays.insert(name, a);
            }
        }
        match end {
            End::Return(v) => Ok(v),
            End::Fault(m) => Err(m),
            _ => Ok(Value::Nothing),
        }
    }

    fn substitute(&mut self, args: &[Expr], global: bool) -> Result<Value, String> {
        let regex = match args.first() {
            Some(Expr::Regex(r)) => Some(r.as_ref().clone()),
            Some(other) => {
                let p = self.eval(other)?.text();
                self.regex(&p)
            }
            None => None,
        };
        let Some(regex) = regex else { return Ok(Value::Number(0.0)) };
        let with = args.get(1).map(|a| self.eval(a)).transpose()?.unwrap_or(Value::Nothing).text();
        let record = Expr::Field(Box::new(Expr::Number(0.0)));
        let target = args.get(2).unwrap_or(&record).clone();
        let text = self.eval(&target)?.text();
        let mut out = Vec::new();
        let (mut at, mut count) = (0, 0u32);
        let before = self.work();
        let mut work = before;
        while at <= text.len() {
            let Some((s, e)) = regex.find(&text, at, &mut work).and_then(|g| g.first().copied().flatten()) else { break };
            out.extend_from_slice(text.get(at..s).unwrap_or_default());
            count += 1;
            let mut bytes = with.iter().peekable();
            while let Some(b) = bytes.next() {
                match b {
                    b'\\' if matches!(bytes.peek(), Some(b'&' | b'\\')) => out.extend(bytes.next()),
                    b'&' => out.extend_from_slice(text.get(s..e).unwrap_or_default()),
                    _ => out.push(*b),
                }
            }
            at = e;
            if s == e {
                out.extend(text.get(e));
                at = e + 1;
            }
            if !global || out.len() > limits::PIPE {
                break;
            }
        }
        self.cx.x.spend((before - work) / 16);
        if count > 0 {
            out.extend_from_slice(text.get(at..).unwrap_or_default());
            self.assign(&target, Value::Text(out))?;
        }
        Ok(Value::Number(f64::from(count)))
    }

    pub(super) fn print(&mut self, args: &[Expr], formatted: bool, target: Option<&(u8, Expr)>) -> Result<(), String> {
        let mut out = if formatted {
            let mut values = Vec::new();
            for a in args {
                values.push(self.eval(a)?);
            }
            self.sprintf(&values)
        } else if args.is_empty() {
            self.record.clone()
        } else {
            let ofs = self.var("OFS").text();
            let mut parts = Vec::new();
            for a in args {
                parts.push(self.eval(a)?.text());
            }
            parts.join(ofs.as_slice())
        };
        if !formatted {
            out.extend(self.var("ORS").text());
        }
        match target {
            None => self.cx.out(&out),
            Some((kind, target)) => {
                let name = self.eval(target)?.text();
                match name.as_slice() {
                    b"/dev/stdout" | b"-" => self.cx.out(&out),
                    b"/dev/stderr" => {
                        let _ = self.cx.x.write(self.cx.io.get(2), &out);
                    }
                    _ => {
                        self.held += out.len();
                        if self.held > limits::PIPE || self.files.len() > 32 {
                            self.cx.x.kill();
                            return Ok(());
                        }
                        self.files.entry(name).or_insert_with(|| (*kind, Vec::new())).1.extend(out);
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn sprintf(&mut self, values: &[Value]) -> Vec<u8> {
        let format = values.first().map(Value::text).unwrap_or_default();
        let mut rest = values.iter().skip(1);
        let mut out = Vec::new();
        let mut at = 0;
        while let Some(&b) = format.get(at) {
            at += 1;
            if b != b'%' {
                out.push(b);
                continue;
            }
            let mut spec = Spec { left: false, zero: false, plus: false, space: false, alt: false, width: 0, precision: None };
            let mut digits: Option<usize> = None;
            let mut dot = false;
            while let Some(&f) = format.get(at) {
                match f {
                    b'-' => spec.left = true,
                    b'+' => spec.plus = true,
                    b' ' => spec.space = true,
                    b'#' => spec.alt = true,
                    b'0' if !dot && digits.is_none() => spec.zero = true,
                    b'0'..=b'9' => digits = Some((digits.unwrap_or(0) * 10 + usize::from(f - b'0')).min(65_536)),
                    b'*' => digits = rest.next().map(|v| (v.number().abs() as usize).min(65_536)),
                    b'.' => {
                        spec.width = digits.take().unwrap_or(0);
                        dot = true;
                    }
                    b'l' | b'h' => {}
                    _ => break,
                }
                at += 1;
            }
            if dot {
                spec.precision = Some(digits.unwrap_or(0));
            } else {
                spec.width = digits.unwrap_or(0);
            }
            let Some(&code) = format.get(at) else {
                out.push(b'%');
                break;
            };
            at += 1;
            match code {
                b'%' => out.push(b'%'),
                b'd' | b'i' | b'x' | b'X' | b'o' | b'u' => {
                    let v = rest.next().map_or(0.0, Value::number);
                    spec.integer(v as i64, code, &mut out);
                }
                b'f' | b'F' | b'e' | b'E' | b'g' | b'G' => {
                    let v = rest.next().map_or(0.0, Value::number);
                    spec.float(v, code, &mut out);
                }
                b'c' => {
                    let text = match rest.next() {
                        Some(Value::Number(n) | Value::Input(_, n)) => vec![*n as u8],
                        Some(v) => v.text().into_iter().take(1).collect(),
                        None => Vec::new(),
                    };
                    spec.pad(text, &mut out);
                }
                _ => {
                    let mut text = rest.next().map(Value::text).unwrap_or_default();
                    if let Some(p) = spec.precision {
                        text.truncate(p);
                    }
                    spec.pad(text, &mut out);
                }
            }
        }
        out
    }
}
