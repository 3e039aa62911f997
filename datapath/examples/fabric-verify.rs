//! Loads every eBPF program into the running kernel and prints one JSON line for each. Fails where one does not load, or
//! where the verifier had to look at more instructions than leaves room to spare under its limit of a million.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::process::ExitCode;

use aya::EbpfLoader;
use aya::programs::{ProgramError, SchedClassifier};
use datapath::object::{self, OBJECT};

/// Most instructions that the verifier may look at.
const MOST: u32 = 800_000;
/// Lines of the verifier's log that are worth printing: its end says what is wrong.
const LOG_LINES: usize = 60;

/// Why a program is not fit.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("it is no classifier")]
    Kind(#[source] ProgramError),
    #[error("the kernel refuses it")]
    Load(#[source] ProgramError),
    #[error("the kernel does not tell about it")]
    Info(#[source] ProgramError),
    #[error("the verifier looked at {0} instructions, which is not between 1 and {MOST}")]
    Instructions(u32),
}

fn main() -> ExitCode {
    let mut ebpf = match EbpfLoader::new().load(OBJECT) {
        Ok(ebpf) => ebpf,
        Err(error) => {
            eprintln!("the object does not load: {error:?}");
            return ExitCode::FAILURE;
        }
    };
    let mut fit = true;
    for (name, program) in ebpf.programs_mut() {
        match program.try_into().map_err(Error::Kind).and_then(verify) {
            Ok((verified, translated, jited)) => println!(
                "{{\"program\":\"{name}\",\"verified_insns\":{verified},\"translated\":{translated},\"jited\":{jited}}}"
            ),
            Err(error) => {
                fit = false;
                eprintln!("{name}: {error}{}", log(&error));
            }
        }
    }
    if fit { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Instructions that the verifier looked at, bytes of the program as loaded, bytes of machine code.
fn verify(program: &mut SchedClassifier) -> Result<(u32, u32, u32), Error> {
    object::load(program).map_err(Error::Load)?;
    let info = program.info().map_err(Error::Info)?;
    let verified = info.verified_instruction_count().unwrap_or(0);
    if !(1..MOST).contains(&verified) {
        return Err(Error::Instructions(verified));
    }
    Ok((verified, info.size_translated().unwrap_or(0), info.size_jitted()))
}

/// The end of the verifier's log, if the kernel wrote one.
fn log(error: &Error) -> String {
    let Error::Load(ProgramError::LoadError { io_error, verifier_log }) = error else {
        return format!(": {error:?}");
    };
    let text = verifier_log.to_string();
    let lines: Vec<&str> = text.lines().collect();
    format!(
        ": {io_error}\n{}",
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    )
}
