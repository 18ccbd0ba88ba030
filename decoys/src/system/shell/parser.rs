//! The grammar of commands, by recursive descent straight on the bytes.

use std::sync::Arc;

use super::{
    ast::{Assign, AssignValue, Cond, Fall, Node, Part, Redir, RedirKind, Word},
    lexer::{Fault, Lexer, Stop, arith_end, is_name, is_name_start},
};

/// Words that end a list when they stand where a command could.
const ENDS: [&[u8]; 10] = [b"then", b"elif", b"else", b"fi", b"do", b"done", b"esac", b"}", b"]]", b"in"];

/// A whole text.
pub(in crate::system) fn program(lex: &mut Lexer<'_>) -> Result<Node, Fault> {
    let node = list(lex)?;
    if lex.peek().is_some() {
        return Err(Fault::Token(token(lex)));
    }
    Ok(node)
}

/// The inside of a substitution, past its `)`.
pub(super) fn until_paren(lex: &mut Lexer<'_>) -> Result<Node, Fault> {
    let node = list(lex)?;
    match lex.peek() {
        Some(b')') => {
            lex.pos += 1;
            Ok(node)
        }
        None => Err(Fault::End(b')')),
        _ => Err(Fault::Token(token(lex))),
    }
}

fn blanks(lex: &mut Lexer<'_>) {
    loop {
        match lex.peek() {
            Some(b' ' | b'\t') => lex.pos += 1,
            Some(b'\\') if lex.peek_at(1) == Some(b'\n') => {
                lex.pos += 1;
                lex.bump();
            }
            Some(b'#') => {
                while lex.peek().is_some_and(|b| b != b'\n') {
                    lex.pos += 1;
                }
            }
            _ => return,
        }
    }
}

fn newlines(lex: &mut Lexer<'_>) {
    loop {
        blanks(lex);
        if lex.peek() != Some(b'\n') {
            return;
        }
        lex.bump();
    }
}

/// The plain text up to the next operator or blank, without moving.
fn ahead<'a>(lex: &Lexer<'a>) -> &'a [u8] {
    let rest = lex.src.get(lex.pos..).unwrap_or_default();
    let len =
        rest.iter().position(|b| matches!(b, b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')')).unwrap_or(rest.len());
    rest.get(..len).unwrap_or_default()
}

/// The token here, for an error message.
fn token(lex: &Lexer<'_>) -> Vec<u8> {
    const OPERATORS: [&[u8]; 11] = [b";;", b"&&", b"||", b"<<", b">>", b"|&", b";", b"&", b"|", b"(", b")"];
    if matches!(lex.peek(), None | Some(b'\n')) {
        return b"newline".to_vec();
    }
    if let Some(op) = OPERATORS.iter().find(|o| lex.starts(o)) {
        return op.to_vec();
    }
    let text = ahead(lex);
    if text.is_empty() { lex.peek().into_iter().collect() } else { text.to_vec() }
}

fn unexpected(lex: &Lexer<'_>) -> Fault {
    if lex.peek().is_none() { Fault::End(0) } else { Fault::Token(token(lex)) }
}

fn keyword(lex: &mut Lexer<'_>, word: &[u8]) -> bool {
    if ahead(lex) == word {
        lex.pos += word.len();
        return true;
    }
    false
}

fn expect(lex: &mut Lexer<'_>, word: &[u8]) -> Result<(), Fault> {
    newlines(lex);
    if keyword(lex, word) { Ok(()) } else { Err(unexpected(lex)) }
}

/// The commands of the next line; `None` at the end. A shell runs a text line by line, so an error later in it does not
/// undo what came before.
pub(in crate::system) fn unit(lex: &mut Lexer<'_>) -> Result<Option<Node>, Fault> {
    newlines(lex);
    if lex.peek().is_none() {
        return Ok(None);
    }
    let node = items(lex, true)?;
    match lex.peek() {
        None => Ok(Some(node)),
        Some(b'\n') => {
            lex.bump();
            Ok(Some(node))
        }
        _ => Err(Fault::Token(token(lex))),
    }
}

fn list(lex: &mut Lexer<'_>) -> Result<Node, Fault> {
    items(lex, false)
}

