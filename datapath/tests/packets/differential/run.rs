//! The loop: worlds, flows, changes and jumps of time through the model, and through whoever is compared with it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use overlay::model::{Account, Model, Verdict};

use super::change::Changed;
use super::dice::Dice;
use super::flow::{self, Sent};
use super::hosts::{HERE, node};
use super::statistics::Statistics;
use super::world::{Entrance, World};

/// Packets of a world.
const WORLD: usize = 400;
/// Between two packets, mostly: an endpoint's bucket of ICMP errors never runs dry.
const STEP: Duration = Duration::from_millis(11);
/// Jumps of time, in seconds: neither one nor two of them end near a timeout.
const JUMPS: [u64; 9] = [7, 18, 18, 75, 75, 160, 260, 400, 8000];

/// What the model says of a packet.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) verdict: Verdict,
    pub(crate) account: Account,
    /// What the sender's bucket of ICMP errors holds before and after it.
    pub(crate) errors_left: [Duration; 2],
}

/// Who does the same as the model. What is wrong is said as text.
pub(crate) trait Programs {
    /// Everything begins anew, in this world.
    fn begin(&mut self, world: &World);
    /// The world is another; what was remembered stays.
    fn change(&mut self, world: &World, changed: &Changed) -> Result<(), String>;
    /// All that was remembered is older.
    fn age(&mut self, by: Duration);
    /// Whether such a packet can be given to them.
    fn takes(&self, packet: &[u8]) -> bool;
    /// Whether the fast path decided about a packet, if what became of it is right.
    fn packet(&mut self, world: &World, sent: &Sent, expected: &Expected) -> Result<bool, String>;
    /// Whether all was counted that had to be.
    fn end(&mut self) -> Result<(), String>;
}

/// Nobody.
pub(crate) struct Alone;

impl Programs for Alone {
    fn begin(&mut self, _: &World) {}

    fn change(&mut self, _: &World, _: &Changed) -> Result<(), String> {
        Ok(())
    }

    fn age(&mut self, _: Duration) {}

    fn takes(&self, _: &[u8]) -> bool {
        true
    }

    fn packet(&mut self, _: &World, _: &Sent, _: &Expected) -> Result<bool, String> {
        Ok(false)
    }

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// A world on its way through time, in the model and in whoever is compared with it.
pub(crate) struct Play<'a> {
    pub(crate) world: World,
    model: Model,
    programs: &'a mut dyn Programs,
    now: Duration,
    /// Changes, jumps and packets, as they are told where something is wrong.
    pub(crate) story: Vec<String>,
}

impl<'a> Play<'a> {
    pub(crate) fn new(world: World, programs: &'a mut dyn Programs) -> Self {
        programs.begin(&world);
        Self {
            model: world.model(),
            world,
            programs,
            now: Duration::ZERO,
            story: Vec::new(),
        }
    }

    /// Changes the world.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut World) -> Changed) -> Result<(), String> {
        let changed = change(&mut self.world);
        self.story.push(format!(" {}", changed.what));
        *self.model.host_mut(node(HERE)).unwrap() = self.world.host();
        if changed.release {
            self.model.forget_absent(node(HERE));
        }
        self.programs.change(&self.world, &changed)
    }

    /// Time passes, at once.
    pub(crate) fn jump(&mut self, by: Duration) {
        self.story.push(format!(" {} s later", by.as_secs()));
        self.now += by;
        self.programs.age(by);
    }

    /// Time passes that nobody notices but buckets.
    pub(crate) fn wait(&mut self, by: Duration) {
        self.now += by;
    }

    /// Sends a packet: the model's verdict, and whether the fast path decided about it.
    pub(crate) fn send(&mut self, sent: &Sent) -> Result<(Verdict, bool), String> {
        let errors_left = |play: &Self| match sent.entrance {
            Entrance::Port(domain, endpoint) => play.model.errors_left(&play.world.ingress(domain, endpoint), play.now),
            Entrance::Exhausted(..) | Entrance::Stack(..) | Entrance::Underlay => Duration::ZERO,
        };
        let before = errors_left(self);
        let verdict = match sent.entrance {
            Entrance::Port(domain, endpoint) => {
                let ingress = self.world.ingress(domain, endpoint);
                self.model.from_endpoint(&ingress, &sent.packet, self.now)
            }
            Entrance::Exhausted(domain, endpoint) => self.model.from_exhausted(&self.world.ingress(domain, endpoint)),
            Entrance::Stack(domain, endpoint, marked) => {
                self.model.to_endpoint(&self.world.ingress(domain, endpoint), marked)
            }
            Entrance::Underlay => self.model.from_underlay(node(HERE), &sent.packet, self.now),
        };
        let said = format!(
            " {:?} {} {}\n  {verdict:02x?}",
            sent.entrance,
            sent.odd,
            hex(&sent.packet)
        );
        self.story.push(said);
        let expected = Expected {
            verdict,
            account: self.model.account(node(HERE)),
            errors_left: [before, errors_left(self)],
        };
        let fast = self.programs.packet(&self.world, sent, &expected)?;
        Ok((expected.verdict, fast))
    }

    /// Whether such a packet can be sent.
    pub(crate) fn takes(&self, sent: &Sent) -> bool {
        self.programs.takes(&sent.packet)
    }

    /// Compares what was counted.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        self.programs.end()
    }
}

