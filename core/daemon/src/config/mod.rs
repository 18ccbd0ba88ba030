//! Configuration: a TOML file, then `GLASSHIVE_*` variables, then flags, into one checked type.
//!
//! Every failure is one line that names the place, the key and what to do about it. A daemon never
//! starts on a key it does not know: types loaded here should carry `#[serde(deny_unknown_fields)]`.

mod diagnose;
mod error;
mod units;

pub use error::{ConfigError, Place};
pub use units::{HostPort, Listen, ParseUnitError, Period, Prefix, Size};

use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Start of every environment variable of ours.
pub const PREFIX: &str = "GLASSHIVE_";

/// Variables that are not configuration keys: read by telemetry, the flags and the test suites.
const RESERVED: &[&str] =
    &["LOG", "LOG_FORMAT", "CONFIG", "PARENT", "CORPUS", "FUZZ", "SEED", "SEEDS", "CONNECTIONS", "KILLS", "IMAGES", "JOURNAL_CHILD"];

/// Largest configuration file read.
const MAX_FILE: u64 = 4 << 20;

/// Where a configuration comes from, lowest layer first.
#[derive(Debug, Clone)]
pub struct Source {
    path: PathBuf,
    required: bool,
    overrides: Vec<Override>,
}

/// A configuration with its file's text, so that later checks can still name the line.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The checked values.
    pub value: T,
    /// The file read (it may not exist when the source was optional).
    pub path: PathBuf,
    text: String,
    overrides: Vec<Override>,
}

/// One key set from outside the file.
#[derive(Debug, Clone)]
struct Override {
    place: Place,
    key: Vec<String>,
    value: Value,
    /// The text as given, when `value` was guessed from it.
    raw: Option<String>,
}

impl Source {
    /// A file that must exist.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), required: true, overrides: Vec::new() }
    }

    /// A file that counts as empty when it does not exist.
    pub fn optional(path: impl Into<PathBuf>) -> Self {
        Self { required: false, ..Self::file(path) }
    }

    /// Adds the process's `GLASSHIVE_*` variables: `GLASSHIVE_JOURNAL__QUOTA` sets `journal.quota`.
    pub fn environment(self) -> Self {
        self.variables(std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))))
    }

    /// Adds variables from elsewhere (tests); names without our prefix are ignored.
    pub fn variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut named: Vec<_> = variables.into_iter().filter(|(name, _)| is_key(name)).collect();
        named.sort();
        for (name, raw) in named {
            let key = name.strip_prefix(PREFIX).unwrap_or_default().to_ascii_lowercase();
            let key = key.split("__").map(str::to_owned).collect();
            self.overrides.push(Override { place: Place::Variable(name), key, value: guess(&raw), raw: Some(raw) });
        }
        self
    }

    /// Sets a dotted key from a command-line flag, when the flag was given.
    pub fn flag<V: Into<Value>>(mut self, key: &str, value: Option<V>) -> Self {
        if let Some(value) = value {
            let place = Place::Flag(key.rsplit('.').next().unwrap_or(key).replace('_', "-"));
            self.overrides.push(Override { place, key: key.split('.').map(str::to_owned).collect(), value: value.into(), raw: None });
        }
        self
    }

    /// Reads, layers and checks.
    ///
    /// # Errors
    /// [`ConfigError`]; its `Display` is the one line for the operator.
    pub fn load<T: DeserializeOwned>(self) -> Result<Loaded<T>, ConfigError> {
        let text = read(&self.path, self.required)?;
        let Self { path, mut overrides, .. } = self;
        let base: Table = text.parse().map_err(|error| diagnose::syntax(&path, &text, &error))?;
        let mut result = attempt::<T>(&base, &overrides);
        // A guessed number or boolean may have been meant as text: try the text where that helps.
        for index in 0..overrides.len() {
            let Err(before) = &result else { break };
            let before = before.to_string();
            let Some(item) = overrides.get_mut(index) else { break };
            let Some(raw) = item.raw.clone().filter(|_| !item.value.is_str()) else { continue };
            let guessed = std::mem::replace(&mut item.value, Value::String(raw));
            let retried = attempt::<T>(&base, &overrides);
            if retried.as_ref().err().is_some_and(|after| after.to_string() == before) {
                if let Some(item) = overrides.get_mut(index) {
                    item.value = guessed;
                }
            } else {
                result = retried;
            }
        }
        match result {
            Ok(value) => Ok(Loaded { value, path, text, overrides }),
            Err(error) => Err(diagnose::explain::<T>(&path, &text, &base, &overrides, &error)),
        }
    }
}

