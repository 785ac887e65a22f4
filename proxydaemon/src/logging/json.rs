//! Writing JSON, one object a line. Nothing is read here: what a daemon of the DMZ does not need to parse, it cannot parse
//! wrongly.

use std::fmt::Write as _;

use super::layout::breaks_or_turns;

/// A JSON object in the making. Its members stand in the order in which they are added.
#[derive(Debug)]
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Self {
        Self("{".to_owned())
    }

    /// A member that is text.
    pub(super) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.name(name);
        string_into(&mut self.0, value);
        self
    }

    /// A member that is text, if there is any.
    pub(super) fn text_if(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// A member that is a whole number.
    pub(super) fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.name(name);
        // Writing into a string cannot fail.
        let _ = write!(self.0, "{value}");
        self
    }

    /// A member that is a list of texts.
    pub(super) fn texts<'a>(&mut self, name: &str, values: impl Iterator<Item = &'a str>) -> &mut Self {
        self.name(name);
        self.0.push('[');
        for (place, value) in values.enumerate() {
            if place > 0 {
                self.0.push(',');
            }
            string_into(&mut self.0, value);
        }
        self.0.push(']');
        self
    }

    /// A member that is an object, unless that is empty.
    pub(super) fn object(&mut self, name: &str, value: &Self) -> &mut Self {
        if !value.is_empty() {
            self.name(name);
            self.0.push_str(&value.0);
            self.0.push('}');
        }
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 1
    }

    /// The whole object as one line, with the line break.
    pub(super) fn into_line(self) -> String {
        self.0 + "}\n"
    }

    fn name(&mut self, name: &str) {
        if !self.is_empty() {
            self.0.push(',');
        }
        string_into(&mut self.0, name);
        self.0.push(':');
    }
}

/// RFC 8259, 7. Beyond what it demands all control characters are escaped, and all marks that break a line or turn the
/// direction of writing, for whoever looks at the file in a terminal.
fn string_into(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            // All of them lie below U+10000, so that four digits do.
            c if c.is_control() || breaks_or_turns(c) => drop(write!(text, "\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_written_is_read_as_it_was() {
        let all: String =
            (0..=0x10ffff).filter_map(char::from_u32).step_by(7).chain("\"\\/\n\r\t\u{0}".chars()).collect();
        let mut inner = Object::new();
        inner.number("number", u64::MAX).texts("list", ["a\"b", &all].into_iter()).texts("none", std::iter::empty());
        let mut object = Object::new();
        object.text("text", &all).text_if("absent", None).text_if("there", Some("")).object("inner", &inner);
        object.object("empty", &Object::new());
        let line = object.into_line();
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1);
        let expected = serde_json::json!({
            "text": all, "there": "", "inner": { "number": u64::MAX, "list": ["a\"b", all], "none": [] },
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), expected);
        assert_eq!(Object::new().into_line(), "{}\n");
    }

    #[test]
    fn nothing_moves_the_cursor_of_a_terminal() {
        let mut object = Object::new();
        object.text("evil", "\u{1b}[2J\u{7f}\u{9b}\u{2028}\u{202e}\u{2066}");
        assert_eq!(object.into_line(), "{\"evil\":\"\\u001b[2J\\u007f\\u009b\\u2028\\u202e\\u2066\"}\n");
    }
}
