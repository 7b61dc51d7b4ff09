//! The kinds of probes. A kind is one type that implements [`Kind`], and one line of [`probe_kinds!`]: the config, its
//! schema, the page `docs/reference/config.md`, secrets, certificates, host names and the words of a stimulus come from these.
//! The daemon's `probe` module sends it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;

use super::probe::{Exchange, ExecCommand, Target, Tls};
use super::read::{Fields, Node};
use super::secret::{Sent, Text, digest};
use crate::clock::Span;
use crate::model::ProbeSettings;

pub(in crate::config) mod exec;
mod host;
pub(in crate::config) mod http;
mod kind;
pub(in crate::config) mod texts;
pub(in crate::config) mod tls;

pub use http::HttpProbe;
pub(in crate::config) use kind::{INTERVAL, KindInfo};
use kind::{Kind, Settings, Stimulus};
use texts::{Texts, secret};
use tls::TlsKeys;

/// A kind that a config has.
pub(in crate::config) struct Found<'a> {
    pub info: &'static KindInfo,
    pub node: Node<'a>,
    /// `None` if something is wrong with it, which has been reported.
    pub kind: Option<ProbeKind>,
}

/// Makes [`ProbeKind`], and everything that has one entry for each kind.
macro_rules! probe_kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident($type:ty) = $word:ident,)+) => {
        /// What is sent and expected.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ProbeKind {
            $($(#[doc = $doc])+ $kind($type),)+
        }

        /// Every kind, in the order of the page of the config.
        pub(in crate::config) const KINDS: &[KindInfo] = &[$(KindInfo {
            word: stringify!($word),
            success: <$type as Kind>::SUCCESS,
            interval: <$type as Kind>::INTERVAL,
            shares_connections: <$type as Kind>::SHARES_CONNECTIONS,
        }),+];

        /// Reads each kind that a probe has.
        pub(in crate::config) fn read<'a>(table: &Fields<'a>, texts: &Texts<'_>) -> Vec<Found<'a>> {
            let mut infos = KINDS.iter();
            let mut found = Vec::new();
            $(
                if let (Some(info), Some(node)) = (infos.next(), table.get(stringify!($word))) {
                    let kind = <$type as Kind>::read(&node, texts).map(ProbeKind::$kind);
                    found.push(Found { info, node, kind });
                }
            )+
            found
        }

        impl ProbeKind {
            /// Its key in `probe:`.
            pub fn word(&self) -> &'static str {
                match self { $(Self::$kind(_) => stringify!($word),)+ }
            }

            /// The request and the expected answer in words, without what may be secret.
            pub fn stimulus(&self) -> String {
                let mut stimulus = Stimulus::default();
                match self { $(Self::$kind(kind) => kind.describe(&mut stimulus),)+ }
                stimulus.finish()
            }

            /// The probe's settings by keys of the config, without what may be secret.
            pub fn settings(&self) -> ProbeSettings {
                let mut settings = Settings::default();
                settings.set("kind", self.word());
                match self { $(Self::$kind(kind) => kind.settings(&mut settings),)+ }
                settings.finish()
            }

            /// The command that it runs.
            pub fn command(&self) -> Option<&ExecCommand> {
                match self { $(Self::$kind(kind) => kind.command(),)+ }
            }

            /// How it speaks TLS.
            pub fn tls(&self) -> Option<&Tls> {
                match self { $(Self::$kind(kind) => kind.tls(),)+ }
            }

            /// Its TLS settings, to change them or to read their files.
            pub fn tls_mut(&mut self) -> Option<&mut Tls> {
                match self { $(Self::$kind(kind) => kind.tls_mut(),)+ }
            }

            /// Every text that may have secrets in it.
            pub(in crate::config) fn texts(&mut self) -> Vec<(Sent, &mut Text)> {
                match self { $(Self::$kind(kind) => kind.texts(),)+ }
            }

            /// Host and port that it connects to, as the config has them; `None` for commands and Unix sockets.
            pub(in crate::config) fn authority(&self) -> Option<&str> {
                match self { $(Self::$kind(kind) => kind.authority(),)+ }
            }
        }

        /// One kind, and its schedule. In texts, {address}, {peer} and {seq} are filled in.
        #[derive(JsonSchema)]
        #[schemars(rename = "Probe", deny_unknown_fields)]
        #[expect(dead_code, reason = "the fields are read by the derive macro alone")]
        pub(in crate::config) struct ProbeKeys {
            $($(#[doc = $doc])+ $word: Option<<$type as Kind>::Keys>,)+
            /// The fixed schedule at the full rate; 10ms by default, 1s for exec.
            interval: Option<Span>,
            /// When a probe has failed; 1s by default.
            timeout: Option<Span>,
            /// A new connection for each probe, or a shared one; `fresh` by default.
            connection: Option<ConnectionKey>,
        }
    };
}

probe_kinds! {
    /// An HTTP/1.1 request.
    Http(HttpProbe) = http,
    /// A unary gRPC call over HTTP/2.
    Grpc(GrpcProbe) = grpc,
    /// A TCP connect, and a text that is sent and answered.
    Tcp(TcpProbe) = tcp,
    /// A command.
    Exec(ExecCommand) = exec,
}

/// Whose connection a probe uses.
#[derive(JsonSchema)]
#[schemars(rename = "Connection", rename_all = "lowercase")]
#[expect(dead_code, reason = "the variants are read by the derive macro alone")]
enum ConnectionKey {
    /// One of its own.
    Fresh,
    /// A shared one; http and grpc only.
    Pooled,
}

/// A unary gRPC call over HTTP/2.
#[derive(Clone, Debug, PartialEq)]
pub struct GrpcProbe {
    /// `{address}:5122`.
    pub target: Target,
    /// `None` is cleartext.
    pub tls: Option<Tls>,
    /// `package.Service/Method`.
    pub method: String,
    /// The request message, protobuf bytes.
    pub message: Vec<u8>,
}

/// A gRPC call.
#[derive(JsonSchema)]
#[schemars(rename = "Grpc", deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are read by the derive macro alone")]
pub(in crate::config) struct GrpcKeys {
    /// Where to, as in `{address}:5122`, or `unix:` and the absolute path of a socket.
    target: String,
    /// Whom the server is trusted by; without it, the call is not encrypted.
    tls: Option<TlsKeys>,
    /// The method; `grpc.health.v1.Health/Check` by default.
    method: Option<String>,
    /// The request, protobuf in base64.
    message: Option<String>,
}

impl Kind for GrpcProbe {
    type Keys = GrpcKeys;
    const SUCCESS: &'static str =
        "a complete message of a unary call, and grpc-status 0; of the health service also the state SERVING";
    const SHARES_CONNECTIONS: bool = true;

    fn read(node: &Node<'_>, texts: &Texts<'_>) -> Option<Self> {
        let table = node.table("write it as: { target: \"{address}:5122\" }")?;
        let target = host::target(&table, texts);
        let tls = tls::optional(&table);
        let mut method = "grpc.health.v1.Health/Check".to_owned();
        if let Some(node) = table.get("method")
            && let Some(text) = node.text("write it as package.Service/Method")
        {
            let word = |part: &str| {
                !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'))
            };
            if !text.split_once('/').is_some_and(|(service, method)| word(service) && word(method)) {
                let what = format!("\"{text}\" is not a gRPC method");
                node.error(what, "write it as package.Service/Method, without a leading slash");
            }
            text.clone_into(&mut method);
        }
        let mut message = Vec::new();
        if let Some(node) = table.get("message")
            && let Some(text) = node.text("write the protobuf message as base64, in quotes")
        {
            match STANDARD.decode(text) {
                Ok(bytes) => message = bytes,
                Err(error) => node.error(
                    format!("the message is not base64 ({error})"),
                    "write the protobuf message as base64 with padding",
                ),
            }
        }
        table.finish();
        Some(Self { target: target?, tls: tls?, method, message })
    }

    fn describe<'a>(&'a self, stimulus: &mut Stimulus<'a>) {
        stimulus.say(format_args!("grpc {} {}", self.target, self.method));
        stimulus.say_tls(self.tls.as_ref());
        if !self.message.is_empty() {
            let text: String = self.message.iter().map(|byte| char::from(*byte)).collect();
            let digest = digest([text.as_str()]);
            stimulus.say(format_args!(", sends {} bytes #{digest:04x}", self.message.len()));
        }
    }

    fn settings(&self, settings: &mut Settings) {
        settings.set("target", &self.target);
        settings.set_tls(self.tls.as_ref());
        settings.set("method", &self.method);
        if !self.message.is_empty() {
            let text: String = self.message.iter().map(|byte| char::from(*byte)).collect();
            settings.hide("message", [text.as_str()]);
        }
    }

    fn authority(&self) -> Option<&str> {
        self.target.host()
    }

    fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    fn tls_mut(&mut self) -> Option<&mut Tls> {
        self.tls.as_mut()
    }
}

