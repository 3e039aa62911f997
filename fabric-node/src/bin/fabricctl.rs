//! `fabricctl`: see [`fabric_node::ctl`].

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use fabric_node::ctl;
use fabric_node::exit::Exit;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match ctl::args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => ctl::usage::end(&error),
    };
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let output = cli.output;
    match ctl::run(cli, &mut out, &mut err).await {
        Ok(()) => Exit::Done.into(),
        Err(problem) => {
            // Nobody is left to be told if standard error is closed.
            let _closed = err.write_all(problem.told(output).as_bytes());
            problem.exit().into()
        }
    }
}
