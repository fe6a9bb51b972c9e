//! What holds in the end: a file, before it the environment, behind both what the machine suggests.
//!
//! The file is checked by itself first, so that its errors have a line and a column; then each variable by itself, so that its
//! errors have its name; then what they are together.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::keys::{Key, Table};
use super::machine::Choice;
use super::{Config, Conflict, Device, tables};
use crate::error::{Error, Kind};

/// What every variable that sets a key begins with. The rest is `TABLE__KEY`.
const PREFIX: &str = "CHRONOTICK_";
/// Between table and key.
const BETWEEN: &str = "__";

/// A configuration and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// What the machine suggested, where the configuration asked for that.
    pub choice: Option<Choice>,
    /// The variables that were heeded.
    pub variables: Vec<String>,
}

/// See [`Config::effective`].
pub(super) fn load(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    choose: impl FnOnce() -> Choice,
) -> Result<Loaded, Error> {
    let document = file.map(Document::read).transpose()?.unwrap_or_else(|| Document::new("", Path::new("")));
    document.parsed()?;
    let overrides = overrides(variables)?;
    let mut merged = document.value()?;
    for Override { table, key, value, .. } in &overrides {
        put(&mut merged, table, key, value.clone());
    }
    let mut config = deserialize(&merged).map_err(|message| document.error(0, &message))?;
    let mut choice = None;
    if config.worker.device == Device::Auto {
        let chosen = choose();
        for (table, key, value) in chosen.suggestions()? {
            if merged.get(&table).and_then(|table| table.get(&key)).is_none() {
                put(&mut merged, &table, &key, value);
            }
        }
        config = deserialize(&merged).map_err(|message| document.error(0, &message))?;
        choice = Some(chosen);
    }
    config.check().map_err(|conflict| {
        let by = |(table, key)| overrides.iter().find(|by| by.table == table && by.key == key);
        match by((conflict.table, conflict.key)).or_else(|| by(conflict.with?)) {
            Some(by) => Error::new(Kind::Config, format!("{}: {} {}", by.variable, conflict.key, conflict.message)),
            None => document.conflict(&conflict),
        }
    })?;
    Ok(Loaded { config, choice, variables: overrides.into_iter().map(|by| by.variable).collect() })
}

/// A variable of the environment that sets a key.
struct Override {
    variable: String,
    table: String,
    key: String,
    value: Value,
}