/// A TCP connect, and what follows it.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpProbe {
    /// `{address}:8080`.
    pub target: Target,
    /// `None` is cleartext.
    pub tls: Option<Tls>,
    /// `None`: being connected is a success.
    pub exchange: Option<Exchange>,
}

/// A TCP connect, and what follows it.
#[derive(JsonSchema)]
#[schemars(rename = "Tcp", deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are read by the derive macro alone")]
pub(in crate::config) struct TcpKeys {
    /// Where to, as in `{address}:8080`, or `unix:` and the absolute path of a socket.
    target: String,
    /// Whom the server is trusted by; without it, the connection is not encrypted.
    tls: Option<TlsKeys>,
    /// What is sent.
    send: Option<String>,
    /// What the answer to it begins with.
    expect: Option<String>,
}

/// The most bytes of an expected answer.
const MAX_ANSWER: usize = 1024;

impl Kind for TcpProbe {
    type Keys = TcpKeys;
    const SUCCESS: &'static str =
        "a connect (with `tls`, the handshake), or an answer to `send` that begins with `expect`";

    fn read(node: &Node<'_>, texts: &Texts<'_>) -> Option<Self> {
        let table = node
            .table("write it as: { target: \"{address}:6379\", send: \"PING\\r\\n\", expect: \"+PONG\" }")?;
        let target = host::target(&table, texts);
        let tls = tls::optional(&table);
        let (send_node, expect_node) = (table.get("send"), table.get("expect"));
        let usage = "write the text in quotes, with its line ends, as in: \"PING\\r\\n\"";
        let send = send_node.as_ref().map(|node| secret(node, texts.read(node, usage)?));
        let expect = expect_node.as_ref().map(|node| {
            let text = texts.read(node, "write what the answer begins with, as in: \"+PONG\"")?;
            if text.is_empty() {
                node.error("the text is empty", "write what the answer begins with, as in: \"+PONG\"");
            } else if text.len() > MAX_ANSWER {
                let what =
                    format!("the text has {} bytes, and {MAX_ANSWER} of an answer are read", text.len());
                node.error(what, "write only its beginning");
            }
            secret(node, text)
        });
        if let (Some(node), None) = (&send_node, &expect_node) {
            node.key_error(
                "without expect nobody looks at the answer",
                "write what the answer begins with, as in: expect: \"+PONG\"",
            );
        }
        if let (None, Some(node)) = (&send_node, &expect_node) {
            node.key_error(
                "without send nothing is asked",
                "write what is sent, as in: send: \"PING\\r\\n\"; or send: \"\" for a server that speaks first",
            );
        }
        table.finish();
        let exchange = match (send, expect) {
            (Some(send), Some(expect)) => Some(Exchange { send: send?, expect: expect? }),
            _ => None,
        };
        Some(Self { target: target?, tls: tls?, exchange })
    }

    fn describe<'a>(&'a self, stimulus: &mut Stimulus<'a>) {
        stimulus.say(format_args!("tcp {}", self.target));
        stimulus.say_tls(self.tls.as_ref());
        if let Some(exchange) = &self.exchange {
            stimulus.hide([exchange.send.written()]);
            stimulus.say(format_args!(", sends a text, expects {:?}", exchange.expect.written()));
        }
    }

    fn settings(&self, settings: &mut Settings) {
        settings.set("target", &self.target);
        settings.set_tls(self.tls.as_ref());
        if let Some(exchange) = &self.exchange {
            settings.hide("send", [exchange.send.written()]);
            settings.set("expect", exchange.expect.written());
        }
    }

    fn texts(&mut self) -> Vec<(Sent, &mut Text)> {
        let exchange = self.exchange.iter_mut().flat_map(|it| [&mut it.send, &mut it.expect]);
        exchange.map(|text| (Sent::Elsewhere, text)).collect()
    }

    fn authority(&self) -> Option<&str> {
        self.target.host()
    }

    fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    fn tls_mut(&mut self) -> Option<&mut Tls> {
        self.tls.as_mut()
    }
}