fn items(lex: &mut Lexer<'_>, one_line: bool) -> Result<Node, Fault> {
    lex.enter()?;
    let mut nodes = Vec::new();
    loop {
        if one_line {
            blanks(lex);
            if lex.peek() == Some(b'\n') {
                break;
            }
        } else {
            newlines(lex);
        }
        match lex.peek() {
            None | Some(b')') => break,
            Some(b';') if lex.starts(b";;") || lex.starts(b";&") => break,
            _ => {}
        }
        if ENDS.contains(&ahead(lex)) && ahead(lex) != b"in" && ahead(lex) != b"]]" {
            break;
        }
        let start = lex.pos;
        let node = and_or(lex)?;
        let end = lex.pos;
        blanks(lex);
        match lex.peek() {
            Some(b'&') => {
                lex.pos += 1;
                let source = lex.src.get(start..end).unwrap_or_default().trim_ascii().to_vec();
                nodes.push(Node::Background(Arc::new(node), source));
            }
            Some(b';') if !lex.starts(b";;") && !lex.starts(b";&") => {
                lex.pos += 1;
                nodes.push(node);
            }
            _ => {
                nodes.push(node);
                if !matches!(lex.peek(), None | Some(b'\n' | b')' | b';')) && !ENDS.contains(&ahead(lex)) {
                    return Err(unexpected(lex));
                }
            }
        }
    }
    lex.depth -= 1;
    if nodes.len() == 1
        && let Some(node) = nodes.pop()
    {
        return Ok(node);
    }
    Ok(Node::List(nodes))
}

/// A list that must not be empty.
fn body(lex: &mut Lexer<'_>) -> Result<Node, Fault> {
    let node = list(lex)?;
    if matches!(&node, Node::List(n) if n.is_empty()) {
        return Err(unexpected(lex));
    }
    Ok(node)
}

fn and_or(lex: &mut Lexer<'_>) -> Result<Node, Fault> {
    let mut left = pipeline(lex)?;
    let mut count = 0usize;
    loop {
        blanks(lex);
        let and = lex.starts(b"&&");
        if !and && !lex.starts(b"||") {
            return Ok(left);
        }
        count += 1;
        if count > 128 {
            return Err(Fault::Depth);
        }
        lex.pos += 2;
        newlines(lex);
        if lex.peek().is_none() {
            return Err(Fault::End(0));
        }
        let right = pipeline(lex)?;
        left = if and { Node::And(Box::new(left), Box::new(right)) } else { Node::Or(Box::new(left), Box::new(right)) };
    }
}

fn pipeline(lex: &mut Lexer<'_>) -> Result<Node, Fault> {
    let (mut negate, mut timed) = (false, false);
    loop {
        blanks(lex);
        if keyword(lex, b"!") {
            negate = !negate;
        } else if keyword(lex, b"time") {
            timed = true;
            blanks(lex);
            keyword(lex, b"-p");
        } else {
            break;
        }
    }
    if timed && matches!(lex.peek(), None | Some(b'\n' | b';')) {
        return Ok(Node::Pipeline { stages: Vec::new(), negate, timed });
    }
    let mut stages = Vec::new();
    loop {
        let node = command(lex)?;
        blanks(lex);
        if lex.peek() != Some(b'|') || lex.starts(b"||") {
            if stages.is_empty() && !negate && !timed {
                return Ok(node);
            }
            stages.push((node, false));
            return Ok(Node::Pipeline { stages, negate, timed });
        }
        lex.pos += 1;
        let both = lex.peek() == Some(b'&');
        lex.pos += usize::from(both);
        stages.push((node, both));
        if stages.len() > crate::system::limits::PIPELINE {
            return Err(Fault::Depth);
        }
        newlines(lex);
        if lex.peek().is_none() {
            return Err(Fault::End(0));
        }
    }
}

fn command(lex: &mut Lexer<'_>) -> Result<Node, Fault> {
    lex.enter()?;
    let node = command_inner(lex)?;
    lex.depth -= 1;
    Ok(node)
}

