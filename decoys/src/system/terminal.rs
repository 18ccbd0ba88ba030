//! The line discipline and line editor of a pseudo terminal, as bash's readline on Linux shows them.
//!
//! Pure: bytes typed go in, actions come out. It must never hold more than its bounded queue and one
//! bounded line, whatever is typed.

use std::collections::VecDeque;

use super::limits;

/// What [`Terminal::next`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send these bytes to the visitor.
    Echo(Vec<u8>),
    /// A line was finished (without its line end).
    Line(Vec<u8>),
    /// ^C: the line was given up, or the running command is to be interrupted.
    Interrupt,
    /// ^D on an empty line.
    Eof,
}

/// Who reads what is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The shell's line editor.
    Edit,
    /// A running command: the kernel's line discipline, with echo.
    Cooked,
    /// A running command that asks for a secret: no echo.
    Secret,
}

/// Candidates for the word before the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// How many bytes before the cursor the candidates replace.
    pub replace: usize,
    /// Whole words; a directory ends in `/`.
    pub words: Vec<Vec<u8>>,
}

/// Bytes typed ahead that are kept; more is dropped, as a full terminal queue does.
const QUEUE: usize = 64 << 10;

/// One pseudo terminal.
#[derive(Debug)]
pub struct Terminal {
    columns: usize,
    paste: bool,
    crlf: bool,
    mode: Mode,
    prompt: Vec<u8>,
    queue: VecDeque<u8>,
    line: Vec<u8>,
    cursor: usize,
    escape: Vec<u8>,
    after_cr: bool,
    after_tab: bool,
    killed: Vec<u8>,
    history: VecDeque<Vec<u8>>,
    at: usize,
    draft: Vec<u8>,
    ended: Option<Action>,
}

impl Terminal {
    /// A terminal of the given `TERM` and width. `crlf`: take CR LF and CR NUL as one line end (Telnet).
    pub fn new(term: &str, columns: u16, crlf: bool) -> Self {
        Self {
            columns: usize::from(columns.max(20)),
            paste: !matches!(term, "" | "dumb" | "unknown" | "network"),
            crlf,
            mode: Mode::Edit,
            prompt: Vec::new(),
            queue: VecDeque::new(),
            line: Vec::new(),
            cursor: 0,
            escape: Vec::new(),
            after_cr: false,
            after_tab: false,
            killed: Vec::new(),
            history: VecDeque::new(),
            at: 0,
            draft: Vec::new(),
            ended: None,
        }
    }

    /// The window changed.
    pub fn resize(&mut self, columns: u16) {
        self.columns = usize::from(columns.max(20));
    }

    /// Begins a line of the shell's editor: the bytes to send for this prompt.
    pub fn begin(&mut self, prompt: &[u8]) -> Vec<u8> {
        self.mode = Mode::Edit;
        self.line.clear();
        self.cursor = 0;
        self.at = self.history.len();
        // Redrawing needs only the last line of a prompt.
        self.prompt = prompt.rsplit(|b| *b == b'\n').next().unwrap_or_default().iter().copied().take(1024).collect();
        let mut out = Vec::new();
        if self.paste {
            out.extend_from_slice(b"\x1b[?2004h");
        }
        out.extend_from_slice(&Self::output(prompt));
        out
    }

