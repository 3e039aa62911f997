//! What a third-party function of a Fabric domain is written with: the packet and what the datapath knows of it
//! ([`Context`]), what to answer ([`Answer`]), and the frame around it ([`function!`]). `README.md` is the contract.
//!
//! A function reads its domain's packets, keeps state in maps of its own and answers; it cannot write, redirect or skip
//! anything. The kernel proves that when it is loaded, and what it answers cannot override a policy.

#![no_std]

pub mod abi;
mod context;

pub use aya_ebpf;
pub use context::{Answer, Context, Direction, Hook};

/// Makes a function of `fn(&Context) -> Answer`: its entry, its licence, and the panic handler that Rust wants.
///
/// ```ignore
/// fabric_function::function!("GPL", |context| match context.len() {
///     0..=1500 => Answer::Next,
///     _ => Answer::Drop,
/// });
/// ```
#[macro_export]
macro_rules! function {
    ($licence:literal, $answer:expr) => {
        /// The entry: the datapath calls it.
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "classifier")]
        pub extern "C" fn function(skb: *mut $crate::aya_ebpf::bindings::__sk_buff) -> u32 {
            let answer: fn(&$crate::Context) -> $crate::Answer = $answer;
            // SAFETY: the kernel calls it with a packet that is valid for the whole run.
            answer(&unsafe { $crate::Context::new(skb) }).number()
        }

        #[unsafe(no_mangle)]
        #[unsafe(link_section = "license")]
        static LICENSE: [u8; $licence.len() + 1] = {
            let mut bytes = [0; $licence.len() + 1];
            let mut index = 0;
            while index < $licence.len() {
                bytes[index] = $licence.as_bytes()[index];
                index += 1;
            }
            bytes
        };

        #[cfg(target_arch = "bpf")]
        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
            loop {}
        }
    };
}
