//! A manual page, in the language of man(7): the parts between marks are made of the program's help.

use std::fmt::Write as _;

use command_line::exit::ExitCode;

use super::help::{Command, Entry};

/// The page with its made parts as they have to be: SYNOPSIS, OPTIONS and EXIT STATUS.
///
/// # Errors
/// A mark is not there.
pub fn fill(page: &str, command: &Command) -> Result<String, String> {
    let page = between(page, "synopsis", &synopsis(command))?;
    let page = between(&page, "options", &options(command))?;
    // A tool with codes of its own has that section by hand.
    if command.has_exit_codes { between(&page, "exit status", &exit_status()) } else { Ok(page) }
}

fn between(page: &str, name: &str, made: &str) -> Result<String, String> {
    let (begin, end) = (format!(".\\\" made: {name}\n"), format!(".\\\" end: {name}\n"));
    let (before, rest) = page.split_once(&begin).ok_or_else(|| format!("the line {begin:?} is not there"))?;
    let (_, behind) = rest.split_once(&end).ok_or_else(|| format!("the line {end:?} is not there"))?;
    Ok(format!("{before}{begin}{made}{end}{behind}"))
}

fn synopsis(command: &Command) -> String {
    let mut made = String::new();
    for command in command.all() {
        // What only leads to subcommands is not called by itself.
        for usage in command.usage.iter().filter(|usage| !usage.ends_with("<COMMAND>")) {
            let (words, rest) = usage.split_at(command.words.join(" ").len().min(usage.len()));
            let _ = writeln!(made, ".B {}\n{}\n.br", escape(words), escape(rest.trim()));
        }
    }
    made
}

fn options(command: &Command) -> String {
    let mut made = String::new();
    for command in command.all() {
        let is_program = command.words.len() == 1;
        if !is_program {
            let _ = writeln!(made, ".SS {}", escape(&command.words.join(" ")));
            for paragraph in command.about.iter().filter(|paragraph| !paragraph.is_empty()) {
                let _ = writeln!(made, "{}\n.PP", sentence(paragraph));
            }
        }
        let mut heading = "Options";
        for entry in command.arguments.iter().chain(&command.options) {
            if !["Arguments", heading].contains(&entry.heading.as_str()) {
                heading = &entry.heading;
                let _ = writeln!(made, ".PP\n{}:", escape(heading));
            }
            made += &one(entry);
        }
    }
    made
}

fn one(entry: &Entry) -> String {
    let is_option = entry.names.iter().any(|name| name.starts_with('-'));
    let names: Vec<_> = entry.names.iter().map(|name| format!("\\fB{}\\fR", plain(name))).collect();
    let values = if is_option && !entry.values.is_empty() {
        format!(" \\fI{}\\fR", plain(&entry.values))
    } else {
        String::new()
    };
    let mut made = format!(".TP\n{}{values}\n", names.join(", "));
    for (place, paragraph) in entry.paragraphs().enumerate() {
        if place > 0 {
            made += ".br\n";
        }
        made += &sentence(paragraph);
        made.push('\n');
    }
    made
}

fn exit_status() -> String {
    let of_programs = ExitCode::ALL.iter().filter(|code| code.is_of_a_program());
    of_programs.map(|code| format!(".TP\n.B {}\n{}\n", code.number(), escape(code.sentence()))).collect()
}

fn sentence(text: &str) -> String {
    let text = escape(text);
    if text.ends_with(['.', ')', ']', '\n']) || text.is_empty() { text } else { text + "." }
}

/// Text at the beginning of a line.
pub(super) fn escape(text: &str) -> String {
    let text = plain(text);
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

fn plain(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_marks_is_made_anew() {
        let page = "a\n.\\\" made: options\nold\n.\\\" end: options\nb\n";
        assert_eq!(between(page, "options", "new\n").unwrap(), page.replace("old", "new"));
        assert!(between(page, "synopsis", "").is_err());
    }

    #[test]
    fn text_cannot_become_a_request() {
        assert_eq!(escape(".so -x \\n"), "\\&.so \\-x \\en");
    }
}
