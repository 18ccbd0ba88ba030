//! A visitor's terminal bytes made inert for the analyst's terminal.
//!
//! Passed: printable text, CR, LF, BS, TAB, and of the control sequences only colours (SGR without
//! conceal) and cursor movement and erasing within the screen. Dropped whole: OSC (titles, links,
//! clipboard), DCS, APC, PM, SOS, device queries (their answers would be typed into the analyst's
//! shell), modes, scroll regions, character sets, BEL, C1 controls. Bidirectional marks and other
//! deceptive characters become visible escapes.

/// Longest control sequence looked at; a longer one is dropped to its end.
const MAX_SEQUENCE: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Text,
    Escape,
    /// Escape with intermediate bytes: one more final byte.
    Intermediate,
    Csi,
    /// OSC, DCS, APC, PM or SOS: dropped up to ST or BEL, or the end of the line, so that one that
    /// never ends cannot hide what follows.
    Text7,
}

/// The filter; keeps its place between chunks.
#[derive(Default)]
pub struct Filter {
    state: State,
    sequence: Vec<u8>,
    /// Start of a character whose rest is in the next chunk.
    partial: Vec<u8>,
}

impl Filter {
    /// The inert text of the next bytes.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut out = String::with_capacity(bytes.len());
        for byte in bytes {
            self.byte(*byte, &mut out);
        }
        out
    }

    /// What is left when no more bytes come.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        self.flush_partial(&mut out);
        self.state = State::Text;
        out
    }

    fn flush_partial(&mut self, out: &mut String) {
        let partial = std::mem::take(&mut self.partial);
        out.push_str(&glasshive_event::text::escape_bytes(&partial));
    }

    fn byte(&mut self, byte: u8, out: &mut String) {
        match (self.state, byte) {
            (State::Text, 0x80..) => self.wide(byte, out),
            (State::Text, _) => {
                self.flush_partial(out);
                match byte {
                    0x1b => self.state = State::Escape,
                    b'\r' | b'\n' | 0x08 | b'\t' | 0x20..=0x7e => out.push(char::from(byte)),
                    _ => {}
                }
            }
            // CAN and SUB end any sequence.
            (_, 0x18 | 0x1a) => self.state = State::Text,
            (State::Escape | State::Csi | State::Intermediate, 0x1b) => self.state = State::Escape,
            (State::Escape, b'[') => {
                self.sequence.clear();
                self.state = State::Csi;
            }
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => self.state = State::Text7,
            (State::Escape, 0x20..=0x2f) => self.state = State::Intermediate,
            (State::Escape, _) => self.state = State::Text,
            (State::Intermediate, 0x20..=0x2f) => {}
            (State::Intermediate, _) => self.state = State::Text,
            (State::Csi, 0x40..=0x7e) => {
                self.state = State::Text;
                if let Some(sequence) = self.allowed(byte) {
                    out.push_str(&sequence);
                }
            }
            (State::Csi, 0x20..=0x3f) => {
                if self.sequence.len() < MAX_SEQUENCE {
                    self.sequence.push(byte);
                }
            }
            (State::Csi, 0x80..) => self.state = State::Text,
            // C0 inside a sequence would be executed by a terminal; here it is dropped.
            (State::Csi, _) => {}
            (State::Text7, 0x07) => self.state = State::Text,
            (State::Text7, b'\n') => {
                self.state = State::Text;
                out.push('\n');
            }
            // ST is ESC \ and nothing else may follow inside.
            (State::Text7, 0x1b) => self.state = State::Escape,
            (State::Text7, _) => {}
        }
    }

    /// One byte of a character of several.
    fn wide(&mut self, byte: u8, out: &mut String) {
        if byte >= 0xc0 {
            self.flush_partial(out);
        }
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(text) => {
                out.push_str(&glasshive_event::text::escape(text));
                self.partial.clear();
            }
            Err(error) if error.error_len().is_none() => {}
            Err(_) => self.flush_partial(out),
        }
    }

    /// The sequence as it may be sent, or nothing.
    fn allowed(&self, last: u8) -> Option<String> {
        if self.sequence.len() >= MAX_SEQUENCE || !self.sequence.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':')) {
            return None;
        }
        let text = std::str::from_utf8(&self.sequence).ok()?;
        let numbers: Vec<&str> = text.split([';', ':']).collect();
        if numbers.len() > 16 || numbers.iter().any(|number| number.len() > 4) {
            return None;
        }
        let good = match last {
            b'm' => !conceals(text),
            // Cursor movement, erasing, inserting and deleting within the screen.
            b'A'..=b'H' | b'J' | b'K' | b'L' | b'M' | b'P' | b'X' | b'@' | b'd' | b'f' | b'`' | b'a' | b'e' => true,
            _ => false,
        };
        // 3 J would erase the analyst's own scroll-back.
        let good = good && !(last == b'J' && numbers.first().is_some_and(|number| number.trim_start_matches('0') == "3"));
        good.then(|| format!("\x1b[{text}{}", char::from(last)))
    }
}

