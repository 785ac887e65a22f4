//! Reading a command line so that all its mistakes are told at once, and not one at each attempt.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error, Parser};

use crate::exit::ExitCode;
use crate::parts::{Part, take_apart};

/// Something that a command line must have, which depends on the rest of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Id of the option (name of its field). One that was given, though wrongly, is not missed as well.
    pub option: &'static str,
    /// The sentence for the terminal.
    pub sentence: String,
}

/// What a command line demands beyond what each option says of itself.
pub trait Demands {
    /// All that is missing, or does not go together.
    fn demands(&self) -> Vec<Demand> {
        Vec::new()
    }
}

/// Why a command line does not start the program.
#[derive(Debug)]
pub enum Refused {
    /// Help or version was asked for; it is to be printed.
    Told(Box<Error>),
    /// All mistakes, a sentence each, and how the program is used.
    Mistaken {
        /// At least one.
        mistakes: Vec<String>,
        /// The usage line.
        usage: String,
    },
}

/// Reads the command line of this process. Where that is not possible it prints help, or all mistakes, and ends the
/// process, with [`ExitCode::Usage`] after mistakes.
pub fn read<T: Parser + Demands>() -> T {
    match read_from(std::env::args_os().collect()) {
        Ok(options) => options,
        Err(Refused::Told(help)) => help.exit(),
        Err(Refused::Mistaken { mistakes, usage }) => {
            let program = T::command().get_name().to_owned();
            mistakes.iter().for_each(|mistake| eprintln!("{program}: {mistake}"));
            eprintln!("\n{usage}\n\nFor more information, try '--help'.");
            std::process::exit(ExitCode::Usage.number())
        }
    }
}

/// Reads a command line, whose first argument is the name of the program.
///
/// # Errors
/// [`Refused`].
pub fn read_from<T: Parser + Demands>(line: Vec<OsString>) -> Result<T, Refused> {
    let (program, arguments) = line.split_first().map_or((OsString::new(), &[][..]), |(p, rest)| (p.clone(), rest));
    let mut command = T::command();
    command.build();
    let parts = take_apart(&command, arguments);
    let usage = usage(&command, &parts);
    let mistaken = |mistakes| Err(Refused::Mistaken { mistakes, usage: usage.clone() });
    let first = match T::try_parse_from(&line) {
        Ok(options) => {
            let demands = options.demands();
            return if demands.is_empty() { Ok(options) } else { mistaken(sentences(demands, &[])) };
        }
        Err(told) if is_told(&told) => return Err(Refused::Told(Box::new(told))),
        Err(first) => first,
    };
    let relaxed = relax(T::command());
    let mut mistakes = Vec::new();
    let mut good = vec![program.clone()];
    let mut wrong = Vec::new();
    for part in parts {
        match judge(&relaxed, &program, &part) {
            None => good.extend(part.tokens),
            Some(told) if is_told(&told) => return Err(Refused::Told(Box::new(told))),
            Some(mistake) => {
                mistakes.push(sentence(mistake));
                if part.id.is_none() && part.is_argument() {
                    wrong.extend(arguments_of(&command, &part));
                }
                wrong.extend(part.id);
            }
        }
    }
    // What is good by itself may not go together, and something may be missing.
    let whole = T::command().arg_required_else_help(false).try_get_matches_from(&good);
    match whole.and_then(|matches| T::from_arg_matches(&matches)) {
        Ok(options) => mistakes.extend(sentences(options.demands(), &wrong)),
        Err(error) if is_told(&error) => {}
        Err(error) => mistakes.extend(without_given(error, &command, &wrong).map(sentence)),
    }
    if mistakes.is_empty() {
        mistakes.push(sentence(first));
    }
    mistaken(mistakes)
}

/// How the program is used, or the deepest subcommand that was named.
fn usage(command: &Command, parts: &[Part]) -> String {
    let deepest = parts.last().map_or(command, |part| part.command(command));
    deepest.clone().render_usage().to_string()
}

/// The arguments of the command that this part is one of, by their ids.
fn arguments_of(command: &Command, part: &Part) -> Vec<String> {
    let arguments = part.command(command).get_positionals();
    arguments.map(|argument| argument.get_id().to_string()).collect()
}

/// The mistake in this part, if it has one of its own.
fn judge(relaxed: &Command, program: &OsString, part: &Part) -> Option<Error> {
    let line = std::iter::once(program).chain(&part.below).chain(&part.tokens);
    let error = relaxed.clone().try_get_matches_from(line).err()?;
    let of_the_whole = matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::ArgumentConflict
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    (!of_the_whole).then_some(error)
}

/// The same command line without anything that it demands.
fn relax(command: Command) -> Command {
    let subcommands: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let relaxed =
        command.mut_args(|argument| argument.required(false)).subcommand_required(false).arg_required_else_help(false);
    subcommands.into_iter().fold(relaxed, |command, name| command.mut_subcommand(name, relax))
}

fn is_told(error: &Error) -> bool {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    matches!(error.kind(), DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand)
}