impl<T> Loaded<T> {
    /// The error for a value that parsed but cannot be used, with the line of its dotted key.
    pub fn refuse(&self, key: &str, why: impl Into<String>) -> ConfigError {
        let segments: Vec<String> = key.split('.').map(str::to_owned).collect();
        let place = match self.overrides.iter().rev().find(|item| item.key == segments) {
            Some(item) => item.place.clone(),
            None => Place::File { path: self.path.clone(), line: diagnose::line_of(&self.text, &segments) },
        };
        ConfigError::Value { place, key: key.to_owned(), why: why.into() }
    }
}

fn is_key(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| !rest.is_empty() && !rest.starts_with("TEST_") && !RESERVED.contains(&rest))
}

fn read(path: &Path, required: bool) -> Result<String, ConfigError> {
    use std::io::Read as _;
    let unreadable = |why: String| ConfigError::Unreadable { path: path.to_owned(), why };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => return Ok(String::new()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(ConfigError::NotFound { path: path.to_owned() }),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let mut text = String::new();
    match file.take(MAX_FILE + 1).read_to_string(&mut text) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(unreadable("it is not UTF-8 text".to_owned())),
        Err(error) => Err(unreadable(error.to_string())),
        Ok(_) if text.len() as u64 > MAX_FILE => Err(unreadable("it is larger than 4 MiB".to_owned())),
        Ok(_) => Ok(text),
    }
}

fn attempt<T: DeserializeOwned>(base: &Table, overrides: &[Override]) -> Result<T, toml::de::Error> {
    T::deserialize(Value::Table(merge(base, overrides)))
}

fn merge(base: &Table, overrides: &[Override]) -> Table {
    let mut merged = base.clone();
    for item in overrides {
        set(&mut merged, &item.key, item.value.clone());
    }
    merged
}

fn set(table: &mut Table, key: &[String], value: Value) {
    match key {
        [] => {}
        [last] => {
            table.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let slot = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
            if !slot.is_table() {
                *slot = Value::Table(Table::new());
            }
            if let Some(inner) = slot.as_table_mut() {
                set(inner, rest, value);
            }
        }
    }
}

