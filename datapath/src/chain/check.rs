//! From an object file to a program that is fit to stand in a chain: it has one entry, its own bounded maps, asks the
//! kernel only for what functions may, and the kernel's verifier finds that it writes no packet.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::panic;
use std::path::Path;

use aya::maps::MapData;
use aya_obj::generated::bpf_map_type as kinds;
use aya_obj::maps::PinningType;
use aya_obj::{Map, Object, ProgramSection};
use object::{Object as _, ObjectSection as _};
use sha2::{Digest as _, Sha256};

use super::error::{FunctionError, Refusal};
use super::instructions;
use super::verifier::{self, Kind, Program};
use crate::opening;

/// Most bytes of an object file.
const FILE_MAX: usize = 1 << 20;
/// Most instructions of a function with all that it calls.
const INSTRUCTIONS_MAX: usize = 4096;
/// Most functions in a file, called or not.
const FUNCTIONS_MAX: usize = 256;
/// Most instructions in a file, called or not.
const FILE_INSTRUCTIONS_MAX: usize = 65_536;
/// Most maps.
const MAPS_MAX: usize = 8;
/// Most bytes of all maps together.
const MEMORY_MAX: u64 = 16 << 20;
/// What an element of a hash or a trie takes beside its key and value.
const ELEMENT: u64 = 64;
/// `BPF_F_NO_PREALLOC`, `BPF_F_RDONLY_PROG`, `BPF_F_MMAPABLE`.
const MAP_FLAGS: u32 = 1 | 1 << 7 | 1 << 10;

/// Kinds of map with whether each CPU has values of its own.
const KINDS: [(kinds, bool); 7] = [
    (kinds::BPF_MAP_TYPE_HASH, false),
    (kinds::BPF_MAP_TYPE_ARRAY, false),
    (kinds::BPF_MAP_TYPE_PERCPU_HASH, true),
    (kinds::BPF_MAP_TYPE_PERCPU_ARRAY, true),
    (kinds::BPF_MAP_TYPE_LRU_HASH, false),
    (kinds::BPF_MAP_TYPE_LRU_PERCPU_HASH, true),
    (kinds::BPF_MAP_TYPE_LPM_TRIE, false),
];

/// Loads the function in a file into the kernel, if it is one.
pub(super) fn load(path: &Path) -> Result<Program, FunctionError> {
    let bytes = read(path)?;
    let object = |why: String| FunctionError::Object {
        path: path.to_owned(),
        why,
    };
    let refused = |what: Refusal| FunctionError::Refused {
        path: path.to_owned(),
        what,
    };
    // Parser and linker are made for files that a compiler wrote.
    let built = panic::catch_unwind(|| build(&bytes)).unwrap_or_else(|_| Err(Unfit::Object("it is damaged".into())));
    let (parsed, maps) = built.map_err(|unfit| match unfit {
        Unfit::Object(why) => object(why),
        Unfit::Refused(what) => refused(what),
    })?;

    let entry = parsed.programs.values().next().map(aya_obj::Program::function_key);
    let function = entry.and_then(|key| parsed.functions.get(&key));
    let function = function.ok_or_else(|| object("its entry is not there".into()))?;
    let own: BTreeSet<i32> = maps.values().map(|map| map.fd().as_fd().as_raw_fd()).collect();
    if function.instructions.len() > INSTRUCTIONS_MAX {
        return Err(refused(Refusal::Size {
            what: "its number of instructions",
            most: INSTRUCTIONS_MAX,
        }));
    }
    instructions::check(&function.instructions, &own).map_err(refused)?;
    let verify = |kind| verifier::load(kind, &function.instructions, &parsed.license);
    let program = verify(Kind::Classifier).map_err(|said| refused(Refusal::Verifier(said)))?;
    verify(Kind::ReadOnly).map_err(|said| refused(Refusal::Writes(said)))?;
    let mut digest = [0; 16];
    digest.copy_from_slice(&Sha256::digest(&bytes)[..16]);
    Ok(Program::new(program, digest))
}

/// Why a file is no function, whatever its path.
#[derive(Debug)]
enum Unfit {
    Object(String),
    Refused(Refusal),
}

impl From<String> for Unfit {
    fn from(why: String) -> Self {
        Self::Object(why)
    }
}

impl From<Refusal> for Unfit {
    fn from(what: Refusal) -> Self {
        Self::Refused(what)
    }
}

/// The linked object and its maps. May panic if the file is damaged.
fn build(bytes: &[u8]) -> Result<(Object, BTreeMap<String, MapData>), Unfit> {
    let mut object = parse(bytes)?;
    if !declares_licence(bytes) {
        return Err(Refusal::Licence.into());
    }
    check_functions(&object)?;
    check_maps(&object)?;
    let maps = make_maps(&object)?;
    link(&mut object, &maps)?;
    Ok((object, maps))
}

