//! `fabric-node`: see [`fabric_node::daemon`].

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use fabric_node::exit::Exit;
use fabric_node::{daemon, node_args};

/// Compiling a domain of 100,000 endpoints takes much memory for a moment, on several threads: this allocator gives it back
/// to the kernel, which takes half of what stays.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = node_args::Cli::parse();
    match daemon::main(cli, &mut std::io::stdout()).await {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            // Nobody is left to be told if standard error is closed.
            let _closed = std::io::stderr().write_all(failure.text().as_bytes());
            failure.exit.into()
        }
    }
}