/// The error without the options that it misses and that were given, though wrongly; none when it missed nothing else.
fn without_given(mut error: Error, command: &Command, wrong: &[String]) -> Option<Error> {
    let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else { return Some(error) };
    if error.kind() != ErrorKind::MissingRequiredArgument {
        return Some(error);
    }
    let mut all = vec![command];
    let mut next = 0;
    while let Some(command) = all.get(next).copied() {
        all.extend(command.get_subcommands());
        next += 1;
    }
    let given: Vec<String> = all
        .iter()
        .flat_map(|command| command.get_arguments())
        .filter(|argument| wrong.iter().any(|id| argument.get_id() == id.as_str()))
        .map(ToString::to_string)
        .collect();
    let missing: Vec<_> = missing.iter().filter(|missing| !given.contains(missing)).cloned().collect();
    if missing.is_empty() {
        return None;
    }
    error.insert(ContextKind::InvalidArg, ContextValue::Strings(missing));
    Some(error)
}

fn sentences(demands: Vec<Demand>, wrong: &[String]) -> Vec<String> {
    let missed = demands.into_iter().filter(|demand| !wrong.iter().any(|id| id == demand.option));
    missed.map(|demand| demand.sentence).collect()
}

/// What clap says of one mistake, without usage and hints, which are said once.
fn sentence(mut error: Error) -> String {
    error.remove(ContextKind::Usage);
    error.remove(ContextKind::Suggested);
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let text = text.split("\n\nFor more information").next().unwrap_or(text);
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Subcommand;

    #[derive(Debug, Parser)]
    #[command(name = "program", arg_required_else_help = true)]
    struct Options {
        #[arg(short = 'n', long, default_value = "1")]
        number: u8,
        #[arg(short = 'd', long, conflicts_with = "quiet")]
        flag: bool,
        #[arg(short = 'q', long)]
        quiet: bool,
        #[arg(short = 'U', long, global = true)]
        url: Option<String>,
        #[command(subcommand)]
        task: Option<Task>,
    }

    #[derive(Debug, Subcommand)]
    enum Task {
        Show {
            file: String,
            #[arg(long)]
            times: u8,
        },
    }

    impl Demands for Options {
        fn demands(&self) -> Vec<Demand> {
            let sentence = "-U URL is missing".to_owned();
            if self.url.is_none() { vec![Demand { option: "url", sentence }] } else { Vec::new() }
        }
    }

    fn read(line: &str) -> Result<Options, Refused> {
        read_from(std::iter::once("program").chain(line.split_whitespace()).map(OsString::from).collect())
    }

    fn mistakes(line: &str) -> Vec<String> {
        match read(line) {
            Err(Refused::Mistaken { mistakes, usage }) => {
                assert!(usage.contains("Usage: program"), "{usage}");
                mistakes
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_good_line_is_read() {
        let options = read("-dU x show --times 3 file").unwrap();
        assert!(options.flag && options.url.as_deref() == Some("x") && options.number == 1);
        let Some(Task::Show { file, times }) = options.task else { panic!("{options:?}") };
        assert_eq!((file.as_str(), times), ("file", 3));
    }

    #[test]
    fn all_mistakes_are_told_together() {
        let told = mistakes("--number 300 --wrong -x --url");
        assert_eq!(told.len(), 4, "{told:?}");
        for (sentence, part) in told.iter().zip(["300", "--wrong", "-x", "--url"]) {
            assert!(sentence.contains(part) && !sentence.contains("Usage"), "{sentence}");
        }
    }

    #[test]
    fn what_does_not_go_together_and_what_is_missing_is_told_beside_what_is_wrong() {
        let told = mistakes("-d -q --wrong");
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("--wrong") && told[1].contains("cannot be used with"), "{told:?}");
        let told = mistakes("--wrong -n x");
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(told[2], "-U URL is missing");
        assert_eq!(mistakes("-d -n 1 -n 2 -U x").len(), 1, "given twice");
    }

    #[test]
    fn what_was_given_wrongly_is_not_missing_as_well() {
        let told = mistakes("-d -U");
        assert!(told.len() == 1 && told[0].contains("--url"), "{told:?}");
        let told = mistakes("-U x show --times many");
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("many") && told[1].contains("<FILE>"), "{told:?}");
        assert!(!told[1].contains("--times"), "{told:?}");
        let told = mistakes("-U x show --times many file");
        assert!(told.len() == 1 && told[0].contains("many"), "{told:?}");
    }

    #[test]
    fn arguments_given_wrongly_are_not_missing_and_the_usage_is_that_of_the_subcommand() {
        let told = mistakes("-U x show one two --times 3");
        assert!(told.len() == 1 && told[0].contains("two"), "{told:?}");
        let usage = |line: &str| match read(line) {
            Err(Refused::Mistaken { usage, .. }) => usage,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(usage("-U x show"), "Usage: program show [OPTIONS] --times <TIMES> <FILE>");
        assert_eq!(usage("-U x show --times many"), "Usage: program show [OPTIONS] --times <TIMES> <FILE>");
        assert_eq!(usage("--wrong"), "Usage: program [OPTIONS] [COMMAND]");
    }

    #[test]
    fn an_unknown_subcommand_is_one_mistake_among_others() {
        let told = mistakes("-n x what -U y");
        assert!(told.len() == 2 && told[1].contains("what"), "{told:?}");
    }

    #[test]
    fn whoever_asks_for_help_gets_it_whatever_else_is_wrong() {
        for line in ["-h", "--wrong --help", "", "show --help"] {
            assert!(matches!(read(line), Err(Refused::Told(_))), "{line}");
        }
    }
}
