//! An SMTP server that keeps what it gets.

use std::{
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use auth::config::{Encryption, MailConfig};
use common::{engine::Engines, testing::eventually};
use openssl::{
    pkey::PKey,
    ssl::{Ssl, SslContext, SslMethod},
    x509::X509,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
};
use tokio_openssl::SslStream;

/// What links begin with in these tests.
pub(crate) const LINK_PREFIX: &str = "http://gui.example.com/#/setPassword/";

#[derive(Clone)]
pub(crate) struct Mailbox {
    address: SocketAddr,
    encryption: Encryption,
    /// The certificate of its authority.
    pub authority: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    letters: Mutex<Vec<Letter>>,
    /// What clients said to log in.
    logins: Mutex<Vec<String>>,
    /// How many of the next mails are not taken.
    refusals: AtomicUsize,
    attempts: AtomicUsize,
}

#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub to: String,
    pub text: String,
}

impl Letter {
    /// The end of the link in it.
    pub(crate) fn link(&self) -> String {
        let (_, rest) = self.text.split_once(LINK_PREFIX).expect("a link");
        rest.split_whitespace().next().expect("an end of the link").to_owned()
    }
}

impl Mailbox {
    pub(crate) async fn open(engines: &Engines, encryption: Encryption) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (context, authority) = identity();
        let mailbox = Self { address, encryption, authority, state: Arc::default() };
        let (state, stop) = (Arc::clone(&mailbox.state), engines.shutdown.clone());
        engines.shutdown.spawn("mailbox", async move {
            while let Some(Ok((stream, _))) = stop.unless_requested(listener.accept()).await {
                let conversation = async {
                    if encryption == Encryption::Tls {
                        let mut stream = BufReader::new(encrypted(stream, &context).await?);
                        say(&mut stream, "220 mailbox").await?;
                        return talk(stream, false, &state).await.map(drop);
                    }
                    let mut stream = BufReader::new(stream);
                    say(&mut stream, "220 mailbox").await?;
                    let may_encrypt = encryption == Encryption::Starttls;
                    if let Some(stream) = talk(stream, may_encrypt, &state).await? {
                        let stream = encrypted(stream.into_inner(), &context).await?;
                        talk(BufReader::new(stream), false, &state).await?;
                    }
                    Ok::<_, std::io::Error>(())
                };
                let _ = stop.unless_requested(conversation).await;
            }
        });
        mailbox
    }

    /// The settings that lead here.
    pub(crate) fn settings(&self) -> MailConfig {
        MailConfig {
            host: self.address.ip().to_string(),
            port: self.address.port(),
            encryption: self.encryption,
            trusted_ca: PathBuf::new(),
            user: String::new(),
            password: "".into(),
            sender: "Tatami <no-reply@example.com>".to_owned(),
            link_prefix: LINK_PREFIX.to_owned(),
        }
    }

    /// Does not take so many mails.
    pub(crate) fn refuse(&self, mails: usize) {
        self.state.refusals.store(mails, Ordering::SeqCst);
    }

    /// How many were offered.
    pub(crate) fn attempts(&self) -> usize {
        self.state.attempts.load(Ordering::SeqCst)
    }

    /// What clients said to log in.
    pub(crate) fn logins(&self) -> Vec<String> {
        self.state.logins.lock().unwrap().clone()
    }

    /// All mails to an address.
    pub(crate) fn to(&self, address: &str) -> Vec<Letter> {
        let letters = self.state.letters.lock().unwrap();
        letters.iter().filter(|letter| letter.to == address).cloned().collect()
    }

    /// The newest mail to an address, when there are so many.
    pub(crate) async fn wait(&self, address: &str, count: usize) -> Letter {
        eventually("the mail comes", || async {
            let letters = self.to(address);
            assert!(letters.len() <= count, "{letters:?}");
            letters.get(count - 1).cloned()
        })
        .await
    }
}

/// A certificate for this address, and the authority that has signed it.
fn identity() -> (SslContext, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "An authority of the tests");
    let authority = params.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::from_ca_cert_pem(&authority, authority_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let mut context = SslContext::builder(SslMethod::tls_server()).unwrap();
    context.set_certificate(&X509::from_pem(certificate.pem().as_bytes()).unwrap()).unwrap();
    context.set_private_key(&PKey::private_key_from_pem(key.serialize_pem().as_bytes()).unwrap()).unwrap();
    (context.build(), authority)
}

async fn encrypted<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    context: &SslContext,
) -> std::io::Result<SslStream<S>> {
    let mut stream = SslStream::new(Ssl::new(context)?, stream)?;
    Pin::new(&mut stream).accept().await.map_err(std::io::Error::other)?;
    Ok(stream)
}

/// Speaks SMTP; gives the connection back when the client wants to encrypt it.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    mut client: BufReader<S>,
    may_encrypt: bool,
    state: &State,
) -> std::io::Result<Option<BufReader<S>>> {
    let mut to = String::new();
    while let Some(line) = hear(&mut client).await? {
        let answer = match line.split([' ', ':']).next().unwrap_or_default() {
            "EHLO" if may_encrypt => "250-mailbox\r\n250 STARTTLS",
            "EHLO" => "250-mailbox\r\n250 AUTH PLAIN",
            "STARTTLS" if may_encrypt => {
                say(&mut client, "220 go on").await?;
                return Ok(Some(client));
            }
            "AUTH" => {
                state.logins.lock().unwrap().push(line);
                "235 welcome"
            }
            "MAIL" => {
                state.attempts.fetch_add(1, Ordering::SeqCst);
                let less = |left: usize| left.checked_sub(1);
                let refuses = state.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok();
                if refuses { "451 later" } else { "250 ok" }
            }
            "RCPT" => {
                to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                "250 ok"
            }
            "DATA" => {
                say(&mut client, "354 go on").await?;
                let text = data(&mut client).await?;
                state.letters.lock().unwrap().push(Letter { to: to.clone(), text });
                "250 ok"
            }
            "QUIT" => {
                say(&mut client, "221 bye").await?;
                return Ok(None);
            }
            _ => "500 what?",
        };
        say(&mut client, answer).await?;
    }
    Ok(None)
}

async fn data<S: AsyncRead + Unpin>(client: &mut BufReader<S>) -> std::io::Result<String> {
    let mut text = String::new();
    while let Some(line) = hear(client).await?.filter(|line| line != ".") {
        text.push_str(&line);
        text.push('\n');
    }
    // Long lines are folded where somebody encodes them.
    let is_encoded = text.to_lowercase().contains("quoted-printable");
    Ok(if is_encoded { text.replace("=\n", "").replace("=3D", "=") } else { text })
}

async fn hear<S: AsyncRead + Unpin>(client: &mut BufReader<S>) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    let read = client.read_line(&mut line).await?;
    Ok((read > 0).then(|| line.trim_end().to_owned()))
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut BufReader<S>,
    line: &str,
) -> std::io::Result<()> {
    client.write_all(format!("{line}\r\n").as_bytes()).await?;
    client.flush().await
}
