//! A command line taken apart: each option with its value, each argument, each subcommand. So that each can be judged
//! without the others.

use std::ffi::OsString;

use clap::{Arg, Command};

/// A piece of a command line that can be judged by itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// As they stand on the command line.
    pub tokens: Vec<OsString>,
    /// Subcommands that stand before it.
    pub below: Vec<OsString>,
    /// The option that it gives; none for an argument, a subcommand, and what nobody knows.
    pub id: Option<String>,
}

impl Part {
    /// Whether it looks like an argument, and not like an option.
    pub fn is_argument(&self) -> bool {
        self.tokens.first().is_some_and(|token| !looks_like_option(token))
    }

    /// The command that it belongs to; a subcommand belongs to itself.
    pub fn command<'a>(&self, whole: &'a Command) -> &'a Command {
        let own = self.tokens.first().filter(|_| self.tokens.len() == 1);
        self.below
            .iter()
            .chain(own)
            .try_fold(whole, |command, name| command.find_subcommand(name).ok_or(command))
            .unwrap_or_else(|last| last)
    }
}

/// Takes `arguments` (without the name of the program) apart by the definition of `command`, which has been built.
pub fn take_apart(command: &Command, arguments: &[OsString]) -> Vec<Part> {
    let mut splitter = Splitter { command, below: Vec::new(), parts: Vec::new(), positionals: None };
    let mut rest = arguments;
    while let Some((token, behind)) = rest.split_first() {
        rest = behind;
        let taken = splitter.take(token, behind);
        rest = rest.get(taken..).unwrap_or_default();
    }
    splitter.parts
}

struct Splitter<'a> {
    command: &'a Command,
    below: Vec<OsString>,
    parts: Vec<Part>,
    /// Where the arguments of this command are gathered, since their order says what they are.
    positionals: Option<usize>,
}

impl Splitter<'_> {
    /// Takes one token; says how many of those behind it belong to it.
    fn take(&mut self, token: &OsString, behind: &[OsString]) -> usize {
        let text = token.to_string_lossy();
        if text == "--" {
            let all = [std::slice::from_ref(token), behind].concat();
            self.push(all, None);
            return behind.len();
        }
        if let Some(long) = text.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            let found =
                self.find(|option| option.get_long_and_visible_aliases().is_some_and(|all| all.contains(&name)));
            return self.option(token.clone(), found, value.is_some(), behind);
        }
        match text.strip_prefix('-') {
            Some(cluster) if !cluster.is_empty() => self.cluster(token, cluster, behind),
            _ => self.argument(token),
        }
    }

    /// `-dUx`: flags, the last of which may take the rest as its value.
    fn cluster(&mut self, token: &OsString, cluster: &str, behind: &[OsString]) -> usize {
        for (at, letter) in cluster.char_indices() {
            let found =
                self.find(|option| option.get_short_and_visible_aliases().is_some_and(|all| all.contains(&letter)));
            let has_more = at + letter.len_utf8() < cluster.len();
            match found {
                Some((_, 1..)) if has_more || at == 0 => {
                    let tokens = if at == 0 { token.clone() } else { format!("-{}", &cluster[at..]).into() };
                    return self.option(tokens, found, has_more, behind);
                }
                Some((_, 1..)) => return self.option(format!("-{letter}").into(), found, false, behind),
                Some((_, 0)) => {
                    self.option(format!("-{letter}").into(), found, true, behind);
                }
                None => {
                    // Nobody knows what the rest of it would be.
                    let tokens = if at == 0 { token.clone() } else { format!("-{}", &cluster[at..]).into() };
                    return self.option(tokens, None, true, behind);
                }
            }
        }
        0
    }

    /// An option, known with its id and how many values it takes; `complete` when it has its value already.
    fn option(
        &mut self,
        token: OsString,
        found: Option<(String, usize)>,
        complete: bool,
        behind: &[OsString],
    ) -> usize {
        let most = match &found {
            _ if complete => 0,
            Some((_, values)) => *values,
            // What stands behind an unknown option is probably its value, unless it can be something else.
            None => usize::from(!self.takes_arguments()),
        };
        let values: Vec<_> = behind.iter().take(most).take_while(|next| !looks_like_option(next)).cloned().collect();
        let taken = values.len();
        self.push(std::iter::once(token).chain(values).collect(), found.map(|(id, _)| id));
        taken
    }

    fn argument(&mut self, token: &OsString) -> usize {
        if let Some(subcommand) = self.command.find_subcommand(token) {
            self.push(vec![token.clone()], None);
            self.below.push(token.clone());
            self.command = subcommand;
            self.positionals = None;
        } else if self.command.get_arguments().any(Arg::is_positional) {
            match self.positionals.and_then(|at| self.parts.get_mut(at)) {
                Some(part) => part.tokens.push(token.clone()),
                None => {
                    self.positionals = Some(self.parts.len());
                    self.push(vec![token.clone()], None);
                }
            }
        } else {
            self.push(vec![token.clone()], None);
        }
        0
    }

    fn takes_arguments(&self) -> bool {
        self.command.has_subcommands() || self.command.get_arguments().any(Arg::is_positional)
    }

    fn find(&self, is_it: impl Fn(&Arg) -> bool) -> Option<(String, usize)> {
        let option = self.command.get_arguments().find(|option| is_it(option))?;
        let values = option.get_num_args().map_or(0, |range| range.max_values());
        Some((option.get_id().to_string(), values))
    }

    fn push(&mut self, tokens: Vec<OsString>, id: Option<String>) {
        self.parts.push(Part { tokens, below: self.below.clone(), id });
    }
}

