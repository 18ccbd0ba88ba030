//! The bash-like command language: words, grammar, expansion and running.

pub(super) mod arith;
pub(super) mod ast;
pub(super) mod escape;
pub(super) mod exec;
pub(super) mod expand;
pub(super) mod files;
pub(super) mod lexer;
pub(super) mod parser;
pub(super) mod pattern;
pub(super) mod run;
pub(super) mod simple;
pub(super) mod state;