    /// Sets who reads from now on; for the editor use [`Terminal::begin`].
    pub fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
        self.line.clear();
        self.cursor = 0;
    }

    /// Queues typed bytes; what does not fit is dropped. Returns how many were kept.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let room = QUEUE.saturating_sub(self.queue.len());
        let kept = bytes.len().min(room);
        self.queue.extend(bytes.iter().take(kept));
        kept
    }

    /// Output of a program as the terminal shows it: LF becomes CR LF.
    pub fn output(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 16);
        for &b in bytes {
            if b == b'\n' {
                out.push(b'\r');
            }
            out.push(b);
        }
        out
    }

    /// Works on the queue until something is to be done; `None` when it is empty. Call again after each action, with the
    /// mode set for what the action began. The echo that precedes a line comes first.
    pub fn next(&mut self, complete: &mut dyn FnMut(&[u8]) -> Completion) -> Option<Action> {
        if let Some(end) = self.ended.take() {
            return Some(end);
        }
        let mut echo = Vec::new();
        while let Some(byte) = self.queue.pop_front() {
            let end = match self.mode {
                Mode::Edit => self.edit(byte, &mut echo, complete),
                Mode::Cooked | Mode::Secret => self.cook(byte, &mut echo),
            };
            if end.is_some() {
                if echo.is_empty() {
                    return end;
                }
                self.ended = end;
                break;
            }
        }
        (!echo.is_empty()).then_some(Action::Echo(echo))
    }

    fn swallow(&mut self, byte: u8) -> bool {
        let after = std::mem::replace(&mut self.after_cr, byte == b'\r');
        self.crlf && after && matches!(byte, b'\n' | 0)
    }

    /// The kernel's canonical mode: ECHO, ECHOE, ECHOK, ICRNL, ISIG, IUTF8.
    fn cook(&mut self, byte: u8, echo: &mut Vec<u8>) -> Option<Action> {
        if self.swallow(byte) {
            return None;
        }
        let quiet = self.mode == Mode::Secret;
        match byte {
            b'\r' | b'\n' => {
                echo.extend_from_slice(b"\r\n");
                return Some(Action::Line(std::mem::take(&mut self.line)));
            }
            3 => {
                self.line.clear();
                echo.extend_from_slice(b"^C\r\n");
                return Some(Action::Interrupt);
            }
            4 if self.line.is_empty() => return Some(Action::Eof),
            4 => {}
            8 | 127 => {
                if pop_char(&mut self.line) && !quiet {
                    echo.extend_from_slice(b"\x08 \x08");
                }
            }
            21 => {
                let n = chars(&self.line);
                self.line.clear();
                if !quiet {
                    echo.extend(b"\x08 \x08".repeat(n));
                }
            }
            23 => {
                let before = chars(&self.line);
                while self.line.last().is_some_and(|b| *b == b' ') {
                    self.line.pop();
                }
                while self.line.last().is_some_and(|b| *b != b' ') {
                    self.line.pop();
                }
                if !quiet {
                    echo.extend(b"\x08 \x08".repeat(before.saturating_sub(chars(&self.line))));
                }
            }
            _ if self.line.len() >= limits::LINE.min(4095) => echo.push(7),
            _ => {
                self.line.push(byte);
                if !quiet {
                    if byte < 32 && byte != b'\t' {
                        echo.extend_from_slice(&[b'^', byte ^ 64]);
                    } else {
                        echo.push(byte);
                    }
                }
            }
        }
        None
    }

    /// The line editor in its default (emacs) keys.
    fn edit(&mut self, byte: u8, echo: &mut Vec<u8>, complete: &mut dyn FnMut(&[u8]) -> Completion) -> Option<Action> {
        if self.swallow(byte) {
            return None;
        }
        if !self.escape.is_empty() {
            self.escaped(byte, echo);
            return None;
        }
        let tab = std::mem::replace(&mut self.after_tab, false);
        match byte {
            b'\r' | b'\n' => {
                echo.extend_from_slice(b"\r\n");
                if self.paste {
                    echo.extend_from_slice(b"\x1b[?2004l\r");
                }
                let line = std::mem::take(&mut self.line);
                self.cursor = 0;
                self.remember(&line);
                return Some(Action::Line(line));
            }
            3 => {
                self.line.clear();
                self.cursor = 0;
                echo.extend_from_slice(if self.paste { b"^C\x1b[?2004l\r\x1b[?2004h\x1b[?2004l\r\r\n".as_slice() } else { b"^C\r\n" });
                return Some(Action::Interrupt);
            }
            4 if self.line.is_empty() => {
                if self.paste {
                    echo.extend_from_slice(b"\x1b[?2004l\r");
                }
                echo.extend_from_slice(b"\r\n");
                return Some(Action::Eof);
            }
            1 => self.go(0, echo),
            5 => self.go(self.line.len(), echo),
            2 => self.left(echo),
            6 => self.right(echo),
            4 => self.delete(self.cursor, self.next_char(self.cursor), echo),
            8 | 127 => self.delete(self.previous_char(self.cursor), self.cursor, echo),
            9 => self.complete(tab, echo, complete),
            11 => {
                self.killed = self.line.get(self.cursor..).unwrap_or_default().to_vec();
                self.delete(self.cursor, self.line.len(), echo);
            }
            12 => {
                echo.extend_from_slice(b"\x1b[H\x1b[2J");
                self.redraw(echo);
            }
            14 => self.browse(false, echo),
            16 => self.browse(true, echo),
            21 => {
                self.killed = self.line.get(..self.cursor).unwrap_or_default().to_vec();
                self.delete(0, self.cursor, echo);
            }
            23 => {
                let head = self.line.get(..self.cursor).unwrap_or_default();
                let trimmed = head.iter().rposition(|b| *b != b' ').map_or(0, |p| p + 1);
                let start = head.get(..trimmed).unwrap_or_default().iter().rposition(|b| *b == b' ').map_or(0, |p| p + 1);
                self.killed = head.get(start..).unwrap_or_default().to_vec();
                self.delete(start, self.cursor, echo);
            }
            25 => {
                let text = self.killed.clone();
                self.insert(&text, echo);
            }
            27 => self.escape.push(27),
            32.. => self.insert(&[byte], echo),
            _ => {}
        }
        None
    }

    fn escaped(&mut self, byte: u8, echo: &mut Vec<u8>) {
        self.escape.push(byte);
        let done = match self.escape.get(1) {
            Some(b'[') => self.escape.len() > 2 && (0x40..0x7f).contains(&byte),
            Some(b'O') => self.escape.len() > 2,
            _ => true,
        };
        if !done && self.escape.len() < 16 {
            return;
        }
        let escape = std::mem::take(&mut self.escape);
        match escape.get(1..).unwrap_or_default() {
            b"[A" | b"OA" => self.browse(true, echo),
            b"[B" | b"OB" => self.browse(false, echo),
            b"[C" | b"OC" => self.right(echo),
            b"[D" | b"OD" => self.left(echo),
            b"[H" | b"OH" | b"[1~" | b"[7~" => self.go(0, echo),
            b"[F" | b"OF" | b"[4~" | b"[8~" => self.go(self.line.len(), echo),
            b"[3~" => self.delete(self.cursor, self.next_char(self.cursor), echo),
            // Bracketed paste marks carry no text; the pasted bytes are taken as typed.
            _ => {}
        }
    }

    fn remember(&mut self, line: &[u8]) {
        if line.iter().any(|b| *b != b' ') && self.history.back().is_none_or(|l| l != line) && line.first() != Some(&b' ') {
            if self.history.len() >= limits::HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(line.iter().copied().take(1024).collect());
        }
        self.at = self.history.len();
    }

    fn browse(&mut self, up: bool, echo: &mut Vec<u8>) {
        let to = if up { self.at.checked_sub(1) } else { Some(self.at + 1).filter(|t| *t <= self.history.len()) };
        let Some(to) = to else {
            echo.push(7);
            return;
        };
        if self.at == self.history.len() {
            self.draft = self.line.clone();
        }
        let line = self.history.get(to).unwrap_or(&self.draft).clone();
        self.at = to;
        let old = chars(&self.line);
        self.go(0, echo);
        echo.extend_from_slice(&line);
        if chars(&line) < old {
            echo.extend_from_slice(b"\x1b[K");
        }
        self.line = line;
        self.cursor = self.line.len();
    }

    fn complete(&mut self, again: bool, echo: &mut Vec<u8>, complete: &mut dyn FnMut(&[u8]) -> Completion) {
        let found = complete(self.line.get(..self.cursor).unwrap_or_default());
        let replace = found.replace.min(self.cursor);
        let typed = self.line.get(self.cursor - replace..self.cursor).unwrap_or_default().to_vec();
        let Some(first) = found.words.first() else {
            echo.push(7);
            return;
        };
        let mut common = first.len();
        for word in &found.words {
            common = common.min(word.iter().zip(first).take_while(|(a, b)| a == b).count());
        }
        let mut more = first.get(typed.len()..common).unwrap_or_default().to_vec();
        if found.words.len() == 1 && !first.ends_with(b"/") {
            more.push(b' ');
        }
        if !more.is_empty() {
            self.insert(&more, echo);
        } else if !again {
            self.after_tab = true;
            echo.push(7);
        } else {
            let names: Vec<&[u8]> = found.words.iter().map(|w| last_part(w)).take(100).collect();
            echo.extend_from_slice(b"\r\n");
            echo.extend_from_slice(&Self::output(&columns(&names, self.columns)));
            self.redraw(echo);
        }
    }

    fn redraw(&self, echo: &mut Vec<u8>) {
        echo.extend_from_slice(&self.prompt);
        echo.extend_from_slice(&self.line);
        echo.extend(b"\x08".repeat(chars(self.line.get(self.cursor..).unwrap_or_default())));
    }

    fn insert(&mut self, text: &[u8], echo: &mut Vec<u8>) {
        if self.line.len() + text.len() > limits::LINE {
            echo.push(7);
            return;
        }
        let tail = self.line.split_off(self.cursor.min(self.line.len()));
        self.line.extend_from_slice(text);
        self.cursor = self.line.len();
        echo.extend_from_slice(text);
        echo.extend_from_slice(&tail);
        echo.extend(b"\x08".repeat(chars(&tail)));
        self.line.extend(tail);
    }

    fn delete(&mut self, from: usize, to: usize, echo: &mut Vec<u8>) {
        let to = to.min(self.line.len());
        if from >= to {
            return;
        }
        let back = chars(self.line.get(from..self.cursor).unwrap_or_default());
        let gone = chars(self.line.get(from..to).unwrap_or_default());
        self.line.drain(from..to);
        self.cursor = from;
        echo.extend(b"\x08".repeat(back));
        let tail = self.line.get(from..).unwrap_or_default();
        if tail.is_empty() {
            echo.extend_from_slice(if gone == 1 && back == 1 { b" \x08" } else { b"\x1b[K" });
        } else {
            echo.extend_from_slice(format!("\x1b[{gone}P").as_bytes());
            echo.extend_from_slice(tail);
            echo.extend(b"\x08".repeat(chars(tail)));
        }
    }

    fn go(&mut self, to: usize, echo: &mut Vec<u8>) {
        if to <= self.cursor {
            echo.extend(b"\x08".repeat(chars(self.line.get(to..self.cursor).unwrap_or_default())));
        } else {
            echo.extend_from_slice(self.line.get(self.cursor..to).unwrap_or_default());
        }
        self.cursor = to.min(self.line.len());
    }

    fn left(&mut self, echo: &mut Vec<u8>) {
        self.go(self.previous_char(self.cursor), echo);
    }

    fn right(&mut self, echo: &mut Vec<u8>) {
        self.go(self.next_char(self.cursor), echo);
    }

    fn previous_char(&self, at: usize) -> usize {
        let head = self.line.get(..at).unwrap_or_default();
        head.iter().rposition(|b| b & 0xc0 != 0x80).unwrap_or(0)
    }

    fn next_char(&self, at: usize) -> usize {
        let tail = self.line.get(at..).unwrap_or_default();
        tail.iter().skip(1).position(|b| b & 0xc0 != 0x80).map_or(self.line.len(), |p| at + 1 + p)
    }
}