fn command_inner(lex: &mut Lexer<'_>) -> Result<Node, Fault> {
    blanks(lex);
    if lex.starts(b"((") {
        let start = lex.pos + 2;
        if let Some(len) = arith_end(lex.src.get(start..).unwrap_or_default()) {
            let text = sub_word(lex, start, start + len)?;
            lex.pos = start + len + 2;
            return Ok(Node::Arith(text, redirs(lex)?));
        }
    }
    if lex.peek() == Some(b'(') {
        lex.pos += 1;
        let inner = body(lex)?;
        if lex.peek() != Some(b')') {
            return Err(unexpected(lex));
        }
        lex.pos += 1;
        return Ok(Node::Subshell(Box::new(inner), redirs(lex)?));
    }
    match ahead(lex) {
        b"{" => {
            lex.pos += 1;
            let inner = body(lex)?;
            expect(lex, b"}")?;
            Ok(Node::Group(Box::new(inner), redirs(lex)?))
        }
        b"if" => conditional(lex),
        b"while" => looped(lex, false),
        b"until" => looped(lex, true),
        b"for" => for_loop(lex),
        b"case" => case(lex),
        b"[[" => {
            lex.pos += 2;
            let cond = cond_or(lex)?;
            newlines(lex);
            if !keyword(lex, b"]]") {
                return Err(unexpected(lex));
            }
            Ok(Node::Cond(cond, redirs(lex)?))
        }
        b"function" => {
            let start = lex.pos;
            lex.pos += 8;
            blanks(lex);
            let name = ahead(lex).to_vec();
            lex.pos += name.len();
            blanks(lex);
            if lex.peek() == Some(b'(') {
                lex.pos += 1;
                blanks(lex);
                if lex.peek() != Some(b')') {
                    return Err(unexpected(lex));
                }
                lex.pos += 1;
            }
            function(lex, name, start)
        }
        word if ENDS.contains(&word) && word != b"in" && word != b"]]" => Err(unexpected(lex)),
        _ => simple(lex),
    }
}

fn function(lex: &mut Lexer<'_>, name: Vec<u8>, start: usize) -> Result<Node, Fault> {
    newlines(lex);
    if lex.peek().is_none() {
        return Err(Fault::End(0));
    }
    let body = command(lex)?;
    let source = lex.src.get(start..lex.pos).unwrap_or_default().to_vec();
    Ok(Node::Function { name, body: Arc::new(body), source: Arc::new(source) })
}

fn conditional(lex: &mut Lexer<'_>) -> Result<Node, Fault> {
    lex.pos += 2;
    let mut arms = Vec::new();
    let mut otherwise = None;
    loop {
        let cond = body(lex)?;
        expect(lex, b"then")?;
        arms.push((cond, body(lex)?));
        newlines(lex);
        if keyword(lex, b"elif") {
            continue;
        }
        if keyword(lex, b"else") {
            otherwise = Some(Box::new(body(lex)?));
        }
        expect(lex, b"fi")?;
        return Ok(Node::If { arms, otherwise, redirs: redirs(lex)? });
    }
}

fn looped(lex: &mut Lexer<'_>, until: bool) -> Result<Node, Fault> {
    lex.pos += 5;
    let cond = Box::new(body(lex)?);
    let inner = Box::new(do_done(lex)?);
    Ok(Node::While { cond, body: inner, until, redirs: redirs(lex)? })
}

fn do_done(lex: &mut Lexer<'_>) -> Result<Node, Fault> {
    newlines(lex);
    if keyword(lex, b"{") {
        let inner = body(lex)?;
        expect(lex, b"}")?;
        return Ok(inner);
    }
    expect(lex, b"do")?;
    let inner = body(lex)?;
    expect(lex, b"done")?;
    Ok(inner)
}

fn for_loop(lex: &mut Lexer<'_>) -> Result<Node, Fault> {
    lex.pos += 3;
    blanks(lex);
    if lex.starts(b"((") {
        let start = lex.pos + 2;
        let len = arith_end(lex.src.get(start..).unwrap_or_default()).ok_or_else(|| unexpected(lex))?;
        let text = lex.src.get(start..start + len).unwrap_or_default();
        let mut ends = text.iter().enumerate().filter(|(_, b)| **b == b';').map(|(at, _)| start + at);
        let (Some(first), Some(second)) = (ends.next(), ends.next()) else { return Err(unexpected(lex)) };
        let (init, cond, step) = (sub_word(lex, start, first)?, sub_word(lex, first + 1, second)?, sub_word(lex, second + 1, start + len)?);
        lex.pos = start + len + 2;
        blanks(lex);
        if lex.peek() == Some(b';') {
            lex.pos += 1;
        }
        let inner = Box::new(do_done(lex)?);
        return Ok(Node::CFor { init, cond, step, body: inner, redirs: redirs(lex)? });
    }
    let name = ahead(lex).to_vec();
    if !super::lexer::valid_name(&name) {
        return Err(if name.is_empty() { unexpected(lex) } else { Fault::Bad(name) });
    }
    lex.pos += name.len();
    newlines(lex);
    let mut words = None;
    if keyword(lex, b"in") {
        let mut all = Vec::new();
        loop {
            blanks(lex);
            let word = lex.word(Stop::Blank)?;
            if word.is_empty() {
                break;
            }
            all.push(word);
        }
        words = Some(all);
    }
    blanks(lex);
    match lex.peek() {
        Some(b';') => lex.pos += 1,
        Some(b'\n') => newlines(lex),
        None => return Err(Fault::End(0)),
        _ => {
            if words.is_some() {
                return Err(unexpected(lex));
            }
        }
    }
    let inner = Box::new(do_done(lex)?);
    Ok(Node::For { name, words, body: inner, redirs: redirs(lex)? })
}

