//! Third-party functions: where they stand in a domain's packets' way on this host. A function is loaded from a local
//! object file, stands behind those that were loaded before it, and is swapped by one map update, that of its domain. What
//! stands where is in the kernel (`FUNCTIONS`), so a daemon that starts finds it again, also one of another build.

mod check;
mod error;
mod grace;
mod instructions;
mod placed;
mod slots;
mod verifier;

use std::path::Path;

use datapath_common::{Domain, FUNCTION_OPEN, FUNCTION_PACKET, Function, slot};
use membership::id::Label;
use overlay::name::DomainName;

pub use error::FunctionError;
pub(crate) use placed::Placed;
pub(crate) use slots::Chains;

use crate::datapath::Datapath;
use crate::diff::{Entry, Operation};
use crate::error::Error;
use crate::numbers::Name;
use crate::tables::Tables;

/// When a function is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FunctionHook {
    /// When a flow's way is decided.
    Flow,
    /// For each packet.
    Packet,
}

/// What becomes of a packet to which a function gives no answer, or one that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailMode {
    /// It goes on as if there were no such function.
    Open,
    /// It is dropped (`function_failed`).
    Closed,
}

/// A function that is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedFunction {
    /// Whose packets it sees.
    pub domain: DomainName,
    /// What it is called.
    pub name: Label,
    /// When it is asked.
    pub hook: FunctionHook,
    /// How many functions of the hook are asked before it.
    pub position: u32,
    /// What a failure means.
    pub fail: FailMode,
    /// How often it failed.
    pub failures: u64,
    /// The first 16 bytes of the SHA-256 of its object file.
    pub digest: [u8; 16],
}

impl Datapath {
    /// The functions of all domains, by domain and hook, in the order in which they are asked.
    pub fn functions(&self) -> Result<Vec<LoadedFunction>, FunctionError> {
        let entries = self.maps.functions.read()?;
        let mut found = Vec::new();
        for (slot, position) in self.chains.slots() {
            let Some(function) = entries.get(&slot) else { continue };
            let domain = self.numbers.name(function.domain).map(|name| name.domain.clone());
            if let (Some(domain), Some(name)) = (domain, name_of(function)) {
                found.push(LoadedFunction {
                    domain,
                    name,
                    hook: hook_of(function),
                    position,
                    fail: if function.flags & FUNCTION_OPEN != 0 {
                        FailMode::Open
                    } else {
                        FailMode::Closed
                    },
                    failures: function.failures,
                    digest: function.digest,
                });
            }
        }
        found.sort_by(|a, b| (&a.domain, a.hook, a.position).cmp(&(&b.domain, b.hook, b.position)));
        Ok(found)
    }

    /// Loads the function in an object file for a domain that has something on this host, behind the domain's others of
    /// that hook; or swaps the one of this name for it. Whatever fails, what was asked before is asked on.
    pub fn load_function(
        &mut self,
        domain: &DomainName,
        name: &Label,
        hook: FunctionHook,
        path: &Path,
        fail: FailMode,
    ) -> Result<LoadedFunction, FunctionError> {
        self.may_change()?;
        let number = self.domain_number(domain)?;
        let program = check::load(path)?;
        let entry = Function {
            domain: number,
            flags: flags(hook, fail),
            failures: 0,
            digest: program.digest,
            name: encoded(name),
        };
        let before = self.functions()?;
        let same = before.iter().find(|f| f.domain == *domain && f.name == *name);
        let position = match same {
            Some(old) if old.hook != hook => return Err(FunctionError::OtherHook(name.clone())),
            Some(old) => {
                let at = self.chains.slot(number, hook, old.position);
                let mut members = self.members(number, hook, |slot| slot != at)?;
                members.insert(members.len().min(old.position as usize), (program, entry));
                self.move_chain(number, hook, &members)?;
                old.position
            }
            None => {
                let position = self.append(number, hook, &program, entry)?;
                self.decide_again(number)?;
                position
            }
        };
        self.note_functions()?;
        Ok(LoadedFunction {
            domain: domain.clone(),
            name: name.clone(),
            hook,
            position,
            fail,
            failures: 0,
            digest: entry.digest,
        })
    }

    /// Removes a function; packets that are on their way through the chain pass it as it was.
    pub fn remove_function(&mut self, domain: &DomainName, name: &Label) -> Result<(), FunctionError> {
        self.may_change()?;
        let all = self.functions()?;
        let Some(gone) = all.iter().find(|f| f.domain == *domain && f.name == *name) else {
            return Err(FunctionError::NoFunction {
                domain: domain.clone(),
                name: name.clone(),
            });
        };
        let (number, hook) = (self.domain_number(domain)?, gone.hook);
        let gone = self.chains.slot(number, hook, gone.position);
        let members = self.members(number, hook, |slot| slot != gone)?;
        self.move_chain(number, hook, &members)?;
        Ok(self.note_functions()?)
    }

    /// Those of a chain's functions whose slots are `wanted`, in order.
    fn members(
        &self,
        number: u32,
        hook: FunctionHook,
        wanted: impl Fn(u32) -> bool,
    ) -> Result<Vec<(verifier::Program, Function)>, Error> {
        let mut members = Vec::new();
        for slot in self.chains.get(number, hook).slots().filter(|slot| wanted(*slot)) {
            if let Some(entry) = self.maps.functions.get(&slot)? {
                members.push((verifier::program_of(&self.maps.chain, slot)?, entry));
            }
        }
        Ok(members)
    }