/// The variables that set keys, in the order of their names, each checked by itself.
fn overrides(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Vec<Override>, Error> {
    let mut found = Vec::new();
    for (name, value) in variables {
        let Some(variable) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        // In the files of containers an empty variable is one that is not set.
        if value.is_empty() {
            continue;
        }
        let name = &variable[PREFIX.len()..];
        let refused = |message: &str| Error::new(Kind::Config, format!("{variable}: {message}"));
        let Some((table, key)) = name.split_once(BETWEEN) else {
            match meant(name) {
                Some(meant) => return Err(refused(&format!("two underscores stand between table and key: {meant}"))),
                None => continue,
            }
        };
        let text = value.to_str().ok_or_else(|| refused("its value is not text"))?;
        let (table, key) = (table.to_lowercase(), key.to_lowercase());
        let known = known(&table, &key);
        let value = written(known.as_ref(), text);
        let mut alone = Value::Object(Map::new());
        put(&mut alone, &table, &key, value.clone());
        deserialize(&alone).map_err(|message| match known {
            // What is wrong within a list of servers is not that it is none.
            Some(key) if is_of_shape(&message) && !value.is_array() => refused(&key.wanted()),
            _ => refused(&message),
        })?;
        found.push(Override { variable: variable.to_owned(), table, key, value });
    }
    found.sort_by(|a, b| a.variable.cmp(&b.variable));
    Ok(found)
}

fn known(table: &str, key: &str) -> Option<Key> {
    tables().into_iter().find(|known| known.name == table)?.keys.into_iter().find(|known| known.name == key)
}

/// The variable that is meant by one with a single underscore. What is no key is let be: a cluster sets variables such as
/// `CHRONOTICK_METRICS_PORT` by itself.
fn meant(name: &str) -> Option<String> {
    let name = name.to_lowercase();
    let keys = tables().into_iter().flat_map(|table| table.keys.into_iter().map(move |key| (table.name, key.name)));
    let (table, key) = keys.into_iter().find(|(table, key)| name == format!("{table}_{key}"))?;
    Some(format!("{PREFIX}{}{BETWEEN}{}", table.to_uppercase(), key.to_uppercase()))
}

/// A variable's text as a value of the key: what it would be in a TOML file, else a string; lists may be written with commas.
fn written(known: Option<&Key>, text: &str) -> Value {
    let line = toml::from_str::<Map<String, Value>>(&format!("value = {text}"));
    match line {
        Ok(mut line) if line.len() == 1 => line.remove("value").unwrap_or_default(),
        _ if known.is_some_and(|key| key.shape.is_list()) && text != "auto" => {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(item).collect()
        }
        _ => text.into(),
    }
}

/// An item of a list: a number or a string.
fn item(text: &str) -> Value {
    text.parse::<u64>().map_or_else(|_| text.into(), Into::into)
}

fn put(root: &mut Value, table: &str, key: &str, value: Value) {
    if let Value::Object(root) = root
        && let Value::Object(table) = root.entry(table).or_insert_with(|| Value::Object(Map::new()))
    {
        table.insert(key.to_owned(), value);
    }
}

fn deserialize(value: &Value) -> Result<Config, String> {
    Config::deserialize(value).map_err(|error| explain(&error.to_string()))
}

/// A file's text.
pub(super) struct Document {
    text: String,
    path: PathBuf,
    yaml: bool,
}

impl Document {
    pub(super) fn new(text: &str, path: &Path) -> Self {
        let yaml = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml"));
        Self { text: text.to_owned(), path: path.to_owned(), yaml }
    }

    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| Error::new(Kind::Config, format!("cannot read {}", path.display())).caused_by(cause))?;
        Ok(Self::new(&text, path))
    }

    /// What it says by itself, checked.
    pub(super) fn config(&self) -> Result<Config, Error> {
        let config = self.parsed()?;
        config.check().map_err(|conflict| self.conflict(&conflict))?;
        Ok(config)
    }

    /// What it says by itself; whether the values go together is not looked at.
    fn parsed(&self) -> Result<Config, Error> {
        if self.yaml {
            return self.yaml();
        }
        // An array would be taken for a table whose keys are in order.
        match self.places_in_toml().into_iter().find(|place| place.key.is_none()) {
            Some(place) => Err(self.error(place.at, &self.wanted(&place))),
            None => self.toml(),
        }
    }

    fn toml<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        toml::from_str(&self.text).map_err(|cause| {
            let at = self.line_and_column(cause.span().map_or(0, |span| span.start));
            self.refused(at, explain(cause.message()))
        })
    }

    fn yaml<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
        // A document with nothing but comments is an empty table, as it is in TOML.
        let text = if self.has_yaml() { self.text.as_str() } else { "{}" };
        serde_saphyr::from_str_with_options(text, options).map_err(|cause| {
            let place = cause.location().map_or((1, 1), |at| (at.line(), at.column()));
            self.refused(place, explain_yaml(&cause))
        })
    }

    fn has_yaml(&self) -> bool {
        self.text.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#') && line != "---")
    }

    /// What is written, without the keys that are written to be empty.
    fn value(&self) -> Result<Value, Error> {
        let mut value: Value = if self.yaml { self.yaml() } else { self.toml() }?;
        if let Value::Object(root) = &mut value {
            root.retain(|_, table| !table.is_null());
            for table in root.values_mut().filter_map(Value::as_object_mut) {
                table.retain(|_, value| !value.is_null());
            }
        }
        Ok(value)
    }

    /// A conflict, at the place of the value that is named, or of the other where that is the one that is written.
    fn conflict(&self, Conflict { table, key, message, with }: &Conflict) -> Error {
        let places = self.places();
        let place = |(table, key)| {
            let is_it =
                |place: &&Place| place.table == table && place.key.as_ref().is_some_and(|found| found.name == key);
            places.iter().find(is_it).map(|place| place.at)
        };
        let byte = place((*table, *key)).or_else(|| place((*with)?));
        self.error(byte.unwrap_or(0), &format!("{key} {message}"))
    }

    /// The parser's `message`; where it is about the shape of a key's whole value, what is wanted there.
    fn refused(&self, at: (u64, u64), message: String) -> Error {
        // In YAML what stands for a table may begin on a line of its own.
        let table = message == "expected mapping start";
        let is_it = |place: &Place| {
            let begins = self.line_and_column(place.at);
            begins == at || table && place.key.is_none() && begins < at
        };
        let about = || self.places().into_iter().filter(is_it).max_by_key(|place| place.at);
        let place = is_of_shape(&message).then(about).flatten();
        self.error_at(at, &place.map_or(message, |place| self.wanted(&place)))
    }

    fn wanted(&self, Place { table, key, .. }: &Place) -> String {
        match key {
            Some(key) => key.wanted(),
            None if self.yaml => format!("{table} wants a table: write `{table}:` and its keys indented below"),
            None => format!("{table} wants a table: write `[{table}]` and its keys below"),
        }
    }

    fn places(&self) -> Vec<Place> {
        if self.yaml { self.places_in_yaml() } else { self.places_in_toml() }
    }

    /// The keys that are written, and what is written in the place of a table.
    fn places_in_toml(&self) -> Vec<Place> {
        let Ok(root) = DeTable::parse(&self.text) else { return Vec::new() };
        let mut places = Vec::new();
        for Table { name: table, keys, .. } in tables() {
            let Some(written) = root.get_ref().get(table) else { continue };
            let mut add = |key, at| places.push(Place { table, key, at });
            match written.get_ref() {
                DeValue::Table(written) => {
                    for key in keys {
                        if let Some(value) = written.get(key.name) {
                            add(Some(key), value.span().start);
                        }
                    }
                }
                _ => add(None, written.span().start),
            }
        }
        places
    }

    /// The tables and keys that are written, by indentation; a key in braces is found, a table in braces is not.
    fn places_in_yaml(&self) -> Vec<Place> {
        let tables = tables();
        let (mut places, mut start, mut inside) = (Vec::new(), 0, None);
        for line in self.text.split_inclusive('\n') {
            let (first, mut end) = (start, start);
            start += line.len();
            if line.trim_start().starts_with('#') {
                continue;
            }
            for part in line.split_inclusive(['{', ',']) {
                end += part.len();
                let rest = part.trim_start();
                let name = end - rest.len();
                let entry = rest.split_once(':').map(|(word, value)| (word, end - value.trim_start().len()));
                let is_top = name == first && !rest.is_empty() && !rest.starts_with('-');
                if is_top {
                    inside = entry.and_then(|(word, _)| tables.iter().find(|table| table.name == word));
                }
                let (Some(table), Some((word, at))) = (inside, entry) else { continue };
                let key = table.keys.iter().find(|key| key.name == word && !is_top).cloned();
                if is_top || key.is_some() {
                    places.push(Place { table: table.name, key, at });
                }
            }
        }
        places
    }

    fn line_and_column(&self, byte: usize) -> (u64, u64) {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        (line as u64, column as u64)
    }

    fn error(&self, byte: usize, message: &str) -> Error {
        self.error_at(self.line_and_column(byte), message)
    }

    fn error_at(&self, (line, column): (u64, u64), message: &str) -> Error {
        Error::new(Kind::Config, format!("{}:{line}:{column}: {message}", self.path.display()))
    }
}