/// Sends so many packets in the worlds of seeds that nobody else takes; a difference panics with all that is needed to
/// see it again.
pub(crate) fn run(seeds: &AtomicU64, packets: usize, programs: &mut dyn Programs) -> Statistics {
    let mut statistics = Statistics::default();
    while statistics.packets < packets {
        // A world can be seen again by itself.
        let seed = seeds.fetch_add(1, Ordering::Relaxed);
        world(seed, WORLD.min(packets - statistics.packets), programs, &mut statistics);
    }
    statistics
}

fn world(seed: u64, packets: usize, programs: &mut dyn Programs, statistics: &mut Statistics) {
    let mut dice = Dice::of(seed);
    let world = World::random(&mut dice);
    let mut play = Play::new(world, programs);
    let mut done = 0;
    let played = scenes(&mut dice, &mut play, packets, &mut done, statistics).and_then(|()| play.end());
    if let Err(why) = played {
        let (story, domains) = (play.story.join("\n"), &mut play.world.domains);
        domains.iter_mut().for_each(|domain| domain.conditions.clear());
        panic!("seed {seed}, packet {done}: {why}\nthis flow:\n{story}\nthe domains:\n{domains:#?}");
    }
}

/// Flows, and what happens in between.
fn scenes(
    dice: &mut Dice,
    play: &mut Play<'_>,
    packets: usize,
    done: &mut usize,
    statistics: &mut Statistics,
) -> Result<(), String> {
    while *done < packets {
        let flow = flow::random(dice, &play.world);
        // Of earlier flows nothing is told: what a world is like, it says itself.
        play.story.clear();
        let mut flow: VecDeque<Sent> = flow.into_iter().filter(|sent| play.takes(sent)).collect();
        let step = if dice.percent(5) { Duration::ZERO } else { STEP };
        while let Some(mut sent) = flow.pop_front().filter(|_| *done < packets) {
            if dice.percent(3) {
                play.change(|world| world.change(dice))?;
            }
            let ends = sent.odd.is_empty() && sent.again == 0;
            if dice.percent(if ends { 6 } else { 2 }) {
                play.jump(Duration::from_secs(*dice.pick(&JUMPS)));
            }
            play.wait(step);
            let (verdict, fast) = play.send(&sent)?;
            statistics.count(&verdict, fast);
            *done += 1;
            if let Some(beside) = beside(dice, &sent) {
                let (verdict, fast) = play.send(&beside)?;
                statistics.count(&verdict, fast);
                *done += 1;
            }
            let goes_on = matches!(verdict, Verdict::Deliver { .. } | Verdict::Encapsulate { .. });
            let told = matches!(verdict, Verdict::Drop { error: Some(_), .. });
            if sent.again > 0 && (goes_on || told && step.is_zero()) {
                sent.again -= 1;
                flow.push_front(sent);
            }
        }
    }
    Ok(())
}

/// Now and then, a workload's frame once more: when it has no slow-path run left, or out of its own host side.
fn beside(dice: &mut Dice, sent: &Sent) -> Option<Sent> {
    let Entrance::Port(domain, endpoint) = sent.entrance else {
        return None;
    };
    let entrance = match dice.below(250) {
        0..2 => Entrance::Exhausted(domain, endpoint),
        2..5 => Entrance::Stack(domain, endpoint, dice.percent(40)),
        _ => return None,
    };
    Some(Sent {
        entrance,
        again: 0,
        ..sent.clone()
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