fn case(lex: &mut Lexer<'_>) -> Result<Node, Fault> {
    lex.pos += 4;
    blanks(lex);
    let word = lex.word(Stop::Blank)?;
    expect(lex, b"in")?;
    let mut arms = Vec::new();
    loop {
        newlines(lex);
        if keyword(lex, b"esac") {
            break;
        }
        if lex.peek() == Some(b'(') {
            lex.pos += 1;
        }
        let mut patterns = Vec::new();
        loop {
            blanks(lex);
            let pattern = lex.word(Stop::Blank)?;
            if pattern.is_empty() {
                return Err(unexpected(lex));
            }
            patterns.push(pattern);
            blanks(lex);
            match lex.peek() {
                Some(b'|') => lex.pos += 1,
                Some(b')') => {
                    lex.pos += 1;
                    break;
                }
                _ => return Err(unexpected(lex)),
            }
        }
        let inner = list(lex)?;
        newlines(lex);
        let fall = if lex.starts(b";;&") {
            lex.pos += 3;
            Fall::Retest
        } else if lex.starts(b";;") {
            lex.pos += 2;
            Fall::Stop
        } else if lex.starts(b";&") {
            lex.pos += 2;
            Fall::Through
        } else if ahead(lex) == b"esac" {
            Fall::Stop
        } else {
            return Err(unexpected(lex));
        };
        arms.push((patterns, inner, fall));
    }
    Ok(Node::Case { word, arms, redirs: redirs(lex)? })
}

fn cond_or(lex: &mut Lexer<'_>) -> Result<Cond, Fault> {
    lex.enter()?;
    let mut left = cond_and(lex)?;
    loop {
        newlines(lex);
        if !lex.starts(b"||") {
            lex.depth -= 1;
            return Ok(left);
        }
        lex.pos += 2;
        left = Cond::Or(Box::new(left), Box::new(cond_and(lex)?));
    }
}

fn cond_and(lex: &mut Lexer<'_>) -> Result<Cond, Fault> {
    let mut left = cond_one(lex)?;
    loop {
        newlines(lex);
        if !lex.starts(b"&&") {
            return Ok(left);
        }
        lex.pos += 2;
        left = Cond::And(Box::new(left), Box::new(cond_one(lex)?));
    }
}

fn cond_one(lex: &mut Lexer<'_>) -> Result<Cond, Fault> {
    newlines(lex);
    let mut negate = false;
    while keyword(lex, b"!") {
        negate = !negate;
        newlines(lex);
    }
    let inner = if lex.peek() == Some(b'(') {
        lex.pos += 1;
        let inner = cond_or(lex)?;
        newlines(lex);
        if lex.peek() != Some(b')') {
            return Err(unexpected(lex));
        }
        lex.pos += 1;
        inner
    } else {
        let flag = ahead(lex);
        let unary = match flag {
            [b'-', f] if f.is_ascii_alphabetic() => Some(*f),
            _ => None,
        };
        if let Some(unary) = unary {
            lex.pos += 2;
            blanks(lex);
            let word = lex.word(Stop::Blank)?;
            if word.is_empty() {
                return Err(unexpected(lex));
            }
            Cond::Unary(unary, word)
        } else {
            let left = lex.word(Stop::Blank)?;
            if left.is_empty() || matches!(left.first(), Some(Part::Lit(l)) if l == b"]]" && left.len() == 1) {
                return Err(unexpected(lex));
            }
            blanks(lex);
            let op: Vec<u8> = match lex.peek() {
                Some(b @ (b'<' | b'>')) => vec![b],
                _ => ahead(lex).to_vec(),
            };
            const OPS: [&[u8]; 15] =
                [b"==", b"=", b"!=", b"=~", b"<", b">", b"-eq", b"-ne", b"-lt", b"-le", b"-gt", b"-ge", b"-nt", b"-ot", b"-ef"];
            if OPS.contains(&op.as_slice()) {
                lex.pos += op.len();
                blanks(lex);
                let right = lex.word(if op == b"=~" { Stop::Regex } else { Stop::Blank })?;
                if right.is_empty() {
                    return Err(unexpected(lex));
                }
                Cond::Binary(left, op, right)
            } else {
                Cond::Word(left)
            }
        }
    };
    Ok(if negate { Cond::Not(Box::new(inner)) } else { inner })
}

