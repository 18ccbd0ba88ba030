//! The shell's builtin commands: one line in [`BUILTINS`] each.

mod control;
mod jobs;
mod vars;

use super::{commands::Run, shell::state::State};

/// One builtin.
pub(super) struct Builtin {
    pub name: &'static str,
    pub run: Run,
    /// Known to `dash` too.
    posix: bool,
}

macro_rules! builtins {
    ($($name:literal $posix:literal => $run:path),* $(,)?) => {
        static BUILTINS: &[Builtin] = &[$(Builtin { name: $name, run: $run, posix: $posix }),*];
    };
}

builtins! {
    "." true => control::source,
    ":" true => control::nothing,
    "[" true => control::test,
    "alias" true => vars::alias,
    "bg" true => jobs::background,
    "bind" false => control::nothing,
    "break" true => control::leave_loop,
    "builtin" false => control::builtin,
    "caller" false => control::no,
    "cd" true => control::cd,
    "command" true => control::command,
    "compgen" false => control::nothing,
    "complete" false => control::nothing,
    "continue" true => control::leave_loop,
    "declare" false => vars::declare,
    "dirs" false => control::dirs,
    "disown" false => control::nothing,
    "echo" true => control::echo,
    "enable" false => jobs::enable,
    "eval" true => control::eval,
    "exec" true => control::exec,
    "exit" true => control::exit,
    "export" true => vars::export,
    "false" true => control::no,
    "fc" true => control::nothing,
    "fg" true => jobs::background,
    "getopts" true => vars::getopts,
    "hash" true => control::nothing,
    "help" false => jobs::help,
    "history" false => jobs::history,
    "jobs" true => jobs::jobs,
    "kill" true => jobs::kill,
    "let" false => vars::arithmetic,
    "local" true => vars::local,
    "logout" false => control::exit,
    "mapfile" false => vars::mapfile,
    "popd" false => control::popd,
    "printf" true => control::printf,
    "pushd" false => control::pushd,
    "pwd" true => control::pwd,
    "read" true => vars::read,
    "readarray" false => vars::mapfile,
    "readonly" true => vars::readonly,
    "return" true => control::give_back,
    "set" true => vars::set,
    "shift" true => vars::shift,
    "shopt" false => vars::shopt,
    "source" false => control::source,
    "suspend" false => control::nothing,
    "test" true => control::test,
    "times" true => jobs::times,
    "trap" true => vars::trap,
    "true" true => control::nothing,
    "type" true => control::type_of,
    "typeset" false => vars::declare,
    "ulimit" true => jobs::ulimit,
    "umask" true => jobs::umask,
    "unalias" true => vars::unalias,
    "unset" true => vars::unset,
    "wait" true => control::nothing,
}

/// The builtin of this name.
pub(super) fn find(name: &[u8], posix: bool) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|b| b.name.as_bytes() == name && (b.posix || !posix))
}

/// All names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    BUILTINS.iter().map(|b| b.name)
}

/// Makes a variable local to the running function: its old value comes back afterwards.
pub(super) fn make_local(st: &mut State, name: &[u8]) {
    let old = st.vars.get(name).cloned();
    if let Some(frame) = st.locals.last_mut()
        && !frame.iter().any(|(n, _)| n == name)
        && frame.len() < 1_024
    {
        frame.push((name.to_vec(), old));
        st.vars.remove(name);
    }
}

/// Reserved words, for `type` and `command -v`.
pub(super) const KEYWORDS: [&str; 22] = [
    "if", "then", "else", "elif", "fi", "case", "esac", "for", "select", "while", "until", "do", "done", "in", "function", "time", "{",
    "}", "!", "[[", "]]", "coproc",
];
