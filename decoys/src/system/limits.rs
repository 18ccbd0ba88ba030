//! Bounds on what one visitor can make the pretended system do.

/// Work units per [`run`](super::Shell::run): about one per command, expansion or KiB handled.
pub const STEPS: u64 = 150_000;
/// Bytes of standard output plus standard error of one run; more ends the run as a killed one.
pub const OUTPUT: usize = 1 << 20;
/// Bytes one pipe, command substitution or standard input may hold.
pub const PIPE: usize = 1 << 20;
/// Bytes of one command line or script.
pub const SOURCE: usize = 256 << 10;
/// Bytes of all variables, functions and aliases of one shell.
pub const STATE: usize = 256 << 10;
/// Levels of nested syntax (substitutions, groups, quotes).
pub const SYNTAX_DEPTH: usize = 24;
/// Levels of nested running (functions, scripts, substitutions).
pub const RUN_DEPTH: usize = 32;
/// Commands being run inside each other.
pub const NEST: usize = 200;
/// Stages of one pipeline.
pub const PIPELINE: usize = 64;
/// Words one command line may expand to.
pub const WORDS: usize = 16_384;
/// Bytes of files one source may keep on one decoy.
pub const SOURCE_BYTES: usize = 16 << 20;
/// Files, directories and deletions one source may keep on one decoy.
pub const SOURCE_NODES: usize = 2_048;
/// Sources one decoy remembers.
pub const SOURCES: usize = 512;
/// Bytes of files one decoy keeps for all sources together.
pub const TOTAL_BYTES: usize = 128 << 20;
/// Lines of history kept.
pub const HISTORY: usize = 500;
/// Written files, downloads and executions reported by one run.
pub const REPORTS: usize = 128;
/// Longest path in bytes (`PATH_MAX`).
pub const PATH: usize = 4_096;
/// Symbolic links followed in one look-up.
pub const LINKS: usize = 40;
/// Longest line a [`Terminal`](super::Terminal) edits.
pub const LINE: usize = 8_192;
