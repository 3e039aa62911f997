//! Loads every eBPF program into the running kernel and prints one JSON line for each.

use std::process::ExitCode;

use aya::EbpfLoader;
use aya::programs::{ProgramInfo, SchedClassifier};
use datapath::object::OBJECT;

fn main() -> ExitCode {
    let mut ebpf = match EbpfLoader::new().load(OBJECT) {
        Ok(ebpf) => ebpf,
        Err(error) => {
            eprintln!("the object does not load: {error:?}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = false;
    for (name, program) in ebpf.programs_mut() {
        let program: &mut SchedClassifier = program.try_into().unwrap();
        match program.load() {
            Ok(()) => {
                let info: ProgramInfo = program.info().unwrap();
                println!(
                    "{{\"program\":\"{name}\",\"verified_insns\":{},\"translated\":{},\"jited\":{}}}",
                    info.verified_instruction_count().unwrap_or(0),
                    info.size_translated().unwrap_or(0),
                    info.size_jitted(),
                );
            }
            Err(error) => {
                failed = true;
                let text = format!("{error:?}");
                let text = text.replace("\\n", "\n");
                eprintln!("{name}: {}", &text[text.len().saturating_sub(6000)..]);
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