/// Where the value of a key, or a table itself, begins, in bytes.
struct Place {
    table: &'static str,
    key: Option<Key>,
    at: usize,
}

/// Whether the parsers speak of a value that has not the shape of its key, in their words for TOML, YAML and the environment.
fn is_of_shape(message: &str) -> bool {
    let words = [
        "invalid type",
        "invalid value",
        "invalid length",
        "invalid i64",
        "invalid floating point",
        "invalid boolean",
        "expected ",
        "wanted ",
        "externally tagged",
        "unexpected value for unit",
    ];
    words.iter().any(|start| message.starts_with(start))
}

/// The parser's message in one line, with the nearest known word where one was unknown.
fn explain(message: &str) -> String {
    let line = message.lines().collect::<Vec<_>>().join("; ");
    let what =
        [("unknown field", "key"), ("unknown variant", "value")].into_iter().find(|(start, _)| line.starts_with(start));
    let Some((start, noun)) = what else {
        return line;
    };
    let words: Vec<&str> = line[start.len()..].split('`').skip(1).step_by(2).collect();
    match words.split_first() {
        Some((unknown, known)) => suggest(noun, unknown, known),
        None => line,
    }
}

fn explain_yaml(error: &serde_saphyr::Error) -> String {
    match error.without_snippet() {
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => suggest("key", field, expected),
        serde_saphyr::Error::SerdeUnknownVariant { variant, expected, .. } => suggest("value", variant, expected),
        serde_saphyr::Error::Message { msg, .. } => explain(msg),
        other => {
            // The place is at the start of the line already.
            let line = explain(&other.to_string());
            let end = [" at line ", " (line "].iter().filter_map(|place| line.rfind(place)).max();
            end.map_or(line.as_str(), |end| &line[..end]).to_owned()
        }
    }
}