fn sub_word(lex: &Lexer<'_>, from: usize, to: usize) -> Result<Word, Fault> {
    let mut inner = Lexer::new(lex.src.get(from..to).unwrap_or_default(), false);
    inner.depth = lex.depth;
    inner.word(Stop::End)
}

fn redirs(lex: &mut Lexer<'_>) -> Result<Vec<Redir>, Fault> {
    let mut all = Vec::new();
    loop {
        blanks(lex);
        match redir(lex)? {
            Some(r) => all.push(r),
            None => return Ok(all),
        }
    }
}

fn redir(lex: &mut Lexer<'_>) -> Result<Option<Redir>, Fault> {
    let rest = lex.src.get(lex.pos..).unwrap_or_default();
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let op = rest.get(digits..).unwrap_or_default();
    if !matches!(op.first(), Some(b'<' | b'>')) && !(digits == 0 && op.starts_with(b"&>")) || digits == 0 && op.starts_with(b"<(") {
        return Ok(None);
    }
    const OPS: [(&[u8], RedirKind); 13] = [
        (b"&>>", RedirKind::BothAppend),
        (b"&>", RedirKind::Both),
        (b"<<<", RedirKind::Text),
        (b"<<-", RedirKind::Text),
        (b"<<", RedirKind::Text),
        (b"<&", RedirKind::DupIn),
        (b"<>", RedirKind::ReadWrite),
        (b"<", RedirKind::In),
        (b">>", RedirKind::Append),
        (b">&", RedirKind::DupOut),
        (b">|", RedirKind::Out),
        (b">", RedirKind::Out),
        (b"", RedirKind::Out),
    ];
    let Some((text, kind)) = OPS.iter().find(|(t, _)| op.starts_with(t)) else { return Ok(None) };
    let fd = std::str::from_utf8(rest.get(..digits).unwrap_or_default()).ok().and_then(|t| t.parse().ok());
    lex.pos += digits + text.len();
    blanks(lex);
    if *text == b"<<" || *text == b"<<-" {
        let target = here_document(lex, text.len() == 3)?;
        return Ok(Some(Redir { fd, kind: *kind, target }));
    }
    let mut target = lex.word(Stop::Blank)?;
    if target.is_empty() {
        return Err(unexpected(lex));
    }
    if *kind == RedirKind::Text {
        // A here-string is expanded without splitting and ends in a newline.
        target = vec![Part::Double(vec![Part::Double(target), Part::Quoted(b"\n".to_vec())])];
    }
    Ok(Some(Redir { fd, kind: *kind, target }))
}

