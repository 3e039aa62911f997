//! Lets every packet go on: the least a function can be.

#![no_std]
#![no_main]

use fabric_function::Answer;

fabric_function::function!("Dual MIT/GPL", |_| Answer::Next);
