//! The loop: worlds, flows, changes and jumps of time through the model, and through whoever is compared with it.

use std::collections::VecDeque;
use std::time::Duration;

use overlay::model::Verdict;

use super::dice::Dice;
use super::flow::{self, Sent};
use super::hosts::{HERE, node};
use super::statistics::Statistics;
use super::world::{Entrance, World};

/// Packets of a world.
const WORLD: usize = 400;
/// Between two packets: an endpoint's bucket of ICMP errors never runs dry.
const STEP: Duration = Duration::from_millis(11);
/// Jumps of time, in seconds: neither one nor two of them end near a timeout.
const JUMPS: [u64; 9] = [7, 18, 18, 75, 75, 160, 260, 400, 8000];

/// Who does the same as the model. What is wrong is said as text.
pub(crate) trait Programs {
    /// Everything begins anew, in this world.
    fn begin(&mut self, world: &World);
    /// The world is another; what was remembered stays.
    fn change(&mut self, world: &World);
    /// All that was remembered is older.
    fn age(&mut self, by: Duration);
    /// Whether such a packet can be given to them.
    fn takes(&self, packet: &[u8]) -> bool;
    /// Whether the fast path decided about a packet, if the model's verdict was right.
    fn packet(&mut self, world: &World, sent: &Sent, verdict: &Verdict) -> Result<bool, String>;
}

/// Nobody.
pub(crate) struct Alone;

impl Programs for Alone {
    fn begin(&mut self, _: &World) {}

    fn change(&mut self, _: &World) {}

    fn age(&mut self, _: Duration) {}

    fn takes(&self, _: &[u8]) -> bool {
        true
    }

    fn packet(&mut self, _: &World, _: &Sent, _: &Verdict) -> Result<bool, String> {
        Ok(false)
    }
}

/// Sends so many packets of a seed's worlds; a difference panics with all that is needed to see it again.
pub(crate) fn run(seed: u64, packets: usize, programs: &mut dyn Programs) -> Statistics {
    let mut statistics = Statistics::default();
    for number in 0.. {
        if statistics.packets >= packets {
            break;
        }
        // A world can be seen again by itself.
        let seed = seed.wrapping_add(number);
        world(seed, WORLD.min(packets - statistics.packets), programs, &mut statistics);
    }
    statistics
}

fn world(seed: u64, packets: usize, programs: &mut dyn Programs, statistics: &mut Statistics) {
    let mut dice = Dice::of(seed);
    let mut world = World::random(&mut dice);
    let mut model = world.model();
    let mut now = Duration::ZERO;
    // What happened besides packets, and the packets of this flow.
    let mut story: Vec<String> = Vec::new();
    programs.begin(&world);
    let mut done = 0;
    while done < packets {
        let flow = flow::random(&mut dice, &world);
        story.retain(|line| !line.starts_with(' '));
        let mut flow = flow
            .into_iter()
            .filter(|sent| programs.takes(&sent.packet))
            .collect::<VecDeque<Sent>>();
        while let Some(mut sent) = flow.pop_front().filter(|_| done < packets) {
            if dice.percent(3) {
                let (domain, what) = world.change(&mut dice);
                story.push(format!(" domain {domain}: {what}"));
                *model.host_mut(node(HERE)).unwrap() = world.host();
                programs.change(&world);
            }
            let ends = sent.odd.is_empty() && sent.again == 0;
            if dice.percent(if ends { 6 } else { 2 }) {
                let jump = Duration::from_secs(*dice.pick(&JUMPS));
                story.push(format!(" {} s later", jump.as_secs()));
                now += jump;
                programs.age(jump);
            }
            now += STEP;
            let verdict = match sent.entrance {
                Entrance::Port(domain, endpoint) => {
                    model.from_endpoint(&world.ingress(domain, endpoint), &sent.packet, now)
                }
                Entrance::Underlay => model.from_underlay(node(HERE), &sent.packet, now),
            };
            story.push(format!(
                " {:?} {} {}\n  {verdict:02x?}",
                sent.entrance,
                sent.odd,
                hex(&sent.packet)
            ));
            statistics.count(&verdict);
            match programs.packet(&world, &sent, &verdict) {
                Ok(fast) => statistics.fast += usize::from(fast),
                Err(why) => panic!(
                    "seed {seed}, packet {done}: {why}\nthis flow:\n{}\nthe domains:\n{:#?}",
                    story.join("\n"),
                    world.domains()
                ),
            }
            done += 1;
            if sent.again > 0 && matches!(verdict, Verdict::Deliver { .. } | Verdict::Encapsulate { .. }) {
                sent.again -= 1;
                flow.push_front(sent);
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