fn read(path: &Path) -> Result<Vec<u8>, FunctionError> {
    let failed = |source| FunctionError::File {
        path: path.to_owned(),
        source,
    };
    let file = opening::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is not a file")));
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > FILE_MAX {
        return Err(FunctionError::Refused {
            path: path.to_owned(),
            what: Refusal::Size {
                what: "its number of bytes",
                most: FILE_MAX,
            },
        });
    }
    Ok(bytes)
}

/// The object, whose only program is a classifier.
fn parse(bytes: &[u8]) -> Result<Object, String> {
    let object = Object::parse(bytes).map_err(|error| format!("{error}; compile it for the target bpf"))?;
    let sections: Vec<_> = object.programs.values().map(|program| &program.section).collect();
    match sections.as_slice() {
        [ProgramSection::SchedClassifier] => Ok(object),
        [_] => Err("its program is no classifier: put it into a section `classifier`".into()),
        others => Err(format!("it has {} programs: a file has one function", others.len())),
    }
}

/// Whether there is a section that names a licence: without one, the parser takes a default.
fn declares_licence(bytes: &[u8]) -> bool {
    let Ok(file) = object::File::parse(bytes) else {
        return false;
    };
    let section = file.section_by_name("license").and_then(|section| section.data().ok());
    section.is_some_and(|text| text.first().is_some_and(|first| *first != 0))
}

/// The linker descends once per function and copies each of them.
fn check_functions(object: &Object) -> Result<(), Refusal> {
    let too_large = |what, most| Err(Refusal::Size { what, most });
    if object.functions.len() > FUNCTIONS_MAX {
        return too_large("its number of functions", FUNCTIONS_MAX);
    }
    let instructions: usize = object.functions.values().map(|it| it.instructions.len()).sum();
    if instructions > FILE_INSTRUCTIONS_MAX {
        return too_large("the number of instructions of all its functions", FILE_INSTRUCTIONS_MAX);
    }
    Ok(())
}

fn check_maps(object: &Object) -> Result<(), Refusal> {
    if object.maps.len() > MAPS_MAX {
        return Err(Refusal::Size {
            what: "its number of maps",
            most: MAPS_MAX,
        });
    }
    let mut bytes = 0_u64;
    for (name, map) in &object.maps {
        let kind = KINDS.iter().find(|(kind, _)| *kind as u32 == map.map_type());
        let Some((_, is_per_cpu)) = kind.filter(|_| map.map_flags() & !MAP_FLAGS == 0) else {
            return Err(Refusal::MapKind(name.clone()));
        };
        if map.pinning() != PinningType::None {
            return Err(Refusal::Pinned(name.clone()));
        }
        bytes = bytes.saturating_add(memory(map, *is_per_cpu));
    }
    if bytes > MEMORY_MAX {
        return Err(Refusal::Size {
            what: "the memory of its maps, in bytes,",
            most: MEMORY_MAX as usize,
        });
    }
    Ok(())
}

fn memory(map: &Map, is_per_cpu: bool) -> u64 {
    // The kernel makes a value for each CPU that there can be, whether it runs and whoever may use it.
    let cpus = if is_per_cpu { possible_cpus() } else { 1 };
    let value = u64::from(map.value_size()).max(map.data().len() as u64);
    let element = ELEMENT + u64::from(map.key_size()) + value.saturating_mul(cpus);
    element.saturating_mul(map.max_entries().into())
}

/// So many that nothing fits, where the kernel does not tell.
fn possible_cpus() -> u64 {
    aya::util::nr_cpus().map_or(u64::MAX, |cpus| cpus as u64)
}

fn make_maps(object: &Object) -> Result<BTreeMap<String, MapData>, String> {
    let mut made = BTreeMap::new();
    for (name, map) in &object.maps {
        let failed = |error: &dyn std::error::Error| format!("its map {name} cannot be made: {error}");
        let mut definition = map.clone();
        if let Map::Btf(typed) = &mut definition {
            // Their types are in the file only.
            (typed.def.btf_key_type_id, typed.def.btf_value_type_id) = (0, 0);
        }
        let data = MapData::create(definition, name, None).map_err(|error| failed(&error))?;
        if !map.data().is_empty() && map.data().len() == map.value_size() as usize {
            verifier::fill(data.fd().as_fd().as_raw_fd(), map.data()).map_err(|error| failed(&error))?;
        }
        made.insert(name.clone(), data);
    }
    Ok(made)
}

/// Puts together what the file has in pieces.
fn link(object: &mut Object, maps: &BTreeMap<String, MapData>) -> Result<(), String> {
    if object.has_btf_relocations() {
        let kernel = aya::Btf::from_sys_fs().map_err(|error| format!("this kernel tells no types (BTF): {error}"))?;
        object.relocate_btf(&kernel).map_err(|error| error.to_string())?;
    }
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let definitions = object.maps.clone();
    let descriptors = definitions.iter().filter_map(|(name, map)| {
        let made = maps.get(name)?;
        Some((name.as_str(), made.fd().as_fd().as_raw_fd(), map))
    });
    object
        .relocate_maps(descriptors, &text)
        .map_err(|error| error.to_string())?;
    object.relocate_calls(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