fn here_document(lex: &mut Lexer<'_>, tabs: bool) -> Result<Word, Fault> {
    let word = lex.word(Stop::Blank)?;
    let mut literal = false;
    let mut end = Vec::new();
    for part in &word {
        match part {
            Part::Lit(t) => end.extend_from_slice(t),
            Part::Quoted(t) => {
                literal = true;
                end.extend_from_slice(t);
            }
            Part::Double(inner) => {
                literal = true;
                for part in inner {
                    if let Part::Lit(t) | Part::Quoted(t) = part {
                        end.extend_from_slice(t);
                    }
                }
            }
            _ => {}
        }
    }
    let rest = |from: usize| lex.src.get(from..).unwrap_or_default();
    let (line_end, mut at) = match lex.here {
        Some(pair) => pair,
        None => match rest(lex.pos).iter().position(|b| *b == b'\n') {
            Some(p) => (lex.pos + p, lex.pos + p + 1),
            None => return Err(Fault::End(0)),
        },
    };
    let mut text = Vec::new();
    loop {
        let tail = rest(at);
        if tail.is_empty() {
            if lex.more {
                return Err(Fault::End(0));
            }
            if lex.warnings.len() < 16 {
                lex.warnings.push((lex.line, end.clone()));
            }
            break;
        }
        let len = tail.iter().position(|b| *b == b'\n').unwrap_or(tail.len());
        let mut line = tail.get(..len).unwrap_or_default();
        at += (len + 1).min(tail.len());
        if tabs {
            let skip = line.iter().take_while(|b| **b == b'\t').count();
            line = line.get(skip..).unwrap_or_default();
        }
        if line == end {
            break;
        }
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    lex.here = Some((line_end, at));
    if literal {
        return Ok(vec![Part::Quoted(text)]);
    }
    let mut inner = Lexer::new(&text, false);
    inner.depth = lex.depth;
    Ok(vec![Part::Double(inner.word(Stop::End)?)])
}

fn assign(lex: &mut Lexer<'_>) -> Result<Option<Assign>, Fault> {
    let rest = lex.src.get(lex.pos..).unwrap_or_default();
    let len = rest.iter().take_while(|b| is_name(**b)).count();
    if len == 0 || !rest.first().is_some_and(|b| is_name_start(*b)) {
        return Ok(None);
    }
    let name = rest.get(..len).unwrap_or_default().to_vec();
    let start = lex.pos;
    lex.pos += len;
    let mut index = None;
    if lex.peek() == Some(b'[') {
        let tail = lex.src.get(lex.pos..).unwrap_or_default();
        let close = tail.iter().position(|b| *b == b']');
        if !close.is_some_and(|c| matches!(tail.get(c + 1..), Some([b'=', ..] | [b'+', b'=', ..]))) {
            lex.pos = start;
            return Ok(None);
        }
        lex.pos += 1;
        index = Some(lex.word(Stop::Bracket)?);
        lex.pos += 1;
    }
    let append = lex.starts(b"+=");
    if !append && lex.peek() != Some(b'=') {
        lex.pos = start;
        return Ok(None);
    }
    lex.pos += 1 + usize::from(append);
    if lex.peek() == Some(b'(') {
        lex.pos += 1;
        let mut values = Vec::new();
        loop {
            newlines(lex);
            match lex.peek() {
                Some(b')') => {
                    lex.pos += 1;
                    break;
                }
                None => return Err(Fault::End(b')')),
                Some(b'[') => {
                    lex.pos += 1;
                    let key = lex.word(Stop::Bracket)?;
                    lex.pos += 1;
                    if lex.peek() == Some(b'=') {
                        lex.pos += 1;
                    }
                    values.push((Some(key), lex.word(Stop::Blank)?));
                }
                _ => {
                    let word = lex.word(Stop::Blank)?;
                    if word.is_empty() {
                        return Err(unexpected(lex));
                    }
                    values.push((None, word));
                }
            }
        }
        return Ok(Some(Assign { name, index, append, value: AssignValue::Array(values) }));
    }
    Ok(Some(Assign { name, index, append, value: AssignValue::Word(lex.word(Stop::Blank)?) }))
}

fn simple(lex: &mut Lexer<'_>) -> Result<Node, Fault> {
    let start = lex.pos;
    let line = lex.line;
    let (mut assigns, mut words, mut found) = (Vec::new(), Vec::<Word>::new(), Vec::new());
    loop {
        blanks(lex);
        if let Some(r) = redir(lex)? {
            found.push(r);
            continue;
        }
        if words.is_empty()
            && let Some(a) = assign(lex)?
        {
            assigns.push(a);
            continue;
        }
        // Declaration commands take array values too.
        if matches!(words.first().map(Vec::as_slice), Some([Part::Lit(w)]) if matches!(w.as_slice(), b"declare" | b"local" | b"export" | b"readonly" | b"typeset"))
        {
            let at = lex.pos;
            if let Some(a) = assign(lex)? {
                if matches!(a.value, AssignValue::Array(_)) {
                    assigns.push(a);
                    continue;
                }
                lex.pos = at;
            }
        }
        let word = lex.word(Stop::Blank)?;
        if word.is_empty() {
            break;
        }
        words.push(word);
        if words.len() > crate::system::limits::WORDS {
            return Err(Fault::Depth);
        }
        if words.len() == 1 && lex.peek() == Some(b'(') || words.len() == 1 && lex.peek() == Some(b' ') && lex.starts(b" ()") {
            let Some([Part::Lit(name)]) = words.first().map(Vec::as_slice) else { return Err(unexpected(lex)) };
            let name = name.clone();
            blanks(lex);
            lex.pos += 1;
            blanks(lex);
            if lex.peek() != Some(b')') {
                return Err(unexpected(lex));
            }
            lex.pos += 1;
            return function(lex, name, start);
        }
    }
    if assigns.is_empty() && words.is_empty() && found.is_empty() {
        return Err(unexpected(lex));
    }
    Ok(Node::Simple { assigns, words, redirs: found, line })
}
