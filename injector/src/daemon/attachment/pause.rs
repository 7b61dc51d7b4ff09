//! Off the interfaces and on again, while nothing is cut: XDP takes one program, so another config's come in between.

use super::Interfaces;
use crate::datapath::Kernel;

impl Interfaces {
    /// Takes our programs off every interface; they stay loaded, and the interfaces are still followed.
    pub async fn pause(&mut self) {
        self.release_all().await;
        for entry in &mut self.entries {
            "taken off for another config".clone_into(&mut entry.missing);
        }
    }

    /// Puts them on again, each where it can be; what came of it, for the timeline.
    pub async fn resume(&mut self, kernel: &mut Kernel) -> Vec<(String, String)> {
        let reported = self.attach_again().await;
        self.bind(kernel, false);
        reported
    }
}
