//! Drops every packet.

#![no_std]
#![no_main]

use fabric_function::Answer;

fabric_function::function!("Dual MIT/GPL", |_| Answer::Drop);
