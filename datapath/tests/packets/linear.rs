//! A program before all others on a hook: how many bytes of the last packet lie in one piece.

use aya::maps::{Array, MapData};
use aya::programs::LinkOrder;
use aya::programs::tc::{NlOptions, SchedClassifier, SchedClassifierLink, TcAttachOptions, TcAttachType};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use datapath::object;

static PROGRAM: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/linear.o"));

/// The program.
pub(crate) struct Linear(Ebpf);

impl Linear {
    /// At no hook yet.
    pub(crate) fn loaded() -> Self {
        let mut linear = Self(EbpfLoader::new().load(PROGRAM).expect("the object loads"));
        object::load(linear.program()).expect("the verifier takes it");
        linear
    }

    fn program(&mut self) -> &mut SchedClassifier {
        let program = self.0.program_mut("linear").expect("it exists");
        program.try_into().expect("a classifier")
    }

    /// At the ingress of an interface of the calling thread's namespace that has programs already; until the link is gone.
    pub(crate) fn attach(&mut self, interface: &str) -> SchedClassifierLink {
        let first = [
            TcAttachOptions::TcxOrder(LinkOrder::first()),
            // Before Linux 6.6.
            TcAttachOptions::Netlink(NlOptions {
                priority: 1,
                ..NlOptions::default()
            }),
        ];
        let program = self.program();
        let attached = first.into_iter().find_map(|options| {
            program
                .attach_with_options(interface, TcAttachType::Ingress, options)
                .ok()
        });
        let link = attached.expect("the kernel has one of both ways");
        program.take_link(link).expect("it is attached")
    }

    /// Of the last packet that came by.
    pub(crate) fn bytes(&self) -> usize {
        let map = self.0.map("LINEAR").expect("the map exists");
        let map = Array::<&MapData, u32>::try_from(map).expect("an array");
        map.get(&0, 0).expect("it is there") as usize
    }
}
