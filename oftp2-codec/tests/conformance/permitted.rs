//! Every command from both sides in every phase, against the table of who may send what.

use crate::{
    corpus::{VECTORS, beginnings, text, vector},
    rows::after,
};
use oftp2_codec::{
    Conformance,
    command::{CommandName, Level},
    monitor::Peer,
    reason::SessionEndReason,
};

/// A message of this command that is right in itself at this level, from this side.
fn sample(command: CommandName, level: Level, from: Peer) -> &'static [u8] {
    let name = match (command, level, from) {
        (CommandName::Ssrm, ..) => "V01",
        (CommandName::Ssid, Level::L5, Peer::Initiator) => "V05",
        (CommandName::Ssid, Level::L5, Peer::Responder) => "V06",
        (CommandName::Ssid, _, Peer::Initiator) => "V40",
        (CommandName::Ssid, _, Peer::Responder) => "V41",
        (CommandName::Secd, ..) => "V07",
        (CommandName::Auch, ..) => "V08",
        (CommandName::Aurp, ..) => "V09",
        (CommandName::Sfid, Level::L5, _) => "V10",
        (CommandName::Sfid, Level::L4, _) => "V42",
        (CommandName::Sfid, ..) => "V62",
        (CommandName::Sfpa, Level::L5, _) => "V13",
        (CommandName::Sfpa, ..) => "V43",
        (CommandName::Sfna, Level::L5, _) => "V15",
        (CommandName::Sfna, ..) => "V44",
        (CommandName::Data, ..) => "V17",
        (CommandName::Cdt, ..) => "V21",
        (CommandName::Efid, Level::L5, _) => "V22",
        (CommandName::Efid, ..) => "V45",
        (CommandName::Efpa, ..) => "V24",
        (CommandName::Efna, Level::L5, _) => "V26",
        (CommandName::Efna, ..) => "V46",
        (CommandName::Esid, Level::L5, _) => "V29",
        (CommandName::Esid, ..) => "V64",
        (CommandName::Cd, ..) => "V31",
        (CommandName::Eerp, Level::L5, _) => "V32",
        (CommandName::Eerp, Level::L4, _) => "V48",
        (CommandName::Eerp, ..) => "V63",
        (CommandName::Nerp, Level::L5, _) => "V34",
        (CommandName::Nerp, ..) => "V49",
        (CommandName::Rtr, ..) => "V36",
    };
    &vector(name).octets
}

#[test]
fn each_command_passes_where_the_table_has_it_and_nowhere_else() {
    let mut tried = 0;
    for line in text("dialogues", "permitted").lines().filter(|line| !line.is_empty()) {
        let [before, initiator, responder, besides] =
            line.split('|').map(str::trim).collect::<Vec<_>>().try_into().expect("four columns");
        for from in [Peer::Initiator, Peer::Responder] {
            let (listed, side) = match from {
                Peer::Initiator => (initiator, "I: "),
                Peer::Responder => (responder, "R: "),
            };
            let besides = besides.strip_prefix(side).unwrap_or_default();
            let may = |list: &str, command: CommandName| list.split_whitespace().any(|name| name == command.as_str());
            for command in CommandName::ALL {
                for conformance in [Conformance::Strict, Conformance::Standard] {
                    let mut monitor = after(before, conformance);
                    let agreed = monitor.agreement().map(|agreement| agreement.level);
                    let result = monitor.judge(from, sample(*command, agreed.unwrap_or(Level::L5), from));
                    let passes = *command == CommandName::Esid
                        || may(listed, *command)
                        || (conformance == Conformance::Standard && may(besides, *command));
                    let place = format!("{command} of the {from} at {before}, {conformance:?}");
                    tried += 1;
                    if passes {
                        result.unwrap_or_else(|violation| panic!("{place}: {violation}"));
                        continue;
                    }
                    let violation = result.expect_err(&place);
                    let unknown = agreed.is_some_and(|level| !command.exists_at(level));
                    let expected = match unknown {
                        true => SessionEndReason::CommandNotRecognised,
                        false => SessionEndReason::ProtocolViolation,
                    };
                    assert_eq!(violation.reason, expected, "{place}: {violation}");
                    assert_eq!(violation.offender, from, "{place}");
                    if !unknown && !may(besides, *command) {
                        assert_eq!(violation.expected, what_is_expected(listed), "{place}");
                    }
                    assert!(monitor.has_ended(), "{place}");
                }
            }
        }
    }
    assert_eq!(tried, 34 * 2 * 18 * 2);
}

/// What a refusal tells the administrator: the commands that the table has, in the order of the RFC's sections.
fn what_is_expected(listed: &str) -> String {
    let listed: Vec<&str> = listed.split_whitespace().collect();
    let in_order: Vec<&str> =
        CommandName::ALL.iter().map(|name| name.as_str()).filter(|name| listed.contains(name)).collect();
    match in_order.as_slice() {
        [] => "nothing but ESID expected from this side".to_owned(),
        names => format!("{} or ESID expected", names.join(", ")),
    }
}

#[test]
fn after_the_end_everything_is_dropped() {
    for message in VECTORS.iter() {
        for from in [Peer::Initiator, Peer::Responder] {
            let judgement = after("ended", Conformance::Strict).judge(from, &message.octets).unwrap();
            assert_eq!(judgement.pass, oftp2_codec::monitor::Pass::Drop, "{}", message.name);
        }
    }
}

#[test]
fn beginnings_are_as_legal_as_they_say() {
    for (name, strict) in beginnings() {
        after(&name, Conformance::Standard);
        if strict {
            after(&name, Conformance::Strict);
        }
    }
}
