//! Servers of ours in a simulated world: gateways and hubs of several threads, below each other or below
//! hubs of others; clients, wires and what breaks are models, time is a number, chance is one seeded
//! generator. Nothing here opens a socket, reads a clock or sleeps.
//!
//! Of each kind of world (`SIM`, `SIM_TREE`, `SIM_SHARING`, `SIM_RING`) `SIM_TREE_SEEDS=n` sets how many are
//! tried, and `SIM_TREE_SEED=n` replays one and shows what its servers log.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agenda;
mod checks;
mod client;
mod deeds;
mod hub;
mod line;
mod model;
mod oracle;
mod pipe;
mod plan;
mod seeds;
mod server;
mod wire;
mod world;

use std::time::Duration;

use petiole_core::random::Random;

use oracle::Record;
use plan::Plan;
use world::World;

/// One world from its beginning to its end.
fn story(seed: u64, plan: fn(&mut Random) -> Plan) -> Record {
    let mut rng = Random::new(seed);
    let plan = plan(&mut rng);
    let mut world = World::new(rng, plan);
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
        world.let_rings_close();
    }
    world.calm_down();
    world.finish();
    Record {
        end: world.agenda.now.as_nanos(),
        ..world.oracle.record
    }
}

/// Worlds of a kind, and what happened in all of them.
fn worlds(prefix: &str, count: u64, plan: fn(&mut Random) -> Plan) -> Record {
    let worlds = seeds::try_out(prefix, count, |seed| story(seed, plan));
    let mut sum = Record::default();
    for (_, record) in &worlds {
        sum.add(record);
    }
    println!("{} worlds: {sum:?}", worlds.len());
    // A world in which nothing happens would keep its promises, too.
    let count = worlds.len() as u64;
    assert!(sum.delivered >= count * 20 && sum.required >= count * 2);
    sum
}

#[test]
fn gateways_below_hubs_of_others() {
    worlds("SIM", 1000, Plan::gateways);
}

#[test]
fn trees_of_servers() {
    worlds("SIM_TREE", 1500, Plan::trees);
}

#[test]
fn accounts_that_share() {
    let sum = worlds("SIM_SHARING", 1500, Plan::sharing);
    assert!(sum.imported >= sum.required / 30 && sum.answers >= sum.delivered / 1000);
}

#[test]
fn rings_are_broken() {
    let sum = worlds("SIM_RING", 600, Plan::rings);
    assert!(sum.mistaken <= sum.closings / 20);
}

/// The same seed tells the same story.
#[test]
fn a_seed_replays() {
    for plan in [Plan::gateways, Plan::trees, Plan::sharing, Plan::rings] {
        assert_eq!(story(42, plan), story(42, plan));
    }
}
