//! Mistakes in the configuration file, each with its line and field.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A mistake and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The configuration file.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: usize,
    /// The member, as `partners[1].allow_from[0]`; empty for the file as a whole.
    pub field: String,
    /// What is wrong and what was expected.
    pub reason: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}

/// A configuration file, parsed, that knows where everything stands in it.
pub struct Document<'t> {
    file: &'t Path,
    text: &'t str,
    root: Spanned<DeTable<'t>>,
}

impl<'t> Document<'t> {
    /// Parses the text; fails with the place of what is no TOML.
    pub fn parse(file: &'t Path, text: &'t str) -> Result<Self, Mistake> {
        match DeTable::parse(text) {
            Ok(root) => Ok(Self { file, text, root }),
            Err(error) => {
                let line = error.span().map_or(1, |span| line(text, span));
                Err(Mistake { file: file.to_owned(), line, field: String::new(), reason: one_line(error.message()) })
            }
        }
    }

    /// Reads it as a `T`; fails with the place of the first member that does not fit.
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, Mistake> {
        let deserializer = toml::Deserializer::from(self.root.clone());
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let field = error.path().to_string();
            let field = if field == "." { String::new() } else { field };
            let error = error.into_inner();
            let line = error.span().map_or_else(|| self.line_of(&field), |span| line(self.text, span));
            Mistake { file: self.file.to_owned(), line, field, reason: one_line(error.message()) }
        })
    }

    /// Every member of the file that is none of those in `known`, which is what was understood of it.
    pub fn unknown_members(&self, known: &serde_json::Value) -> Vec<Mistake> {
        let mut found = Vec::new();
        self.compare(self.root.get_ref(), known, "", &mut found);
        found
    }

    /// A mistake in the member at this path.
    pub fn mistake(&self, field: &str, reason: impl fmt::Display) -> Mistake {
        Mistake {
            file: self.file.to_owned(),
            line: self.line_of(field),
            field: field.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// The octets of whole lines that a table with a header of its own takes, from the header to its last member.
    pub fn lines(&self, path: &str) -> Option<Range<usize>> {
        let value = self.value(path)?;
        let header = value.span();
        let ends = value.get_ref().as_table()?.values().map(|member| member.span().end);
        let last = ends.fold(header.end, usize::max);
        let start = self.text.get(..header.start)?.rfind('\n').map_or(0, |at| at + 1);
        let end = self.text.get(last..)?.find('\n').map_or(self.text.len(), |at| last + at + 1);
        Some(start..end)
    }

    /// The octets of the value at this path.
    pub fn span(&self, path: &str) -> Option<Range<usize>> {
        self.value(path).map(Spanned::span)
    }

    /// The file as it is written.
    pub fn text(&self) -> &'t str {
        self.text
    }

    fn value(&self, path: &str) -> Option<&Spanned<DeValue<'t>>> {
        let mut found: Option<&Spanned<DeValue<'t>>> = None;
        for step in path.split('.') {
            let table = match found {
                None => self.root.get_ref(),
                Some(value) => value.get_ref().as_table()?,
            };
            let (name, indices) = step.split_once('[').unwrap_or((step, ""));
            let mut value = table.get(name)?;
            for index in indices.split(['[', ']']).filter_map(|index| index.parse::<usize>().ok()) {
                value = value.get_ref().as_array()?.get(index)?;
            }
            found = Some(value);
        }
        found
    }

    fn compare(&self, table: &DeTable<'_>, known: &serde_json::Value, path: &str, found: &mut Vec<Mistake>) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            let field = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            match known.get(name) {
                Some(known) => self.compare_value(value.get_ref(), known, &field, found),
                None => found.push(Mistake {
                    file: self.file.to_owned(),
                    line: line(self.text, key.span()),
                    field,
                    reason: "there is no such member".to_owned(),
                }),
            }
        }
    }

    fn compare_value(&self, value: &DeValue<'_>, known: &serde_json::Value, path: &str, found: &mut Vec<Mistake>) {
        match (value, known) {
            (DeValue::Table(table), known) if known.is_object() => self.compare(table, known, path, found),
            (DeValue::Array(array), serde_json::Value::Array(known)) => {
                for (at, (value, known)) in array.iter().zip(known).enumerate() {
                    self.compare_value(value.get_ref(), known, &format!("{path}[{at}]"), found);
                }
            }
            _ => {}
        }
    }

    /// The line of the member at this path, or of the closest thing around it that there is.
    fn line_of(&self, path: &str) -> usize {
        let mut place = 1;
        let mut table = Some(self.root.get_ref());
        for step in path.split('.').filter(|step| !step.is_empty()) {
            let (name, indices) = step.split_once('[').unwrap_or((step, ""));
            let Some((key, value)) = table.and_then(|table| table.get_key_value(name)) else { return place };
            place = line(self.text, key.span());
            let mut value = value;
            for index in indices.split(['[', ']']).filter_map(|index| index.parse::<usize>().ok()) {
                match value.get_ref().as_array().and_then(|array| array.get(index)) {
                    Some(inner) => value = inner,
                    None => return place,
                }
                place = line(self.text, value.span());
            }
            table = value.get_ref().as_table();
        }
        place
    }
}

fn line(text: &str, span: Range<usize>) -> usize {
    1 + text.as_bytes().iter().take(span.start).filter(|octet| **octet == b'\n').count()
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a = 1\n[b]\nc = [\n  1,\n  2,\n]\n[[d]]\ne = 1\n[[d]]\ne = 2\nf = { g = 3 }\n";

    fn line_of(path: &str) -> usize {
        Document::parse(Path::new("x.toml"), TEXT).unwrap().line_of(path)
    }

    #[test]
    fn every_member_is_found_in_its_line() {
        for (path, line) in [("a", 1), ("b", 2), ("b.c", 3), ("b.c[1]", 5), ("d[1].e", 10), ("d[1].f.g", 11)] {
            assert_eq!(line_of(path), line, "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_missed_where_it_belongs() {
        assert_eq!((line_of("b.x"), line_of("d[1].x"), line_of("x"), line_of("b.c[7]")), (2, 9, 1, 3));
    }

    #[test]
    fn unknown_members_are_found_at_every_depth() {
        let document = Document::parse(Path::new("x.toml"), TEXT).unwrap();
        let known = serde_json::json!({"a": 1, "b": {}, "d": [{"e": 1}, {"e": 2, "f": {}}]});
        let found: Vec<String> = document.unknown_members(&known).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["x.toml:3: b.c: there is no such member", "x.toml:11: d[1].f.g: there is no such member"]);
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line() {
        let mistake = Document::parse(Path::new("x.toml"), "a = 1\nb = \n").err().unwrap();
        assert_eq!((mistake.line, mistake.field.as_str()), (2, ""));
    }
}
