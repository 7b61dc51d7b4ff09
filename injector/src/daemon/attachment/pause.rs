//! Off the interfaces and on again, while nothing is cut: XDP takes one program, so another config's come in between.

use super::Interfaces;
use crate::datapath::Kernel;
use injector_core::clock::MonoNs;

impl Interfaces {
    /// Takes our programs off every interface; they stay loaded, and the interfaces are still followed.
    pub async fn pause(&mut self) {
        let since = MonoNs::now();
        self.release_all().await;
        for entry in &mut self.entries {
            // The gap lasts until they are on again, which may take longer than the reload: a cut must not
            // rely on them.
            entry.begin_gap(since);
            "taken off for another config".clone_into(&mut entry.missing);
        }
    }

    /// Puts them on again, each where it can be, and has the others tried again; what came of it, for the timeline.
    pub async fn resume(&mut self, kernel: &mut Kernel) -> Vec<(String, String)> {
        let reported = self.attach_again().await;
        self.bind(kernel, false);
        reported
    }
}
