//! Leafs in a simulated world: hubs, clients and wires are models, time is a number, chance is one
//! seeded generator. Nothing here opens a socket, reads a clock or sleeps.
//!
//! `SIM_SEEDS=n` sets how many worlds are tried, `SIM_SEED=n` replays one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agenda;
mod client;
mod hub;
mod line;
mod oracle;
mod pipe;
mod seeds;
mod world;

use std::time::Duration;

use world::World;

/// What happened in a world, for the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    delivered: u64,
    required: u64,
    end: u64,
}

/// One world from its beginning to its end.
fn story(seed: u64) -> Tally {
    let mut world = World::new(seed);
    world.run_for(Duration::from_millis(1500));
    for _ in 0..1 + world.rng.below(3) {
        let faults = world.rng.below(4) > 0;
        for _ in 0..20 + world.rng.below(60) {
            world.act(faults);
            let pause = match world.rng.below(10) {
                0 => 1000,
                1..5 => 60,
                _ => 0,
            };
            let pause = world.rng.below(pause * 1000 + 1);
            world.run_for(Duration::from_micros(pause));
        }
        world.calm_down();
        world.check_interest();
        world.probe();
    }
    world.calm_down();
    world.finish();
    Tally {
        delivered: world.oracle.delivered,
        required: world.oracle.required,
        end: world.agenda.now.as_nanos(),
    }
}

#[test]
fn worlds_keep_their_promises() {
    let worlds = seeds::try_out("SIM", 1000, story);
    let count = worlds.len() as u64;
    let delivered: u64 = worlds.iter().map(|(_, tally)| tally.delivered).sum();
    let required: u64 = worlds.iter().map(|(_, tally)| tally.required).sum();
    println!("{count} worlds, {delivered} deliveries, {required} of them checked to arrive");
    // A world in which nothing happens would keep its promises, too.
    assert!(delivered >= count * 20 && required >= count * 2);
}

/// The same seed tells the same story.
#[test]
fn a_seed_replays() {
    assert_eq!(story(42), story(42));
}
