//! What `tests/bench.sh` needs of traffic and writes and cannot get from packages.
//!
//! | module | what |
//! |---|---|
//! | [`connections`] | opening and closing TCP connections as fast as it can |
//! | [`change`] | writing to a node's API, and how long after it a first packet arrives |
//! | [`spread`] | writing to a node's API, and how long after it all others show it |

mod change;
mod connections;
mod spread;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

/// Traffic for the benchmark. Rates and times go to standard output.
#[derive(Debug, Parser)]
enum Command {
    /// Accepts TCP connections and closes them; sends UDP datagrams back.
    Serve {
        /// Address and port.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Opens a connection, waits for its end, and again; prints how many there were per second.
    Connect {
        /// Address and port.
        #[arg(long)]
        to: SocketAddr,
        /// For how long.
        #[arg(long, default_value_t = 2)]
        seconds: u64,
        /// How many at a time.
        #[arg(long, default_value_t = 4)]
        threads: usize,
    },
    /// Allows and denies again; prints for each time the milliseconds from the call to the first answer.
    First {
        /// Address and port of a `serve` that answers only while it is allowed.
        #[arg(long)]
        to: SocketAddr,
        /// The API's Unix socket.
        #[arg(long)]
        api: PathBuf,
        /// Manifest that allows.
        #[arg(long)]
        allow: PathBuf,
        /// Manifest that denies.
        #[arg(long)]
        deny: PathBuf,
        /// How many times.
        #[arg(long, default_value_t = 100)]
        times: u32,
    },
    /// Writes manifests in turns, at an even rate; prints how many there were per second.
    Changes {
        /// The API's Unix socket.
        #[arg(long)]
        api: PathBuf,
        /// A folder of manifests.
        #[arg(long)]
        manifests: PathBuf,
        /// How many per second.
        #[arg(long, default_value_t = 30)]
        rate: u32,
        /// For how long.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// How many at a time: an acknowledged one is on disk, which takes its time.
        #[arg(long, default_value_t = 8)]
        writers: usize,
    },
    /// Writes again and again; prints for each time the milliseconds until all others show it.
    Spread {
        /// The Unix socket of the API that is written to.
        #[arg(long)]
        write: PathBuf,
        /// Those of the others.
        #[arg(long, required = true)]
        read: Vec<PathBuf>,
        /// How many times.
        #[arg(long, default_value_t = 100)]
        times: u32,
    },
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Serve { listen } => connections::serve(listen),
        Command::Connect { to, seconds, threads } => connections::connect(to, seconds, threads),
        Command::First {
            to,
            api,
            allow,
            deny,
            times,
        } => change::first(to, &api, [&allow, &deny], times),
        Command::Changes {
            api,
            manifests,
            rate,
            seconds,
            writers,
        } => change::changes(&api, &manifests, rate, seconds, writers),
        Command::Spread { write, read, times } => spread::spread(&write, &read, times),
    }
}
