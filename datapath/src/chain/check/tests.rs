use std::thread;

use super::*;

/// `exit`, and a call of the function that follows in the section.
const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
const CALL_NEXT: [u8; 8] = [0x85, 0x10, 0, 0, 1, 0, 0, 0];
/// `R_BPF_64_32`.
const CALL: u64 = 10;
/// Kinds of symbols.
const OBJECT: u8 = 1;
const FUNCTION: u8 = 2;

/// A section: name, type, link, info, size of an entry, contents.
struct Section(&'static str, u32, u32, u32, u64, Vec<u8>);

/// An object whose entry calls the symbol of a `kind` at the begin of `.text`; there, functions of two instructions each
/// call the next.
fn object_of(functions: usize, kind: u8) -> Vec<u8> {
    let last = functions - 1;
    let text = (0..functions).flat_map(|n| [if n == last { EXIT } else { CALL_NEXT }, EXIT]);
    let names = b"\0f\0".to_vec();
    let mut symbols = vec![0; 24];
    symbols.extend(symbol(FUNCTION, 1, 0));
    symbols.extend(symbol(kind, 2, 0));
    for n in usize::from(kind == FUNCTION)..functions {
        symbols.extend(symbol(FUNCTION, 2, n as u64 * 16));
    }
    let relocation = [0, CALL | 2 << 32].map(u64::to_le_bytes).concat();
    let entry = [[0x85, 0x10, 0, 0, 0xff, 0xff, 0xff, 0xff], EXIT].concat();
    elf(vec![
        Section("", 0, 0, 0, 0, Vec::new()),
        Section("classifier", 1, 0, 0, 0, entry),
        Section(".text", 1, 0, 0, 0, text.flatten().collect()),
        Section("license", 1, 0, 0, 0, b"GPL\0".to_vec()),
        Section(".symtab", 2, 5, 1, 24, symbols),
        Section(".strtab", 3, 0, 0, 0, names),
        Section(".relclassifier", 9, 4, 1, 16, relocation),
    ])
}

/// A global symbol of two instructions with the name `f`.
fn symbol(kind: u8, section: u8, address: u64) -> Vec<u8> {
    let mut symbol = vec![1, 0, 0, 0, 1 << 4 | kind, 0, section, 0];
    symbol.extend(address.to_le_bytes());
    symbol.extend(16_u64.to_le_bytes());
    symbol
}

fn elf(mut sections: Vec<Section>) -> Vec<u8> {
    let code = |section: &Section| {
        if section.1 == 1 && section.0 != "license" {
            6_u64
        } else {
            2
        }
    };
    let mut names = Vec::new();
    let mut starts = Vec::new();
    for name in sections.iter().map(|it| it.0).chain([".shstrtab"]) {
        starts.push(names.len() as u32);
        names.extend(name.bytes().chain([0]));
    }
    sections.push(Section(".shstrtab", 3, 0, 0, 0, names));
    let (mut contents, mut table) = (vec![0; 64], Vec::new());
    for (section, name) in sections.iter().zip(starts) {
        let Section(_, kind, link, info, entry, bytes) = section;
        let flags = if *kind == 0 { 0 } else { code(section) };
        for number in [name, *kind] {
            table.extend(number.to_le_bytes());
        }
        for number in [flags, 0, contents.len() as u64, bytes.len() as u64] {
            table.extend(number.to_le_bytes());
        }
        for number in [*link, *info] {
            table.extend(number.to_le_bytes());
        }
        for number in [8, *entry] {
            table.extend(number.to_le_bytes());
        }
        contents.extend(bytes);
        contents.resize(contents.len().next_multiple_of(8), 0);
    }
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    header.extend([1, 0, 247, 0, 1, 0, 0, 0]);
    for number in [0, 0, contents.len() as u64] {
        header.extend(number.to_le_bytes());
    }
    let count = sections.len() as u16;
    header.extend([0; 4]);
    for number in [64, 0, 0, 64, count, count - 1] {
        header.extend(number.to_le_bytes());
    }
    contents[..64].copy_from_slice(&header);
    contents.extend(table);
    contents
}

/// What becomes of an object in a file.
fn loaded(bytes: &[u8]) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("function.o");
    std::fs::write(&path, bytes).expect("written");
    load(&path).map(drop).map_err(|error| error.to_string())
}

#[test]
fn functions_that_call_each_other_are_linked() {
    let (object, _) = build(&object_of(200, FUNCTION)).expect("it is one");
    let entry = object.programs.values().next().expect("a program").function_key();
    assert_eq!(object.functions[&entry].instructions.len(), 2 * 201);
}

#[test]
fn an_object_the_linker_gives_up_on_is_refused() {
    let why = loaded(&object_of(2, OBJECT)).expect_err("the linker knows no such call");
    assert!(why.contains("it is damaged"), "{why}");
}

#[test]
fn a_file_of_thousands_of_functions_is_refused_before_the_linker_descends() {
    let bytes = object_of(20_000, FUNCTION);
    assert!(bytes.len() <= FILE_MAX, "{} bytes", bytes.len());
    let why = thread::spawn(move || loaded(&bytes))
        .join()
        .expect("it does not end the thread");
    let why = why.expect_err("it has too many functions");
    assert!(why.contains("its number of functions exceeds 256"), "{why}");
}

#[test]
fn a_fifo_is_no_function() {
    let folder = tempfile::tempdir().expect("a folder");
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let why = load(&fifo).expect_err("a FIFO").to_string();
    assert!(why.contains("it is not a file"), "{why}");
}