    /// Puts these into a run of slots that no packet passes yet, then lets packets pass that one, and clears the former
    /// when none is on its way through it.
    fn move_chain(
        &mut self,
        number: u32,
        hook: FunctionHook,
        members: &[(verifier::Program, Function)],
    ) -> Result<(), FunctionError> {
        let old = self.chains.get(number, hook);
        let fresh = match u32::try_from(members.len()) {
            Ok(0) | Err(_) => slots::Chain::NONE,
            Ok(count) => self.chains.free(hook).ok_or(FunctionError::NoRoom)?.with(count),
        };
        for ((program, entry), to) in members.iter().zip(fresh.slots()) {
            if let Err(error) = self.place(to, program, *entry) {
                self.clear(fresh.slots())?;
                return Err(error.into());
            }
        }
        self.chains.set(number, hook, fresh);
        self.decide_again(number)?;
        grace::wait();
        Ok(self.clear(old.slots())?)
    }

    /// Behind the others.
    fn append(
        &mut self,
        number: u32,
        hook: FunctionHook,
        program: &verifier::Program,
        entry: Function,
    ) -> Result<u32, FunctionError> {
        let mut chain = self.chains.get(number, hook);
        if chain.is_full() {
            return Err(FunctionError::TooMany);
        }
        if chain.is_empty() {
            chain = self.chains.free(hook).ok_or(FunctionError::NoRoom)?;
        }
        let position = chain.count();
        self.place(chain.first() + position, program, entry)?;
        self.chains.set(number, hook, chain.with(position + 1));
        Ok(position)
    }

    /// Puts a program into a slot that no packet passes: what it is, then itself.
    fn place(&self, slot: u32, program: &verifier::Program, entry: Function) -> Result<(), Error> {
        let put = |stopped: crate::batch::Stopped| stopped.error;
        self.maps.functions.put(&[(slot, entry)]).map_err(put)?;
        self.maps.chain.put(&[(slot, program.number())]).map_err(put)
    }

    fn clear(&self, slots: impl Iterator<Item = u32>) -> Result<(), Error> {
        let slots: Vec<u32> = slots.collect();
        let stopped = |stopped: crate::batch::Stopped| stopped.error;
        self.maps.chain.remove(&slots).map_err(stopped)?;
        self.maps.functions.remove(&slots).map_err(stopped)
    }

    /// Writes the domain's chains where it is installed, and voids what was decided without them.
    fn decide_again(&mut self, number: u32) -> Result<(), Error> {
        let Some(domain) = self.installed.tables().domains.get(&number) else {
            return Ok(());
        };
        let domain = self.chains.written(number, *domain);
        self.obey(&[
            Operation::Put(Entry::Domain(number, domain)),
            Operation::Bump(slot::domain(number)),
        ])
    }

    /// Whether functions can be changed: what another build's tables say of them is not known, and stays in force.
    fn may_change(&mut self) -> Result<(), FunctionError> {
        if self.succession.is_pending() {
            return Err(FunctionError::Succession);
        }
        Ok(self.recover()?)
    }

    fn domain_number(&self, domain: &DomainName) -> Result<u32, FunctionError> {
        let name = Name {
            domain: domain.clone(),
            endpoint: None,
        };
        let number = self.numbers.number(&name);
        number.ok_or_else(|| FunctionError::NoDomain(domain.clone()))
    }

    /// Finds the functions again that are in the kernel, and clears what a daemon that died left half done, unless
    /// another build's tables may refer to it. No decision is left that was made before its death.
    pub(crate) fn find_functions(&mut self) -> Result<(), Error> {
        let entries = self.maps.functions.read()?;
        let is_filled = |slot: u32| matches!(self.maps.chain.get(&slot), Ok(Some(_)));
        let (chains, stale) = Chains::of(&entries, &self.installed.tables().domains, is_filled);
        self.chains = chains;
        if !self.succession.is_pending() {
            if !stale.is_empty() {
                grace::wait();
            }
            self.clear(stale.into_iter())?;
        }
        self.note_functions()
    }

    /// Gives a domain's tables its chains.
    pub(crate) fn with_functions(&self, number: u32, tables: &mut Tables) {
        if let Some(domain) = tables.domains.get_mut(&number) {
            *domain = self.chains.written(number, *domain);
        }
    }
}

fn flags(hook: FunctionHook, fail: FailMode) -> u32 {
    let packet = if hook == FunctionHook::Packet {
        FUNCTION_PACKET
    } else {
        0
    };
    packet | if fail == FailMode::Open { FUNCTION_OPEN } else { 0 }
}

fn hook_of(function: &Function) -> FunctionHook {
    if function.flags & FUNCTION_PACKET != 0 {
        FunctionHook::Packet
    } else {
        FunctionHook::Flow
    }
}

fn encoded(name: &Label) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes
        .iter_mut()
        .zip(name.as_str().bytes())
        .for_each(|(to, byte)| *to = byte);
    bytes
}

fn name_of(function: &Function) -> Option<Label> {
    let end = function.name.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(function.name.get(..end)?).ok()?.parse().ok()
}

/// Of a domain's entry, the word for a hook.
fn word(domain: &Domain, hook: FunctionHook) -> u32 {
    match hook {
        FunctionHook::Flow => domain.chain_flow,
        FunctionHook::Packet => domain.chain_packet,
    }
}
