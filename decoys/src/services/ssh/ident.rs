//! Reads the visitor's identification line byte for byte as OpenSSH 9.2p1 does, and says what that
//! server answers when it is none. It must never hold more than the one line OpenSSH would.

/// Longest line OpenSSH reads before it gives up.
const MAX_LINE: usize = 8192;

/// What the bytes so far amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A line OpenSSH goes on with, without its line end.
    Go(Vec<u8>),
    /// OpenSSH says this and closes.
    Refuse {
        /// What it says, without line end.
        says: &'static str,
        /// What is wrong, for the record.
        what: &'static str,
    },
    /// A known scanner's line: OpenSSH closes without a word.
    Hang(&'static str),
}

/// The line so far.
#[derive(Debug, Default)]
pub(super) struct Ident {
    line: Vec<u8>,
    after_cr: bool,
}

const INVALID: &str = "Invalid SSH identification string.";

impl Ident {
    /// Takes bytes up to the decision; returns how many were used and the decision.
    pub(super) fn push(&mut self, bytes: &[u8]) -> (usize, Option<Verdict>) {
        for (i, &byte) in bytes.iter().enumerate() {
            if let Some(verdict) = self.byte(byte) {
                return (i + 1, Some(verdict));
            }
        }
        (bytes.len(), None)
    }

    /// The bytes of the line so far.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    fn byte(&mut self, byte: u8) -> Option<Verdict> {
        match byte {
            b'\r' => {
                self.after_cr = true;
                return None;
            }
            b'\n' => return Some(judge(&self.line)),
            0 => return Some(Verdict::Refuse { says: INVALID, what: "NUL in the identification line" }),
            _ if self.after_cr => return Some(Verdict::Refuse { says: INVALID, what: "CR inside the identification line" }),
            _ => self.line.push(byte),
        }
        (self.line.len() > MAX_LINE).then_some(Verdict::Refuse { says: INVALID, what: "identification line too long" })
    }
}

fn judge(line: &[u8]) -> Verdict {
    if line.len() <= 4 || !line.starts_with(b"SSH-") {
        return Verdict::Refuse { says: INVALID, what: "not an identification line" };
    }
    let Some((major, minor, software)) = scan(line.get(4..).unwrap_or_default()) else {
        return Verdict::Refuse { says: INVALID, what: "version does not parse" };
    };
    if !(major == 2 || (major == 1 && minor == 99)) {
        return Verdict::Refuse { says: "Protocol major versions differ.", what: "protocol version" };
    }
    if software.starts_with(b"Probe-") {
        return Verdict::Hang("probe");
    }
    if contains(software, b"SSH_Version_Mapper") {
        return Verdict::Hang("version mapper");
    }
    Verdict::Go(line.to_vec())
}

/// `%d.%d-%[^\n]` as the C library scans it: blanks before a number, a sign, silent overflow, and at
/// least one byte of software version.
fn scan(text: &[u8]) -> Option<(i32, i32, &[u8])> {
    let (major, text) = number(text)?;
    let (minor, text) = number(text.strip_prefix(b".")?)?;
    let software = text.strip_prefix(b"-")?;
    (!software.is_empty()).then_some((major, minor, software))
}

fn number(text: &[u8]) -> Option<(i32, &[u8])> {
    let blanks = text.iter().take_while(|b| matches!(b, b' ' | 9..=13)).count();
    let text = text.get(blanks..)?;
    let (negative, text) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let magnitude = text.iter().take(digits).fold(0i64, |n, b| n.saturating_mul(10).saturating_add(i64::from(b - b'0')));
    let value = if negative { magnitude.saturating_neg() } else { magnitude };
    // The library reads a long and stores its low half.
    let [a, b, c, d, ..] = value.to_le_bytes();
    Some((i32::from_le_bytes([a, b, c, d]), text.get(digits..)?))
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn says(bytes: &[u8]) -> String {
        match Ident::default().push(bytes).1 {
            None => "waits".into(),
            Some(Verdict::Go(line)) => format!("go {}", line.escape_ascii()),
            Some(Verdict::Refuse { says, .. }) => says.into(),
            Some(Verdict::Hang(_)) => "hangs up".into(),
        }
    }

    #[test]
    fn lines_as_seen_on_openssh_9_2p1() {
        for (input, expected) in [
            (&b"SSH-2.0-x\r\n"[..], "go SSH-2.0-x"),
            (b"SSH-2.0-x\n", "go SSH-2.0-x"),
            (b"SSH-2.0-x\r\r\n", "go SSH-2.0-x"),
            (b"SSH-2.2-x\r\n", "go SSH-2.2-x"),
            (b"SSH-1.99-x\r\n", "go SSH-1.99-x"),
            (b"SSH-02.0-x\r\n", "go SSH-02.0-x"),
            (b"SSH- 2.0-x\r\n", "go SSH- 2.0-x"),
            (b"SSH-2.0- \r\n", "go SSH-2.0- "),
            (b"SSH-2.0-x", "waits"),
            (b"SSH-2.0-x\r", "waits"),
            (b"SSH-2.0-\r\n", INVALID),
            (b"SSH-2.0\r\n", INVALID),
            (b"SSH-1111-x\r\n", INVALID),
            (b"SSH-\r\n", INVALID),
            (b"GET / HTTP/1.0\r\n\r\n", INVALID),
            (b"\n\n\n\n\n\n\n\n", INVALID),
            (b"SSH-2.0-x\ry\r\n", INVALID),
            (b"SSH-2.0-x\0", INVALID),
            (b"ssh-2.0-x\r\n", INVALID),
            (b"SSH-1.5-x\r\n", "Protocol major versions differ."),
            (b"SSH-3.0-x\r\n", "Protocol major versions differ."),
            (b"SSH--2.0-x\r\n", "Protocol major versions differ."),
            (b"SSH-99999999999.0-x\r\n", "Protocol major versions differ."),
            (b"SSH-2.0-Probe-x\r\n", "hangs up"),
            (b"SSH-2.0-SSH_Version_Mapper\r\n", "hangs up"),
        ] {
            assert_eq!(says(input), expected, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn the_longest_line() {
        let line = |n: usize| [b"SSH-2.0-".as_slice(), &vec![b'a'; n - 8], b"\r\n"].concat();
        assert!(says(&line(8192)).starts_with("go"));
        assert_eq!(says(&line(8193)), INVALID);
        let mut ident = Ident::default();
        assert_eq!(ident.push(&vec![b'a'; 9000]).0, 8193, "no byte is read past the decision");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(std::env::var("GLASSHIVE_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)))]
        #[test]
        fn pieces_do_not_matter(input in proptest::collection::vec(any::<u8>(), 0..64), head in any::<bool>(), cut in 0usize..80) {
            let input = if head { [b"SSH-2.0-".as_slice(), &input].concat() } else { input };
            let whole = Ident::default().push(&input);
            let mut ident = Ident::default();
            let cut = cut.min(input.len());
            let (used, verdict) = ident.push(&input[..cut]);
            let pieces = if verdict.is_some() { (used, verdict) } else { let (more, verdict) = ident.push(&input[cut..]); (used + more, verdict) };
            prop_assert_eq!(whole, pieces);
        }
    }
}
