//! How many decisions the slow path had to make again because something they were made from changed: over the flows that
//! are remembered, the sum of how often each slot that a flow depends on was counted up between two looks at the pinned
//! maps. That is a bound: a flow without packets between two changes was decided once for both. For
//! `tests/bench.sh datapath`; takes the folder of the maps' pins and reads a line of standard input before each look but
//! the first.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::io::{self, Write as _};
use std::path::Path;

use aya::maps::{Array, HashMap, Map, MapData};
use datapath_common::{Flow, FlowKey};

const USAGE: &str = "usage: fabric-generations FOLDER-OF-PINNED-MAPS";

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args().nth(1).ok_or(USAGE)?;
    let folder = Path::new(&folder);
    let generations = Array::<_, u32>::try_from(Map::Array(MapData::from_pin(folder.join("GENERATIONS"))?))?;
    let flows = HashMap::<_, FlowKey, Flow>::try_from(Map::LruHashMap(MapData::from_pin(folder.join("FLOWS"))?))?;
    let mut before = look(&generations, &flows)?;
    writeln!(io::stdout(), "0")?;
    let mut line = String::new();
    while io::stdin().read_line(&mut line)? != 0 {
        let after = look(&generations, &flows)?;
        writeln!(io::stdout(), "{}", again(&before, &after))?;
        before = after;
    }
    Ok(())
}

/// What the flows depend on: slot → its generation and how many flows.
type Look = BTreeMap<u32, (u32, u32)>;

fn look(generations: &Array<MapData, u32>, flows: &HashMap<MapData, FlowKey, Flow>) -> Result<Look, Box<dyn Error>> {
    let mut look = Look::new();
    for flow in flows.iter() {
        // The walk ends early where a flow is forgotten meanwhile; few are with little traffic.
        let Ok((_, flow)) = flow else { break };
        for slot in flow.slots {
            look.entry(slot).or_insert((generations.get(&slot, 0)?, 0)).1 += 1;
        }
    }
    Ok(look)
}

fn again(before: &Look, after: &Look) -> u64 {
    after
        .iter()
        .filter_map(|(slot, (generation, flows))| {
            let (old, _) = before.get(slot)?;
            Some(u64::from(generation.wrapping_sub(*old)) * u64::from(*flows))
        })
        .sum()
}
