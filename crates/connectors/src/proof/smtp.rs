//! A mail server that says yes, but for one thing.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// Where it says something else, and what: `hang`, `reset`, or the words of a reply.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) at: String,
    pub(super) what: String,
}

pub(super) struct MailServer {
    pub(super) port: u16,
    mails: Arc<Mutex<Vec<String>>>,
}

// === impl MailServer ===

impl MailServer {
    pub(super) async fn start(trouble: Option<Trouble>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mails = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&mails);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, trouble.clone(), Arc::clone(&taken)));
            }
        });
        Self { port, mails }
    }

    /// What was taken, as it came over the wire, without the last dot.
    pub(super) fn mails(&self) -> Vec<String> {
        self.mails.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, trouble: Option<Trouble>, mails: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let mut at = "greeting".to_owned();
    let mut reply = "220 localhost ESMTP";
    loop {
        let trouble = trouble.as_ref().filter(|trouble| trouble.at == at);
        let said = match trouble.map(|trouble| trouble.what.as_str()) {
            Some("hang") => std::future::pending().await,
            Some("reset") => return stream.get_mut().set_zero_linger().unwrap(),
            said => said.unwrap_or(reply),
        };
        if stream.write_all(format!("{said}\r\n").as_bytes()).await.is_err() {
            return;
        }
        if at == "data" && said.starts_with('3') {
            let Some(mail) = read_mail(&mut stream).await else { return };
            mails.lock().unwrap().push(mail);
            (at, reply) = ("end".to_owned(), "250 queued as 1");
            continue;
        }
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        at = line.split([' ', '\r']).next().unwrap_or_default().to_ascii_lowercase();
        reply = match at.as_str() {
            "ehlo" => "250-localhost\r\n250 SIZE 1000000",
            "mail" | "rcpt" => "250 fine",
            "data" => "354 go ahead",
            "quit" => "221 bye",
            _ => "502 what?",
        };
    }
}

async fn read_mail(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut mail = String::new();
    loop {
        let from = mail.len();
        if stream.read_line(&mut mail).await.ok()? == 0 {
            return None;
        }
        if &mail[from..] == ".\r\n" {
            mail.truncate(from);
            return Some(mail);
        }
    }
}
