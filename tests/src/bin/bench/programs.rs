//! The XDP programs that the datapath is measured with: the one that it is compared to, and those that
//! prepare the frame of each run and then jump into it.

use anyhow::{Context, Result, ensure};
use carp_tests::lab::bpf::code::*;
use carp_tests::lab::bpf::{Instruction, Map, Program, action, leave, op};
use std::net::Ipv4Addr;

/// The least that drops by address: one lookup of an IPv4 destination in a hash map with one entry,
/// where it counts and drops; everything else passes.
pub fn lookup_and_drop(destination: Ipv4Addr) -> Result<Program> {
    /// Calls of the kernel by number.
    const MAP_LOOKUP_ELEM: i32 = 1;
    const IPV4: i32 = 0x0008; // as a number of this machine: 0x0800 in network order
    let drops = Map::hash(4, 8, 1)?;
    drops.set(&destination.octets(), &[0; 8])?;
    let pass = leave(action::PASS);
    Program::load(
        &[
            &begin(34, action::PASS)[..],
            &[op(LDX_H, 5, 2, 12, 0), op(JEQ, 5, 0, 2, IPV4)],
            &pass,
            &[op(LDX_W, 5, 2, 30, 0), op(STX_W, 10, 5, -4, 0)],
            &drops.load(1),
            &[op(MOV_X, 2, 10, 0, 0), op(ADD, 2, 0, 0, -4), op(CALL, 0, 0, 0, MAP_LOOKUP_ELEM)],
            &[op(JNE, 0, 0, 2, 0)],
            &pass,
            &[op(LDX_DW, 1, 0, 0, 0), op(ADD, 1, 0, 0, 1), op(STX_DW, 0, 1, 0, 0)],
            &leave(action::DROP),
        ]
        .concat(),
        false,
    )
}

/// Sends out of the link that it runs at, and writes the frame anew each time: the kernel uses its pages
/// again as the last receiver left them.
pub fn send(frame: &[u8]) -> Result<Program> {
    Program::load(&[&restore(frame)?[..], &leave(action::TX)].concat(), false)
}

/// What is done to the frame before each run. It is written in the pieces that headers are read in, which begin at
/// multiples of four behind the Ethernet header: what was just written in two pieces a processor cannot read in one
/// before all that came earlier is done, and so would show how long each run takes by itself.
#[derive(Clone, Copy, Debug)]
pub enum Prepare<'a> {
    /// It begins with these bytes again, whatever the last run made of it.
    Restore(&'a [u8]),
    /// The last two bytes of its IPv4 destination become a random number below this one.
    Destination(i32),
    /// The last byte of its destination MAC becomes 1 to this, at random.
    VirtualMac(i32),
}

/// What `program` takes for a frame of a link of the current network namespace that is prepared before each
/// run, in thousandths of a nanosecond: the preparation is measured too, and taken off.
pub fn alone(
    prepare: Prepare<'_>,
    program: &Program,
    frame: Frame<'_>,
    wanted: u32,
    repeat: u32,
) -> Result<u64> {
    // It can be jumped into from its like only, and does not say what it is.
    let frags = prepared(prepare, program, true).is_ok();
    let drop = Program::load(&leave(action::DROP), frags)?;
    let (with, without) = (prepared(prepare, program, frags)?, prepared(prepare, &drop, frags)?);
    let nothing = nanos(&drop, frame, action::DROP, repeat)?;
    let both = nanos(&with.program, frame, wanted, repeat)? + nothing;
    Ok(both.saturating_sub(nanos(&without.program, frame, action::DROP, repeat)?))
}

/// The same for a frame that is left as it is.
pub fn nanos(program: &Program, (frame, link): Frame<'_>, wanted: u32, repeat: u32) -> Result<u64> {
    let ran = program.run(frame, link, repeat)?;
    ensure!(ran.action == wanted, "a program returned {} instead of {wanted}", ran.action);
    Ok(u64::from(ran.nanos) * 1000)
}

/// The bytes, and the number of the link that they come in by or leave by.
pub type Frame<'a> = (&'a [u8], u32);

/// A program that prepares the frame and jumps into another.
struct Prepared {
    program: Program,
    /// The kernel empties it when nobody has it open.
    _jump: Map,
}

fn prepared(prepare: Prepare<'_>, then: &Program, frags: bool) -> Result<Prepared> {
    const TAIL_CALL: i32 = 12;
    let jump = Map::jump()?;
    let changes = match prepare {
        Prepare::Restore(bytes) => restore(bytes)?,
        Prepare::Destination(below) => [
            &random_below(below)[..],
            &[op(BE, 0, 0, 0, 16), op(LSH, 0, 0, 0, 16), op(LDX_W, 2, 6, 0, 0), op(LDX_W, 3, 6, 4, 0)],
            &within(34, action::ABORTED),
            &[op(LDX_H, 3, 2, 30, 0), op(OR_X, 0, 3, 0, 0), op(STX_W, 2, 0, 30, 0)],
        ]
        .concat(),
        Prepare::VirtualMac(most) => [
            &random_below(most)[..],
            &[op(ADD, 0, 0, 0, 1), op(LSH, 0, 0, 0, 8), op(OR, 0, 0, 0, 1)],
            &[op(LDX_W, 2, 6, 0, 0), op(LDX_W, 3, 6, 4, 0)],
            &within(6, action::ABORTED),
            &[op(STX_H, 2, 0, 4, 0)],
        ]
        .concat(),
    };
    let program = Program::load(
        &[
            &[op(MOV_X, 6, 1, 0, 0)][..],
            &changes,
            &[op(MOV_X, 1, 6, 0, 0)],
            &jump.load(2),
            &[op(MOV, 3, 0, 0, 0), op(CALL, 0, 0, 0, TAIL_CALL)],
            &leave(action::ABORTED),
        ]
        .concat(),
        frags,
    )?;
    jump.set_jump(then)?;
    Ok(Prepared { program, _jump: jump })
}

/// The frame's begin in r2 and its end in r3; leaves when it is shorter than this.
fn begin(len: i32, otherwise: u32) -> Vec<Instruction> {
    [&[op(LDX_W, 2, 1, 0, 0), op(LDX_W, 3, 1, 4, 0)][..], &within(len, otherwise)].concat()
}

fn within(len: i32, otherwise: u32) -> Vec<Instruction> {
    let test = [op(MOV_X, 4, 2, 0, 0), op(ADD, 4, 0, 0, len), op(JLE_X, 4, 3, 2, 0)];
    [&test[..], &leave(otherwise)].concat()
}

/// A random number below `limit` in r0.
fn random_below(limit: i32) -> [Instruction; 2] {
    const GET_PRANDOM_U32: i32 = 7;
    [op(CALL, 0, 0, 0, GET_PRANDOM_U32), op(MOD, 0, 0, 0, limit)]
}

fn restore(bytes: &[u8]) -> Result<Vec<Instruction>> {
    let mut changes = begin(i32::try_from(bytes.len())?, action::ABORTED);
    let (first, bytes) = bytes.split_first_chunk().context("a frame has more than two bytes")?;
    changes.push(op(ST_H, 2, 0, 0, i32::from(i16::from_le_bytes(*first))));
    let (words, rest) = bytes.as_chunks();
    let mut at = 2;
    for word in words {
        changes.push(op(ST_W, 2, 0, at, i32::from_le_bytes(*word)));
        at += 4;
    }
    for byte in rest {
        changes.push(op(ST_B, 2, 0, at, i32::from(*byte)));
        at += 1;
    }
    Ok(changes)
}