/// Reads a variable's text as a TOML value when it is one, as plain text when not.
fn guess(raw: &str) -> Value {
    format!("value = {raw}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(raw.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Config {
        name: String,
        #[serde(default)]
        workers: u16,
        #[serde(default)]
        journal: Journal,
        #[serde(default)]
        decoy: Vec<Decoy>,
        #[serde(default)]
        mode: Mode,
    }

    #[derive(Debug, Deserialize, PartialEq, Default)]
    #[serde(deny_unknown_fields, default)]
    struct Journal {
        quota: Size,
        max_age: Period,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Decoy {
        address: std::net::IpAddr,
    }

    #[derive(Debug, Deserialize, PartialEq, Default)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        #[default]
        Pause,
        DropOldest,
    }

    fn load(text: &str, variables: &[(&str, &str)], flags: &[(&str, Value)]) -> Result<Loaded<Config>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        let mut source = Source::file(&path).variables(variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        for (key, value) in flags {
            source = source.flag(key, Some(value.clone()));
        }
        source.load().map_err(|error| error.to_string().replace(dir.path().to_str().unwrap(), "/d"))
    }

    #[track_caller]
    fn refused(text: &str, variables: &[(&str, &str)], flags: &[(&str, Value)], expected: &str) {
        let error = load(text, variables, flags).unwrap_err();
        assert!(!error.contains('\n'), "{error:?}");
        assert_eq!(error, expected);
    }

    #[test]
    fn layers() {
        let text = "name = \"a\"\nworkers = 1\n[journal]\nquota = \"4 MiB\"\n";
        let env = [("GLASSHIVE_WORKERS", "2"), ("GLASSHIVE_JOURNAL__MAX_AGE", "30d"), ("GLASSHIVE_LOG", "debug"), ("PATH", "/bin")];
        let loaded = load(text, &env, &[("workers", Value::Integer(3))]).unwrap();
        assert_eq!(loaded.value.workers, 3);
        assert_eq!(loaded.value.journal.quota, Size(4 << 20));
        assert_eq!(loaded.value.journal.max_age.0.as_secs(), 30 * 86_400);
        // A name made of digits stays text, and a variable may supply what the file lacks.
        let loaded = load("", &[("GLASSHIVE_NAME", "123"), ("GLASSHIVE_WORKERS", "7")], &[]).unwrap();
        assert_eq!((loaded.value.name.as_str(), loaded.value.workers), ("123", 7));
        assert_eq!(loaded.value.mode, Mode::Pause);
    }

    #[test]
    fn one_line_for_each_fault() {
        refused("name = \"a\"\n[journal]\nqouta = 1\n", &[], &[], "/d/x.toml:3: unknown key `journal.qouta`: did you mean `quota`?");
        refused(
            "name = \"a\"\nzzzzzzzz = 1\n",
            &[],
            &[],
            "/d/x.toml:2: unknown key `zzzzzzzz`: remove it; keys here are `name`, `workers`, `journal`, `decoy`, `mode`",
        );
        refused("workers = 1\n", &[], &[], "/d/x.toml: missing key `name`: add a line `name = …`");
        refused(
            "name = \"a\"\n\n[[decoy]]\naddress = \"::1\"\n[[decoy]]\n",
            &[],
            &[],
            "/d/x.toml:5: missing key `decoy[1].address`: add a line `address = …` under it",
        );
        refused("name = \"a\"\nworkers = \"x\"\n", &[], &[], "/d/x.toml:2: key `workers`: invalid type: string \"x\", expected u16");
        refused("name = \"a\"\nworkers = 70000\n", &[], &[], "/d/x.toml:2: key `workers`: invalid value: integer `70000`, expected u16");
        refused(
            "name = \"a\"\n[journal]\nquota = \"4 parsecs\"\n",
            &[],
            &[],
            "/d/x.toml:3: key `journal.quota`: \"4 parsecs\" is not a size; write a number with B, KiB, MiB, GiB, TiB, kB, MB, GB or TB, such as \"4 MiB\"",
        );
        refused(
            "name = \"a\"\nmode = \"drop_oldst\"\n",
            &[],
            &[],
            "/d/x.toml:2: key `mode`: `drop_oldst` is not one of `pause`, `drop_oldest`: did you mean `drop_oldest`?",
        );
        refused(
            "name = \"a\"\n[[decoy]]\naddress = \"10.0.0\"\n",
            &[],
            &[],
            "/d/x.toml:3: key `decoy[0].address`: invalid IP address syntax",
        );
    }

    #[test]
    fn syntax_faults_name_the_line() {
        for text in ["name = \n", "name = \"a\"\nname = \"b\"\n", "[a\n", "name = \"a", "\u{0}"] {
            let error = load(text, &[], &[]).unwrap_err();
            assert!(error.starts_with("/d/x.toml:") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn faults_outside_the_file_name_their_place() {
        refused(
            "name = \"a\"\n",
            &[("GLASSHIVE_WORKERS", "many")],
            &[],
            "environment GLASSHIVE_WORKERS: key `workers`: invalid type: string \"many\", expected u16",
        );
        refused(
            "name = \"a\"\n",
            &[("GLASSHIVE_WROKERS", "1")],
            &[],
            "environment GLASSHIVE_WROKERS: unknown key `wrokers`: did you mean `workers`?",
        );
        refused(
            "name = \"a\"\n",
            &[],
            &[("journal.quota", Value::from("1 x"))],
            "flag --quota: key `journal.quota`: \"1 x\" is not a size; write a number with B, KiB, MiB, GiB, TiB, kB, MB, GB or TB, such as \"4 MiB\"",
        );
    }

    #[test]
    fn files_that_cannot_be_read() {
        let missing = Source::file("/nonexistent/x.toml").load::<Config>().unwrap_err().to_string();
        assert_eq!(missing, "/nonexistent/x.toml: no such file: create it, or name another with --config FILE");
        assert!(Source::optional("/nonexistent/x.toml").flag("name", Some("n")).load::<Config>().is_ok());
        let dir = tempfile::tempdir().unwrap();
        let error = Source::file(dir.path()).load::<Config>().unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
        let binary = dir.path().join("b");
        std::fs::write(&binary, [0xff, 0xfe]).unwrap();
        assert!(Source::file(&binary).load::<Config>().unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn later_checks_still_name_the_line() {
        let loaded = load("name = \"a\"\n[journal]\nquota = 1\n", &[("GLASSHIVE_WORKERS", "1")], &[]).unwrap();
        let dir = loaded.path.parent().unwrap().to_str().unwrap().to_owned();
        let shown = |key: &str| loaded.refuse(key, "too small; use at least 1 MiB").to_string().replace(&dir, "/d");
        assert_eq!(shown("journal.quota"), "/d/x.toml:3: key `journal.quota`: too small; use at least 1 MiB");
        assert_eq!(shown("workers"), "environment GLASSHIVE_WORKERS: key `workers`: too small; use at least 1 MiB");
        assert_eq!(shown("mode"), "/d/x.toml: key `mode`: too small; use at least 1 MiB");
    }
}