fn suggest(noun: &str, unknown: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(unknown, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 3)
        .min();
    match nearest {
        Some((_, word)) => format!("unknown {noun} `{unknown}`: did you mean `{word}`?"),
        None => format!("unknown {noun} `{unknown}`: the known ones are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mode;
    use crate::config::machine::Machine;

    fn small() -> Choice {
        super::super::machine::choose(&Machine { cores: vec![0], memory_mib: 256, ..Machine::default() })
    }

    fn with(text: &str, name: &str, variables: &[(&str, &str)]) -> Result<Loaded, String> {
        let folder = std::env::temp_dir().join(format!("chronotick-layers-{}-{:p}", std::process::id(), &name));
        std::fs::create_dir_all(&folder).expect("temporary folder");
        let path = folder.join(name);
        std::fs::write(&path, text).expect("temporary file");
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let loaded = load(Some(&path), variables, small);
        std::fs::remove_dir_all(&folder).expect("temporary folder");
        loaded.map_err(|error| error.to_string().replace(&format!("{}/", folder.display()), ""))
    }

    #[test]
    fn yaml_says_the_same_as_toml() {
        let toml = "[ntp]\nservers = [\"a.example\", \"[::1]:5\"]\npoll_min = \"1 s\"\n[worker]\nmode = \"off\"\n\
                    [oscillator]\nmax_drift_ppm = 20\n[metrics]\nlisten = \"127.0.0.1:9123\"\n";
        let yaml = "# comment\nntp:\n  servers: [a.example, \"[::1]:5\"]\n  poll_min: 1 s\nworker:\n  mode: off\n\
                    oscillator:\n  max_drift_ppm: 20\n  temperature:\nmetrics:\n  listen: 127.0.0.1:9123\n";
        let expected = Config::parse(toml, Path::new("c.toml")).expect("good");
        assert_eq!(expected.worker.mode, Mode::Off);
        for name in ["c.yaml", "c.yml"] {
            assert_eq!(Config::parse(yaml, Path::new(name)).expect("good"), expected);
            assert_eq!(with(yaml, name, &[]).map(|loaded| loaded.config), Ok(expected.clone()));
        }
        for empty in ["", "# nothing\n", "---\n", "ntp:\n  burst: 6\n"] {
            assert_eq!(Config::parse(empty, Path::new("c.yaml")).expect(empty), Config::default());
        }
    }

    #[test]
    fn errors_in_yaml_name_the_place_and_what_to_do() {
        for (text, line) in [
            ("ntp:\n  pol_min: 1 s\n", "c.yaml:2:3: unknown key `pol_min`: did you mean `poll_min`?"),
            ("npt:\n  burst: 1\n", "c.yaml:1:1: unknown key `npt`: did you mean `ntp`?"),
            ("worker:\n  mode: thred\n", "c.yaml:2:9: unknown value `thred`: did you mean `thread`?"),
            ("ntp:\n  burst: 20\n", "c.yaml:2:10: 20 is out of range: 1 to 16"),
            (
                "ntp:\n  poll_min: 2 min\n  poll_max: 1 min\n",
                "c.yaml:3:13: poll_max (\"1 min\") must not be shorter than poll_min (\"2 min\")",
            ),
            (
                "oscillator:\n  max_rate_ppm: 10\n",
                "c.yaml:2:17: max_drift_ppm (50, the default) cannot exceed twice max_rate_ppm (10): no two rates are \
                 further apart",
            ),
            ("ntp:\n  burst: x\n", "c.yaml:2:10: burst wants a whole number, 1 to 16"),
            ("worker:\n  # no\n  idle: yes\n", "c.yaml:3:9: idle wants `true` or `false`"),
            ("page:\n  path: /x\nntp: 3\n", "c.yaml:3:6: ntp wants a table: write `ntp:` and its keys indented below"),
            ("ntp:\n- a\n", "c.yaml:2:3: ntp wants a table: write `ntp:` and its keys indented below"),
            ("page:\n  path: /x\nntp: {servers: [a], burst: x}\n", "c.yaml:3:28: burst wants a whole number, 1 to 16"),
            ("page:\n  path: [x]\n{\n", "c.yaml:2:9: path wants a path in quotes"),
        ] {
            let error = Config::parse(text, Path::new("c.yaml")).expect_err(text).to_string();
            assert_eq!(error, line);
        }
        for text in
            ["ntp: [", "x", "ntp: 3", "ntp:\n  burst: many", "a: &a [*a]", "ntp:\n  burst: 1\n  burst: 2\n", "\u{0}"]
        {
            let error = Config::parse(text, Path::new("c.yaml")).expect_err(text).to_string();
            assert!(error.starts_with("c.yaml:") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        let loaded = with(
            "[ntp]\npoll_min = \"1 s\"\nburst = 3\n",
            "c.toml",
            &[
                ("CHRONOTICK_NTP__POLL_MIN", "2 s"),
                ("CHRONOTICK_NTP__SERVERS", "a.example, 127.0.0.1:11123"),
                ("CHRONOTICK_WORKER__CPU_AFFINITY", "[2, 3]"),
                ("CHRONOTICK_WORKER__IDLE", "true"),
                ("CHRONOTICK_OSCILLATOR__MAX_DRIFT_PPM", "7"),
                ("CHRONOTICK_PAGE__PATH", "/x/clock"),
                ("CHRONOTICK_METRICS__LISTEN", ""),
                ("CHRONOTICK_DIR", "/elsewhere"),
                // Of a cluster that has a service called so.
                ("CHRONOTICK_METRICS_PORT", "tcp://10.0.0.1:9123"),
                ("CHRONOTICK_NTP_SERVERS", ""),
                ("OTHER_NTP__BURST", "9"),
            ],
        )
        .expect("good");
        let config = loaded.config;
        assert_eq!(loaded.variables.len(), 6);
        assert_eq!((config.ntp.poll_min.as_nanos(), config.ntp.burst), (2_000_000_000, 3));
        assert_eq!(
            config.ntp.servers.iter().map(|s| s.address.to_string()).collect::<Vec<_>>(),
            ["a.example:123", "127.0.0.1:11123"]
        );
        assert_eq!(config.worker.cpu_affinity, crate::supervisor::Affinity::Cores(vec![2, 3]));
        assert!(config.worker.idle && config.metrics.listen.is_none());
        assert_eq!(config.page.path.as_deref(), Some(Path::new("/x/clock")));
    }

    #[test]
    fn an_error_of_the_environment_names_the_variable() {
        for (variable, value, line) in [
            ("CHRONOTICK_NTP__POL_MIN", "1 s", "unknown key `pol_min`: did you mean `poll_min`?"),
            ("CHRONOTICK_NPT__POLL_MIN", "1 s", "unknown key `npt`: did you mean `ntp`?"),
            ("CHRONOTICK_NTP__POLL_MIN", "1 ms", "1 ms is out of range: 1 s to 24 h"),
            (
                "CHRONOTICK_NTP__POLL_MAX",
                "1 s",
                "poll_max (\"1 s\") must not be shorter than poll_min (\"16 s\", the default)",
            ),
            (
                "CHRONOTICK_OSCILLATOR__MAX_RATE_PPM",
                "10",
                "max_drift_ppm (50, the default) cannot exceed twice max_rate_ppm (10): no two rates are further apart",
            ),
            ("CHRONOTICK_OSCILLATOR__MAX_RATE_PPM", "nan", "max_rate_ppm wants a number of ppm, 0.000001 to 10000"),
            ("CHRONOTICK_WORKER__MODE", "thred", "unknown value `thred`: did you mean `thread`?"),
            ("CHRONOTICK_WORKER__NICE", "1\nidle = true", "nice wants a whole number, 0 to 19"),
            (
                "CHRONOTICK_WORKER_CPU_AFFINITY",
                "auto",
                "two underscores stand between table and key: CHRONOTICK_WORKER__CPU_AFFINITY",
            ),
        ] {
            let error = with("", "c.toml", &[(variable, value)]).expect_err(variable);
            assert_eq!(error, format!("{variable}: {line}"));
        }
        // A conflict that only the file has is the file's.
        let text = "[ntp]\npoll_min = \"2 min\"\npoll_max = \"1 min\"\n";
        assert!(with(text, "c.toml", &[("CHRONOTICK_NTP__BURST", "3")]).is_err_and(|e| e.starts_with("c.toml:3:12: ")));
        assert!(with(text, "c.toml", &[("CHRONOTICK_NTP__POLL_MAX", "3 min")]).is_ok());
    }

    #[test]
    fn the_machine_fills_in_what_nobody_wrote() {
        let text = "worker:\n  device: auto\n  memory_mib: 300\n";
        let loaded = with(text, "c.yaml", &[("CHRONOTICK_MODELS__FORECASTERS", "both")]).expect("good");
        assert_eq!(loaded.choice.map(|choice| choice.preset), Some("edge"));
        // The preset's, the file's, the environment's.
        let (worker, models) = (&loaded.config.worker, &loaded.config.models);
        assert!(worker.idle);
        assert_eq!((worker.memory_mib, models.forecasters), (300, crate::config::Forecasters::Both));
        // Where the servers are and what is assumed of the crystal is no business of the cores' number.
        assert_eq!(
            (&loaded.config.ntp, &loaded.config.oscillator),
            (&Config::default().ntp, &Config::default().oscillator)
        );
        assert_eq!(models.step, Config::default().models.step);
        let unasked = with("", "c.toml", &[]).expect("good");
        assert_eq!((unasked.choice, unasked.config), (None, Config::default()));
    }
}