/// `-` alone is a value: standard input.
fn looks_like_option(token: &OsString) -> bool {
    let text = token.to_string_lossy();
    text.len() > 1 && text.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ArgAction;

    fn command() -> Command {
        let mut command = Command::new("program")
            .arg(Arg::new("flag").short('d').long("flag").action(ArgAction::SetTrue))
            .arg(Arg::new("all").short('a').action(ArgAction::SetTrue).global(true))
            .arg(Arg::new("url").short('U').long("url").global(true))
            .arg(Arg::new("two").long("two").num_args(2))
            .subcommand(Command::new("show").arg(Arg::new("file")).arg(Arg::new("other")));
        command.build();
        command
    }

    fn apart(line: &str) -> Vec<String> {
        let arguments: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        let text = |part: &Part| {
            let tokens: Vec<_> = part.tokens.iter().map(|token| token.to_string_lossy()).collect();
            format!("{}{}", tokens.join(" "), part.id.as_ref().map_or(String::new(), |id| format!("={id}")))
        };
        take_apart(&command(), &arguments).iter().map(text).collect()
    }

    #[test]
    fn each_option_keeps_its_value_and_each_letter_stands_alone() {
        for (line, parts) in [
            ("", &[][..]),
            ("-d --url x", &["-d=flag", "--url x=url"]),
            ("--url=x -Ux -U x", &["--url=x=url", "-Ux=url", "-U x=url"]),
            ("-daUx", &["-d=flag", "-a=all", "-Ux=url"]),
            ("-dU x", &["-d=flag", "-U x=url"]),
            ("-dxa", &["-d=flag", "-xa"]),
            ("--url --flag", &["--url=url", "--flag=flag"]),
            ("--url -", &["--url -=url"]),
            ("--two 1 2 --two 3 -d", &["--two 1 2=two", "--two 3=two", "-d=flag"]),
            ("--what --flag", &["--what", "--flag=flag"]),
            ("show one -a two --url x", &["show", "one two", "-a=all", "--url x=url"]),
            ("show one -- -d", &["show", "one", "-- -d"]),
        ] {
            assert_eq!(apart(line), parts, "{line}");
        }
    }
}
