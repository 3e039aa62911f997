//! What a command line that is not understood gets. Owns one exception: where the command is missing, help is more use
//! than an error, also when an option or a variable of the environment is there, which clap takes for a wish.

use std::io::Write;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args::Cli;
use crate::exit::Exit;

/// Says it and ends the process.
pub fn end(error: &clap::Error) -> ! {
    let Some(help) = help(error) else { error.exit() };
    // Nobody is left to be told if standard error is closed.
    let _closed = std::io::stderr().write_all(help.as_bytes());
    std::process::exit(Exit::Usage.code().into())
}

/// The help of the command of which a subcommand is missing.
fn help(error: &clap::Error) -> Option<String> {
    let (ErrorKind::MissingSubcommand, Some(ContextValue::String(path))) =
        (error.kind(), error.get(ContextKind::InvalidSubcommand))
    else {
        return None;
    };
    let mut command = Cli::command();
    command.build();
    let mut found = &mut command;
    for name in path.split_whitespace().skip(1) {
        found = found.find_subcommand_mut(name)?;
    }
    Some(found.render_help().to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn said(line: &str) -> Option<String> {
        help(&Cli::try_parse_from(line.split_whitespace()).expect_err(line))
    }

    #[test]
    fn without_a_command_there_is_help() {
        let all = said("fabricctl -o json").expect("help");
        assert!(all.contains("completions") && all.contains("Exit codes"), "{all}");
        assert!(!all.lines().any(|line| line.trim_start().starts_with("man ")), "{all}");
        let tokens = said("fabricctl -o json token").or_else(|| said("fabricctl token -o json"));
        assert!(tokens.expect("help").contains("fabricctl token"));
        assert_eq!(said("fabricctl frobnicate"), None);
    }
}
