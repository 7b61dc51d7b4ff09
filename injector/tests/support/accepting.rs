//! The loop of a server: each connection that a listener takes is served by a task.

use std::future::Future;
use std::net::TcpListener;

use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Accepts connections until it is dropped.
pub struct Accepting {
    _stop: oneshot::Sender<()>,
}

impl Accepting {
    /// Serves what connects to a listener, which may be of another namespace.
    pub fn start<F: Future<Output = ()> + Send + 'static>(
        listener: TcpListener,
        connection: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self {
        listener.set_nonblocking(true).unwrap();
        let (stop, mut stopped) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let accepted = tokio::select! {
                        accepted = listener.accept() => accepted,
                        _ = &mut stopped => return,
                    };
                    let Ok((stream, _)) = accepted else { continue };
                    tokio::spawn(connection(stream));
                }
            });
        });
        Self { _stop: stop }
    }
}
