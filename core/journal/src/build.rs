//! What this build calls itself: its version, and the schema of the databases it writes.
//!
//! Both are constants. An upgrade is tested between two builds of one tree, though, and the second of them is told
//! at build time to be another: its `main` hands [`pretend`] what `GLASSHIVE_TEST_STAMP` held then
//! (`VERSION+SCHEMA`, such as `0.2.0+2`). Only the programs' own files read that variable, so that such a build
//! compiles nothing else anew. Packages of a release are built without it.

use std::sync::OnceLock;

/// Schema of the databases this tree writes. Raise it with the first change an older program could not read, and
/// convert in [`crate::schema::settle`].
const SCHEMA: u32 = 1;

static STAMP: OnceLock<(&'static str, u32)> = OnceLock::new();

/// Takes another version and schema than the tree's; the first call of a program's `main`. What is not
/// `VERSION+SCHEMA` changes nothing.
pub fn pretend(stamp: Option<&'static str>) {
    if let Some((version, schema)) = stamp.and_then(|stamp| stamp.split_once('+'))
        && let Ok(schema) = schema.parse()
    {
        let _ = STAMP.set((version, schema));
    }
}

/// Version of the product.
pub fn version() -> &'static str {
    STAMP.get().map_or(env!("CARGO_PKG_VERSION"), |stamp| stamp.0)
}

/// Newest schema this program reads, and the one it writes.
pub fn schema() -> u32 {
    STAMP.get().map_or(SCHEMA, |stamp| stamp.1)
}

/// What `--version` prints behind the program's name: `0.1.0, schema 1`.
pub fn long_version() -> &'static str {
    static LONG: OnceLock<String> = OnceLock::new();
    LONG.get_or_init(|| format!("{}, schema {}", version(), schema()))
}
