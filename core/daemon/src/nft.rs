//! Loading a firewall ruleset, whole or not at all, through `nft -f -`.
//!
//! Call it before the lockdown: afterwards no program can be started.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

/// Most of nft's own words kept in an error.
const MAX_WORDS: usize = 400;

/// Why a ruleset is not in force. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// There is no nft.
    #[error("nft: not found: install nftables (apt-get install nftables)")]
    Missing,
    /// It could not be started or spoken to.
    #[error("nft: cannot be run: {0}")]
    Run(#[from] io::Error),
    /// The kernel says no.
    #[error("nft: not permitted: start as root or grant CAP_NET_ADMIN")]
    Permission,
    /// The ruleset is refused.
    #[error("nft: ruleset refused: {0}")]
    Refused(String),
}

/// Loads `ruleset` in one transaction.
///
/// # Errors
/// [`NftError`]; then nothing of it is in force.
pub fn apply(ruleset: &str) -> Result<(), NftError> {
    run(&["-f", "-"], ruleset)
}

/// Asks whether `ruleset` would load, without loading it (needs the same permission).
///
/// # Errors
/// [`NftError`].
pub fn check(ruleset: &str) -> Result<(), NftError> {
    run(&["-c", "-f", "-"], ruleset)
}

/// Whether this process may load rules.
pub fn is_permitted() -> bool {
    caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_NET_ADMIN).unwrap_or(false)
}

/// Removes a table, such as `inet glasshive`; one that is not there is no fault.
///
/// # Errors
/// [`NftError`].
pub fn remove_table(table: &str) -> Result<(), NftError> {
    apply(&format!("add table {table}\ndelete table {table}\n"))
}

fn run(arguments: &[&str], ruleset: &str) -> Result<(), NftError> {
    run_program("nft", arguments, ruleset)
}

fn run_program(program: &str, arguments: &[&str], ruleset: &str) -> Result<(), NftError> {
    // Not every service's PATH has sbin, and a rootful daemon should not search a caller's.
    let path = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
    let started = Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NftError::Missing),
        other => other?,
    };
    // nft reads its whole input before it writes, so writing first cannot deadlock. It may leave
    // early on bad input: its words say more than the broken pipe.
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(ruleset.as_bytes()));
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(written?);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    if words.contains("Operation not permitted") || words.contains("you must be root") {
        return Err(NftError::Permission);
    }
    Err(NftError::Refused(one_line(&words)))
}

/// nft shows the line and carets below it: keep the message and the line.
fn one_line(words: &str) -> String {
    let kept = words.lines().map(str::trim).filter(|line| !line.is_empty() && !line.chars().all(|c| matches!(c, '^' | ' ' | '~')));
    kept.collect::<Vec<_>>().join(": ").chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_program_says_what_to_install() {
        let error = run_program("glasshive-no-such-program", &[], "").unwrap_err();
        assert_eq!(error.to_string(), "nft: not found: install nftables (apt-get install nftables)");
    }

    #[test]
    fn words_become_one_line() {
        let words = "/dev/stdin:1:7-9: Error: syntax error, unexpected newline\ntable inet\n          ^\n";
        assert_eq!(one_line(words), "/dev/stdin:1:7-9: Error: syntax error, unexpected newline: table inet");
        assert_eq!(one_line("\n\n"), "");
    }

    /// The real nft where there is one and we may ask it; it only checks, nothing is loaded.
    #[test]
    fn real_nft_is_understood() {
        let unasked = |result: &Result<(), NftError>| matches!(result, Err(NftError::Missing | NftError::Permission));
        let good = check("add table inet glasshive_check\ndelete table inet glasshive_check\n");
        assert!(good.is_ok() || unasked(&good), "{good:?}");
        let bad = check("table inet glasshive_check { nonsense }\n");
        assert!(
            unasked(&bad) || matches!(&bad, Err(NftError::Refused(words)) if words.contains("nonsense") && !words.contains('\n')),
            "{bad:?}"
        );
    }

    #[test]
    fn refusal_is_one_line() {
        // A stand-in that reads all, complains as nft does and fails.
        let error = run_program("sh", &["-c", "cat >/dev/null; printf 'Error: bad\\nrule\\n^^\\n' >&2; exit 1"], "x\n").unwrap_err();
        assert_eq!(error.to_string(), "nft: ruleset refused: Error: bad: rule");
        let error = run_program("sh", &["-c", "echo 'Operation not permitted (you must be root)' >&2; exit 1"], "").unwrap_err();
        assert_eq!(error.to_string(), "nft: not permitted: start as root or grant CAP_NET_ADMIN");
        assert!(run_program("sh", &["-c", "cat >/dev/null"], &"x\n".repeat(100_000)).is_ok());
    }
}