/// Whether an SGR hides text (parameter 8 outside a colour).
fn conceals(text: &str) -> bool {
    let mut numbers = text.split(';').map(|number| number.trim_start_matches('0'));
    while let Some(number) = numbers.next() {
        match number {
            "8" => return true,
            "38" | "48" | "58" => match numbers.next() {
                Some("5") => {
                    numbers.next();
                }
                Some("2") => {
                    numbers.nth(2);
                }
                _ => {}
            },
            _ => {}
        }
    }
    false
}

/// What puts the analyst's terminal right again after a replay.
pub const RESTORE: &str = "\x1b[0m";

/// Removes the allowed sequences too: for output that is not a terminal.
pub fn plain(inert: &str) -> String {
    let mut out = String::with_capacity(inert.len());
    let mut chars = inert.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                for c in chars.by_ref() {
                    if c.is_ascii_alphabetic() || matches!(c, '@' | '`') {
                        break;
                    }
                }
            }
            '\r' | '\x08' => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filtered(bytes: &[u8]) -> String {
        let mut filter = Filter::default();
        let mut out = filter.push(bytes);
        out.push_str(&filter.finish());
        out
    }

    #[test]
    fn passes_what_is_safe_and_drops_the_rest() {
        let cases: &[(&[u8], &str)] = &[
            (b"ls\r\n\x08\t", "ls\r\n\x08\t"),
            (b"\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
            (b"\x1b[38;5;8mgrey\x1b[38;2;8;8;8mx", "\x1b[38;5;8mgrey\x1b[38;2;8;8;8mx"),
            (b"\x1b[8mhidden\x1b[0;08mx", "hiddenx"),
            (b"\x1b[10;20Hx\x1b[2J\x1b[3J\x1b[K", "\x1b[10;20Hx\x1b[2J\x1b[K"),
            (b"\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x1b]52;c;aGk=\x07c", "abc"),
            (b"\x1bP$q\"p\x1b\\a\x1b_x\x1b\\b\x1b^x\x1b\\c\x1bXx\x1b\\d", "abcd"),
            (b"\x1b[6n\x1b[c\x1b[>c\x1b[?1049h\x1b[21t\x1b[5i\x1b[1;5r\x1b[?25lx", "x"),
            (b"\x1bc\x1b7\x1b8\x1b(0\x1b#8x\x07\x00\x0e\x0f\x05y", "xy"),
            (b"\x1b[99999999999999999999Ax", "x"),
            (b"\x1b]never ends\nx", "\nx"),
            ("gr\u{fc}n \u{65e5}\u{202e}x\u{9b}31m".as_bytes(), "gr\u{fc}n \u{65e5}\\u{202e}x\\u{9b}31m"),
            (b"\xff\xc3x\xc3", "\\xff\\xc3x\\xc3"),
            (b"\x1b[31\x1b[32mx", "\x1b[32mx"),
            (b"\x1b[31\x18mx", "mx"),
        ];
        for (input, expected) in cases {
            assert_eq!(&filtered(input), expected, "{}", glasshive_event::text::escape_bytes(input));
        }
        assert_eq!(plain("\x1b[1;31mred\x1b[0m\r\n"), "red\n");
    }

    /// Whatever comes out is text and allowed sequences only, however the bytes are cut.
    fn inert(out: &str) -> bool {
        let mut rest = out;
        while let Some(at) = rest.find('\x1b') {
            let tail = rest.get(at + 1..).unwrap_or_default();
            let Some(tail) = tail.strip_prefix('[') else { return false };
            let tail = tail.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';' || c == ':');
            let Some(last) = tail.chars().next() else { return false };
            if !"mABCDEFGHJKLMPX@df`ae".contains(last) {
                return false;
            }
            rest = tail;
        }
        out.chars().all(|c| !c.is_control() || "\r\n\x08\t\x1b".contains(c))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::fuzz_cases()))]
        #[test]
        fn hostile_bytes_are_inert(parts in proptest::collection::vec(prop_oneof![
            any::<Vec<u8>>(), Just(b"\x1b[".to_vec()), Just(b"\x1b]".to_vec()), Just(b"\x1b".to_vec()), Just(b"8m".to_vec()),
            Just(b"\x07".to_vec()), Just(b"\xc2\x9b".to_vec()), Just("\u{202e}".as_bytes().to_vec()), "[0-9;:?>]{0,6}[ -~]".prop_map(String::into_bytes),
        ], 0..12)) {
            let whole: Vec<u8> = parts.concat();
            let at_once = filtered(&whole);
            let mut filter = Filter::default();
            let mut pieces: String = parts.iter().map(|part| filter.push(part)).collect();
            pieces.push_str(&filter.finish());
            prop_assert_eq!(&pieces, &at_once);
            prop_assert!(inert(&at_once), "{:?}", at_once);
            prop_assert!(plain(&at_once).chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        }
    }
}