/// Characters of UTF-8 text (its continuation bytes take no column).
fn chars(text: &[u8]) -> usize {
    text.iter().filter(|b| **b & 0xc0 != 0x80).count()
}

fn pop_char(line: &mut Vec<u8>) -> bool {
    let any = !line.is_empty();
    while line.pop().is_some_and(|b| b & 0xc0 == 0x80) {}
    any
}

fn last_part(word: &[u8]) -> &[u8] {
    let body = word.strip_suffix(b"/").unwrap_or(word);
    let start = body.iter().rposition(|b| *b == b'/').map_or(0, |p| p + 1);
    word.get(start..).unwrap_or_default()
}

/// Names in columns, filled downwards, as `ls` and readline print them.
pub(super) fn columns(names: &[&[u8]], width: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let count = names.len();
    let mut chosen = (count.max(1), vec![0usize]);
    for rows in 1..=count {
        let widths: Vec<usize> = names.chunks(rows).map(|c| c.iter().map(|n| chars(n)).max().unwrap_or(0)).collect();
        let total: usize = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        if total < width || rows == count {
            chosen = (rows, widths);
            break;
        }
    }
    let (rows, widths) = chosen;
    for row in 0..rows.min(count) {
        for (column, width) in widths.iter().enumerate() {
            let Some(name) = names.get(column * rows + row) else { break };
            out.extend_from_slice(name);
            if names.get((column + 1) * rows + row).is_some() {
                out.resize(out.len() + (width + 2).saturating_sub(chars(name)), b' ');
            }
        }
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types the keys one by one at an editor with the prompt `P$ ` and returns what each echoed.
    fn echoes(keys: &[&[u8]]) -> Vec<String> {
        let mut terminal = Terminal::new("xterm-256color", 80, false);
        terminal.begin(b"P$ ");
        let mut out = Vec::new();
        for key in keys {
            terminal.push(key);
            let mut seen = Vec::new();
            while let Some(action) = terminal.next(&mut |_| Completion { replace: 3, words: vec![b"sbin/".to_vec()] }) {
                match action {
                    Action::Echo(bytes) => seen.extend(bytes),
                    Action::Line(_) | Action::Interrupt => {
                        terminal.begin(b"P$ ");
                    }
                    Action::Eof => {}
                }
            }
            out.push(seen.escape_ascii().to_string());
        }
        out
    }

    #[test]
    fn editor_echoes_as_recorded_from_bash() {
        // Recorded from bash 5.2.15 on a pty with TERM=xterm-256color.
        let keys: [(&[u8], &str); 16] = [
            (b"echo hi\r", r"echo hi\r\n\x1b[?2004l\r"),
            (b"abc", "abc"),
            (b"\x7f", r"\x08 \x08"),
            (b"\x1b[D", r"\x08"),
            (b"X", r"Xb\x08"),
            (b"\x7f", r"\x08\x1b[1Pb\x08"),
            (b"\x01", r"\x08"),
            (b"\x05", "ab"),
            (b"\x15", r"\x08\x08\x1b[K"),
            (b"hello world foo", "hello world foo"),
            (b"\x17", r"\x08\x08\x08\x1b[K"),
            (b"\x03", r"^C\x1b[?2004l\r\x1b[?2004h\x1b[?2004l\r\r\n"),
            (b"\x1b[A", "echo hi"),
            (b"\x1b[A", r"\x07"),
            (b"\x03", r"^C\x1b[?2004l\r\x1b[?2004h\x1b[?2004l\r\r\n"),
            (b"\x04", r"\x1b[?2004l\r\r\n"),
        ];
        let typed: Vec<&[u8]> = keys.iter().map(|k| k.0).collect();
        let wanted: Vec<String> = keys.iter().map(|k| k.1.to_owned()).collect();
        assert_eq!(echoes(&typed), wanted);
    }

    #[test]
    fn completes_and_clears() {
        assert_eq!(echoes(&[b"ls /usr/sbi\t", b"\x0c"]), ["ls /usr/sbin/", r"\x1b[H\x1b[2JP$ ls /usr/sbin/"]);
    }

    #[test]
    fn cooked_lines_and_secrets() {
        let mut terminal = Terminal::new("xterm", 80, true);
        terminal.set_mode(Mode::Cooked);
        terminal.push(b"ab\x7fc\r\nx\x03");
        let mut none = |_: &[u8]| Completion::default();
        assert_eq!(terminal.next(&mut none), Some(Action::Echo(b"ab\x08 \x08c\r\n".to_vec())));
        assert_eq!(terminal.next(&mut none), Some(Action::Line(b"ac".to_vec())));
        assert_eq!(terminal.next(&mut none), Some(Action::Echo(b"x^C\r\n".to_vec())));
        assert_eq!(terminal.next(&mut none), Some(Action::Interrupt));
        terminal.set_mode(Mode::Secret);
        terminal.push(b"s3cret\r");
        assert_eq!(terminal.next(&mut none), Some(Action::Echo(b"\r\n".to_vec())));
        assert_eq!(terminal.next(&mut none), Some(Action::Line(b"s3cret".to_vec())));
        assert_eq!(terminal.next(&mut none), None);
    }

    #[test]
    fn queue_and_line_are_bounded() {
        let mut terminal = Terminal::new("xterm", 80, false);
        assert_eq!(terminal.push(&vec![b'a'; QUEUE + 10]), QUEUE);
        while terminal.next(&mut |_| Completion::default()).is_some() {}
        assert!(terminal.line.len() <= limits::LINE);
    }
}
