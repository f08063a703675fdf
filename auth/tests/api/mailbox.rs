//! An SMTP server that keeps what it gets.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use auth::config::{Encryption, MailConfig};
use common::{engine::Engines, testing::eventually};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// What links begin with in these tests.
pub(crate) const LINK_PREFIX: &str = "http://gui.example.com/#/setPassword/";

#[derive(Clone)]
pub(crate) struct Mailbox {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    letters: Mutex<Vec<Letter>>,
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
    pub(crate) async fn open(engines: &Engines) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mailbox = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let (state, stop) = (Arc::clone(&mailbox.state), engines.shutdown.clone());
        engines.shutdown.spawn("mailbox", async move {
            while let Some(Ok((stream, _))) = stop.unless_requested(listener.accept()).await {
                let _ = stop.unless_requested(converse(stream, &state)).await;
            }
        });
        mailbox
    }

    /// The settings that lead here.
    pub(crate) fn settings(&self) -> MailConfig {
        MailConfig {
            host: self.address.ip().to_string(),
            port: self.address.port(),
            encryption: Encryption::None,
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

type Client = (Lines<BufReader<OwnedReadHalf>>, OwnedWriteHalf);

async fn converse(stream: TcpStream, state: &State) -> std::io::Result<()> {
    let (read, write) = stream.into_split();
    let mut client = (BufReader::new(read).lines(), write);
    say(&mut client, "220 mailbox").await?;
    let mut to = String::new();
    while let Some(line) = client.0.next_line().await? {
        let answer = match line.split([' ', ':']).next().unwrap_or_default() {
            "EHLO" => "250 mailbox",
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
            "QUIT" => return say(&mut client, "221 bye").await,
            _ => "500 what?",
        };
        say(&mut client, answer).await?;
    }
    Ok(())
}

async fn data(client: &mut Client) -> std::io::Result<String> {
    let mut text = String::new();
    while let Some(line) = client.0.next_line().await? {
        if line == "." {
            break;
        }
        text.push_str(&line);
        text.push('\n');
    }
    // Long lines are folded where somebody encodes them.
    let is_encoded = text.to_lowercase().contains("quoted-printable");
    Ok(if is_encoded { text.replace("=\n", "").replace("=3D", "=") } else { text })
}

async fn say(client: &mut Client, line: &str) -> std::io::Result<()> {
    client.1.write_all(format!("{line}\r\n").as_bytes()).await
}
