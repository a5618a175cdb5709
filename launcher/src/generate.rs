//! Man page and completions of a program, from the definition that its command line is read by.
//!
//! `PROGRAM --generate man|bash|zsh|fish` prints one of them; it is for whoever installs, and not in any help text.
//! It has to be the only thing on the command line, so that it means nothing where it is an argument of somebody else's.

use clap::Command;
use clap_complete::Shell;
use std::ffi::OsString;
use std::io::{self, Write};

/// When the command lines last changed.
const DATE: &str = "2026-11-22";
/// Programs that have a page.
const PAGES: [&str; 6] =
    ["dmtcp_command", "dmtcp_coordinator", "dmtcp_inspect", "dmtcp_launch", "dmtcp_nocheckpoint", "dmtcp_restart"];

/// The flag.
pub const FLAG: &str = "--generate";

/// What is to be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A man page of section 1.
    Man,
    /// A completion script.
    Completions(Shell),
}

/// What the command line asks for, if it asks for that.
pub fn asked(mut arguments: impl Iterator<Item = OsString>) -> Option<Kind> {
    let (flag, what) = (arguments.nth(1)?, arguments.next()?);
    if flag != FLAG || arguments.next().is_some() {
        return None;
    }
    match what.to_str()? {
        "man" => Some(Kind::Man),
        "bash" => Some(Kind::Completions(Shell::Bash)),
        "zsh" => Some(Kind::Completions(Shell::Zsh)),
        "fish" => Some(Kind::Completions(Shell::Fish)),
        _ => None,
    }
}

/// The text.
pub fn text(kind: Kind, mut command: Command) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match kind {
        Kind::Man => {
            let own = command.get_name().to_owned();
            let aliases = aliases(&command);
            clap_mangen::Man::new(command).date(DATE).manual("DMTCP").render(&mut out)?;
            if !aliases.is_empty() {
                writeln!(out, ".SH \"OTHER NAMES\"\n{}", aliases.join("\n.br\n"))?;
            }
            let others: Vec<String> =
                PAGES.iter().filter(|name| **name != own).map(|name| format!("\\fB{name}\\fR(1)")).collect();
            writeln!(out, ".SH \"SEE ALSO\"\n{}", others.join(",\n"))?;
        }
        Kind::Completions(shell) => {
            let name = command.get_name().to_owned();
            clap_complete::generate(shell, &mut command, name, &mut out);
        }
    }
    Ok(out)
}

/// What else options are called, in a page's language.
fn aliases(command: &Command) -> Vec<String> {
    let name = |long: &str| format!("\\fB\\-\\-{}\\fR", long.replace('-', "\\-"));
    let of = |argument: &clap::Arg| {
        let long = argument.get_long()?.to_owned();
        let aliases = argument.get_visible_aliases().filter(|_| !argument.is_hide_set())?;
        Some(aliases.into_iter().map(|alias| format!("{}: {}", name(alias), name(&long))).collect::<Vec<_>>())
    };
    command.get_arguments().filter_map(of).flatten().collect()
}

/// Prints what the command line asks for and ends the program, if it asks for that.
pub fn answer(command: impl FnOnce() -> Command) {
    let Some(kind) = asked(std::env::args_os()) else { return };
    let printed = text(kind, command()).and_then(|text| {
        let mut out = io::stdout();
        out.write_all(&text)?;
        out.flush()
    });
    std::process::exit(i32::from(printed.is_err()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch_flags::LaunchFlags;
    use clap::CommandFactory;

    fn ask(line: &str) -> Option<Kind> {
        asked(line.split(' ').map(OsString::from))
    }

    #[test]
    fn only_the_flag_alone_is_meant() {
        assert_eq!(ask("dmtcp_launch --generate man"), Some(Kind::Man));
        assert_eq!(ask("dmtcp_launch --generate nothing"), None);
        assert_eq!(ask("dmtcp_launch prog --generate man"), None);
        assert_eq!(ask("dmtcp_launch --generate man prog"), None);
    }

    #[test]
    fn every_flag_that_is_shown_is_in_each_text() {
        let command = LaunchFlags::command();
        let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
        let flags: Vec<String> = shown.filter_map(|argument| argument.get_long().map(str::to_owned)).collect();
        assert!(flags.iter().any(|flag| flag == "no-coordinator"));
        for kind in [Kind::Man, Kind::Completions(Shell::Bash), Kind::Completions(Shell::Fish)] {
            let text = String::from_utf8(text(kind, command.clone()).unwrap()).unwrap().replace("\\-", "-");
            for flag in &flags {
                assert!(text.contains(flag.as_str()), "{kind:?} lacks {flag}");
            }
        }
    }
}
