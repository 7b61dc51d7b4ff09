//! Off the interfaces and on again, while nothing is cut: XDP takes one program, so another config's come in between.

use super::Interfaces;
use crate::datapath::Kernel;

impl Interfaces {
    /// Takes our programs off every interface; they stay loaded, and the interfaces are still followed.
    pub async fn pause(&mut self) {
        for entry in self.entries.iter_mut().rev() {
            entry.rest().await;
        }
    }

    /// Puts them on again, each where it can be; what came of it, for the timeline.
    pub async fn resume(&mut self, kernel: &mut Kernel) -> Vec<(String, String)> {
        let mut told = Vec::new();
        for at in 0..self.entries.len() {
            told.extend(self.try_again(at).await);
        }
        self.bind(kernel, false);
        told
    }
}
