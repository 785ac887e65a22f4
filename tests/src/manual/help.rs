//! The help of a program, read back: what it shows is what the code takes.

use std::process;

use crate::harness::{Process, Trouble, binary};

/// A program, or one of its subcommands.
#[derive(Debug, Default)]
pub struct Command {
    /// The program and the subcommands that lead here.
    pub words: Vec<String>,
    /// What it does, by paragraph.
    pub about: Vec<String>,
    /// How it is called.
    pub usage: Vec<String>,
    /// What is given without a dash.
    pub arguments: Vec<Entry>,
    /// Its options.
    pub options: Vec<Entry>,
    /// Its subcommands.
    pub commands: Vec<Command>,
    /// Whether its help has the common table of exit codes.
    pub has_exit_codes: bool,
}

/// An option or an argument.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// `-v`, `--version`; of an argument its name.
    pub names: Vec<String>,
    /// What stands behind it, as `<FILE>`.
    pub values: String,
    /// Under which heading it is shown.
    pub heading: String,
    /// What it means, by paragraph.
    pub text: Vec<String>,
    /// The only values that it takes.
    pub possible: Vec<String>,
}

impl Command {
    /// Asks a program for its help, and that of all its subcommands.
    ///
    /// # Errors
    /// It is not there or gives none.
    pub fn of(program: &str) -> Result<Self, Trouble> {
        Self::ask(vec![program.to_owned()])
    }

    fn ask(words: Vec<String>) -> Result<Self, Trouble> {
        let mut asked = process::Command::new(binary(&words[0])?);
        asked.args(&words[1..]).arg("--help");
        let (mut command, names) = read(&Process::run(&words.join(" "), &mut asked)?);
        for name in names.into_iter().filter(|name| name != "help") {
            command.commands.push(Self::ask([words.clone(), vec![name]].concat())?);
        }
        command.words = words;
        Ok(command)
    }

    /// It and all below it, itself first.
    pub fn all(&self) -> Vec<&Self> {
        let below = self.commands.iter().flat_map(Self::all);
        std::iter::once(self).chain(below).collect()
    }
}

/// What a help says, and the names of the subcommands.
fn read(help: &str) -> (Command, Vec<String>) {
    let (mut command, mut names, mut heading) = (Command::default(), Vec::new(), String::new());
    for line in help.lines() {
        let indent = line.len() - line.trim_start().len();
        let text = line.trim();
        if let Some(usage) = line.strip_prefix("Usage: ") {
            command.usage.push(usage.to_owned());
            heading = "Usage".into();
        } else if indent == 0 && text.ends_with(':') && !command.usage.is_empty() {
            heading = text.trim_end_matches(':').to_owned();
            command.has_exit_codes |= heading == "Exit codes";
        } else {
            match heading.as_str() {
                "" => paragraph(&mut command.about, text),
                "Usage" if !text.is_empty() => command.usage.push(text.to_owned()),
                "Usage" | "Exit codes" => {}
                "Commands" if indent == 2 => names.extend(text.split_whitespace().next().map(str::to_owned)),
                "Commands" => {}
                "Arguments" => entry(&mut command.arguments, indent, text, &heading),
                _ => entry(&mut command.options, indent, text, &heading),
            }
        }
    }
    (command, names)
}

/// A line of a list of options or arguments.
fn entry(list: &mut Vec<Entry>, indent: usize, text: &str, heading: &str) {
    let begins = (1..=6).contains(&indent);
    if begins {
        let (left, right) = text.split_once("  ").unwrap_or((text, ""));
        let (names, values) = left.find(['<', '[']).map_or((left, ""), |place| left.split_at(place));
        let names: Vec<_> =
            names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        let names = if names.is_empty() { vec![values.to_owned()] } else { names };
        let mut entry =
            Entry { names, values: values.trim().to_owned(), heading: heading.to_owned(), ..Entry::default() };
        paragraph(&mut entry.text, right.trim());
        list.push(entry);
    } else if let Some(last) = list.last_mut() {
        match text.strip_prefix("- ").and_then(|value| value.split_once(':')) {
            Some((value, meaning)) => {
                last.possible.push(value.to_owned());
                last.text.push(format!("{value}: {}", meaning.trim()));
            }
            None if text == "Possible values:" => {}
            None => paragraph(&mut last.text, text),
        }
    }
}

/// An empty line ends a paragraph.
fn paragraph(paragraphs: &mut Vec<String>, text: &str) {
    match (paragraphs.last_mut(), text.is_empty()) {
        (None | Some(_), true) => paragraphs.push(String::new()),
        (Some(last), false) if !last.is_empty() => *last = format!("{last} {text}"),
        (Some(last), false) => text.clone_into(last),
        (None, false) => paragraphs.push(text.to_owned()),
    }
}

impl Entry {
    /// Its paragraphs, without the empty ones.
    pub fn paragraphs(&self) -> impl Iterator<Item = &str> {
        self.text.iter().map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The name without dashes that is longest.
    pub fn long(&self) -> Option<&str> {
        self.names.iter().find_map(|name| name.strip_prefix("--"))
    }

    /// The letter.
    pub fn short(&self) -> Option<&str> {
        self.names.iter().filter(|name| !name.starts_with("--")).find_map(|name| name.strip_prefix('-'))
    }

    /// Whether its value is a file or folder.
    pub fn wants_file(&self) -> bool {
        ["FILE", "DIR", "PATH"].iter().any(|name| self.values.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_help_are_read_alike() {
        let short = "Does it\n\nUsage: it [OPTIONS] [COMMAND]\n\nCommands:\n  one   Does one\n  help  Print\n\nOptions:\n  -i, --listen <[IP]:PORT>  Where [default: :1]\n      --check               Look\n\nBeyond the original:\n      --log-level <PID> <LEVEL>  Tell it\n\nExit codes:\n   0  good\n";
        let (command, names) = read(short);
        assert_eq!((names.join(" "), command.about.first().map(String::as_str)), ("one help".into(), Some("Does it")));
        let shown: Vec<_> = command
            .options
            .iter()
            .map(|option| {
                (option.names.join(" "), option.values.as_str(), option.heading.as_str(), option.text.concat())
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("-i --listen".into(), "<[IP]:PORT>", "Options", "Where [default: :1]".into()),
                ("--check".into(), "", "Options", "Look".into()),
                ("--log-level".into(), "<PID> <LEVEL>", "Beyond the original", "Tell it".into()),
            ]
        );
        let long = "It.\n\nMore.\n\nUsage: it [FILES]...\n\nArguments:\n  [FILES]...\n          Files\n\nOptions:\n      --state <STATE>\n          How far\n\n          Possible values:\n          - new:       Nobody\n          - in-review: Somebody\n          \n          [default: new]\n";
        let (command, _) = read(long);
        assert_eq!(command.arguments[0].names, ["[FILES]..."]);
        let state = &command.options[0];
        assert_eq!(state.possible, ["new", "in-review"]);
        assert_eq!(
            state.paragraphs().collect::<Vec<_>>(),
            ["How far", "new: Nobody", "in-review: Somebody", "[default: new]"]
        );
    }
}
