//! Completions and man pages, made from the command lines themselves.

use std::io::Write;
use std::path::Path;

use clap::{Command, CommandFactory};

use super::args::Cli;
use super::problem::Problem;
use crate::node_args;

/// A completion script of `fabricctl`.
pub(super) fn completions(shell: clap_complete::Shell, out: &mut impl Write) -> Result<(), Problem> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fabricctl", &mut script);
    Ok(out.write_all(&script)?)
}

/// A page per command of both programs.
pub(super) fn man(directory: &Path) -> Result<(), Problem> {
    let wrong = |error: std::io::Error| Problem::File {
        path: directory.to_owned(),
        message: error.to_string(),
    };
    std::fs::create_dir_all(directory).map_err(wrong)?;
    for (command, section) in [(node_args::Cli::command(), "8"), (Cli::command(), "1")] {
        // Built, every command knows its full name, its version and the options that stand after it as well.
        let mut command = command.disable_help_subcommand(true);
        command.build();
        let name = command.get_name().to_owned();
        page(directory, section, command, &name).map_err(wrong)?;
    }
    Ok(())
}

fn page(directory: &Path, section: &str, command: Command, name: &str) -> std::io::Result<()> {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        page(directory, section, sub.clone(), &format!("{name}-{}", sub.get_name()))?;
    }
    let mut text = Vec::new();
    let source = format!("fabric {}", env!("CARGO_PKG_VERSION"));
    let page = clap_mangen::Man::new(command)
        .title(name)
        .section(section)
        .source(source);
    page.render(&mut text)?;
    std::fs::write(directory.join(format!("{name}.{section}")), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_programs_have_pages() {
        let dir = tempfile::tempdir().expect("a directory");
        man(dir.path()).expect("written");
        for name in [
            "fabric-node.8",
            "fabric-node-init.8",
            "fabricctl.1",
            "fabricctl-endpoint-attach.1",
            "fabricctl-user-create.1",
        ] {
            let text = std::fs::read_to_string(dir.path().join(name)).expect(name);
            assert!(text.contains(".SH NAME") && text.contains("SYNOPSIS"), "{name}");
            let title = text.lines().find(|line| line.starts_with(".TH")).expect("a title");
            assert!(title.contains(env!("CARGO_PKG_VERSION")), "{title}");
        }
        for name in ["fabricctl.1", "fabricctl-status.1", "fabricctl-endpoint-attach.1"] {
            let text = std::fs::read_to_string(dir.path().join(name)).expect(name);
            assert!(text.contains("\\-\\-api"), "{name} has the options of all commands");
        }
    }

    #[test]
    fn completions_know_the_commands() {
        let mut out = Vec::new();
        completions(clap_complete::Shell::Bash, &mut out).expect("written");
        assert!(String::from_utf8_lossy(&out).contains("describe"));
    }
}
