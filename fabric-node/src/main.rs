//! `fabric-node`: see [`fabric_node::daemon`].

use std::process::ExitCode;

use clap::Parser;
use fabric_node::exit::Exit;
use fabric_node::{daemon, node_args};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = node_args::Cli::parse();
    match daemon::main(cli, &mut std::io::stdout()).await {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            eprintln!("fabric-node: {failure}");
            failure.exit.into()
        }
    }
}
