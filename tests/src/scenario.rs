//! The steps of a scenario: ordered, on one lab, each counted as a test of its own.
//!
//! Without root nothing of it can run: the steps are then shown as ignored, loudly, and with
//! `CI` or `FABRIC_REQUIRE_PRIVILEGED` set the program fails instead.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::lab::{Lab, Underlay};

/// What a step does with its subject.
type Action<S> = fn(&S) -> Result<()>;

/// A step: its name and what it does. A failed one does not stop those after it.
#[derive(Debug)]
pub struct Step<S> {
    name: &'static str,
    run: Action<S>,
}

/// Makes a step; its name says what holds after it.
#[must_use]
pub fn step<S>(name: &'static str, run: Action<S>) -> Step<S> {
    Step { name, run }
}

/// Says what a step is doing.
pub fn say(what: impl std::fmt::Display) {
    eprintln!("    {what}");
}

/// Runs a scenario on a lab of `hosts` hosts.
#[must_use]
pub fn on_lab(name: &'static str, hosts: usize, underlay: Underlay, steps: Vec<Step<Lab>>) -> ExitCode {
    on(name, || Lab::up(name, hosts, underlay), steps)
}

/// Runs a scenario on whatever `make` makes; it is dropped after the last step.
#[must_use]
pub fn on<S: Send + Sync + 'static>(
    name: &'static str,
    make: impl FnOnce() -> Result<S>,
    steps: Vec<Step<S>>,
) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let root = nix::unistd::geteuid().is_root();
    if arguments.list || !root {
        return without_root(&arguments, root, steps);
    }
    eprintln!("scenario {name}");
    let subject = match make() {
        Ok(subject) => Arc::new(subject),
        Err(error) => {
            let failed = move || Err(Failed::from(format!("{error:#}")));
            return libtest_mimic::run(&arguments, vec![Trial::test("setup", failed)]).exit_code();
        }
    };
    let trials = steps.into_iter().map(|step| {
        let subject = Arc::clone(&subject);
        Trial::test(step.name, move || {
            (step.run)(&subject).map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    // The last handle must go here, whatever the runner does with its own.
    let trials = trials.collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(subject);
    conclusion.exit_code()
}

fn without_root<S: 'static>(arguments: &Arguments, root: bool, steps: Vec<Step<S>>) -> ExitCode {
    let required = ["CI", "FABRIC_REQUIRE_PRIVILEGED"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    if !root {
        eprintln!("SKIPPED: {} steps need root: they make network namespaces", steps.len());
    }
    let trials = steps
        .into_iter()
        .map(|step| Trial::test(step.name, || Ok(())).with_ignored_flag(true))
        .collect();
    let conclusion = libtest_mimic::run(arguments, trials);
    if !root && required {
        ExitCode::FAILURE
    } else {
        conclusion.exit_code()
    }
}
