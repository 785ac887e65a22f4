//! Completions for bash, zsh and fish, made of the help of a program.

use std::fmt::Write as _;

use super::help::{Command, Entry};

/// A function for bash's `complete -F`.
pub fn bash(program: &Command) -> String {
    let name = &program.words[0];
    let mut made = format!("# Completion of {name} for bash, made from its help.\n\n_{name}() {{\n");
    made += "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} path= i\n";
    made += "    for ((i = 1; i < COMP_CWORD; i++)); do\n        case \"$path ${COMP_WORDS[i]}\" in\n";
    for command in program.all().into_iter().skip(1) {
        let (last, above) =
            command.words[1..].split_last().map_or(("", &[][..]), |(last, above)| (last.as_str(), above));
        let above: String = above.iter().map(|word| format!("-{word}")).collect();
        let _ = writeln!(made, "        \"{above} {last}\") path={above}-{last} ;;");
    }
    made += "        esac\n    done\n    local words= values=\n    case \"$path\" in\n";
    for command in program.all() {
        let path: String = command.words[1..].iter().map(|word| format!("-{word}")).collect();
        let words: Vec<_> = command
            .options
            .iter()
            .flat_map(|option| option.names.iter().map(String::as_str))
            .chain(command.commands.iter().filter_map(|command| command.words.last().map(String::as_str)))
            .collect();
        let _ = writeln!(made, "    \"{path}\")\n        words=\"{}\"\n        case \"$before\" in", words.join(" "));
        for option in command.options.iter().filter(|option| !option.values.is_empty()) {
            let values = if option.wants_file() {
                "COMPREPLY=($(compgen -f -- \"$word\")); return".to_owned()
            } else if option.possible.is_empty() {
                "return".to_owned()
            } else {
                format!("values=\"{}\"", option.possible.join(" "))
            };
            let _ = writeln!(made, "        {}) {values} ;;", option.names.join("|"));
        }
        made += "        esac\n        ;;\n";
    }
    made += "    esac\n    COMPREPLY=($(compgen -W \"${values:-$words}\" -- \"$word\"))\n";
    let _ = writeln!(made, "}}\n\ncomplete -o filenames -o bashdefault -F _{name} {name}");
    made
}

/// A file for zsh's `fpath`.
pub fn zsh(program: &Command) -> String {
    let name = &program.words[0];
    let mut made = format!("#compdef {name}\n# Completion of {name} for zsh, made from its help.\n\n");
    for command in program.all() {
        let function = format!("_{}", command.words.join("_").replace('-', "_"));
        // The first function bears the name of the file and is called at its end.
        let _ = writeln!(made, "{function}() {{\n    local state\n    _arguments \\");
        for option in &command.options {
            let action = if option.wants_file() {
                ":value:_files".to_owned()
            } else if !option.possible.is_empty() {
                format!(":value:({})", option.possible.join(" "))
            } else {
                option.values.split_whitespace().map(|_| ":value: ").collect()
            };
            for name in &option.names {
                let _ = writeln!(made, "        '{name}[{}]{action}' \\", quote(option));
            }
        }
        if command.commands.is_empty() {
            made += "        '*:file:_files'\n}\n\n";
            continue;
        }
        let below: Vec<_> = command.commands.iter().filter_map(|below| below.words.last()).collect();
        let names = below.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            made,
            "        '1:command:({names})' \\\n        '*::argument:->below'\n    case \"$state:$line[1]\" in"
        );
        for name in below {
            let _ = writeln!(made, "    below:{name}) {function}_{} ;;", name.replace('-', "_"));
        }
        made += "    esac\n}\n\n";
    }
    let _ = writeln!(made, "_{name} \"$@\"");
    made
}

/// A file for fish's `completions` folder.
pub fn fish(program: &Command) -> String {
    let name = &program.words[0];
    let mut made = format!("# Completion of {name} for fish, made from its help.\n\n");
    for command in program.all() {
        let below: Vec<_> =
            command.commands.iter().filter_map(|below| below.words.last()).map(String::as_str).collect();
        let mut condition: Vec<_> =
            command.words[1..].iter().map(|word| format!("__fish_seen_subcommand_from {word}")).collect();
        if !below.is_empty() {
            condition.push(format!("not __fish_seen_subcommand_from {}", below.join(" ")));
        }
        let condition = match condition.is_empty() {
            true => String::new(),
            false => format!(" -n '{}'", condition.join("; and ")),
        };
        for below in &command.commands {
            let (last, about) = (below.words.last().map_or("", String::as_str), below.about.first());
            let _ = writeln!(
                made,
                "complete -c {name}{condition} -f -a {last} -d '{}'",
                text(about.map_or("", String::as_str))
            );
        }
        for option in &command.options {
            let _ = write!(made, "complete -c {name}{condition}");
            option.short().map(|short| write!(made, " -s {short}")).transpose().unwrap_or_default();
            option.long().map(|long| write!(made, " -l {long}")).transpose().unwrap_or_default();
            match (option.values.is_empty(), option.wants_file(), option.possible.is_empty()) {
                (true, ..) => {}
                (_, true, _) => made += " -r -F",
                (.., true) => made += " -x",
                _ => {
                    let _ = write!(made, " -x -a '{}'", option.possible.join(" "));
                }
            }
            let _ = writeln!(made, " -d '{}'", text(option.paragraphs().next().unwrap_or_default()));
        }
    }
    made
}

/// What an option means, within zsh's brackets and quotes.
fn quote(option: &Entry) -> String {
    let text = text(option.paragraphs().next().unwrap_or_default());
    text.replace('[', "\\[").replace(']', "\\]").replace(':', "\\:")
}

/// Within single quotes.
fn text(text: &str) -> String {
    text.replace('\'', "’")
}
