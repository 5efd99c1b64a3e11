//! The transcript of a run and its table, without secrets.

use std::{fmt::Write as _, sync::LazyLock};

use http::Method;
use regex::{Captures, Regex};
use url::Url;

use super::{
    backend::Backend,
    probe::{Asked, Verdict},
    probe_run::Answer,
};

/// Longer bodies are named by their length.
const BODY_LIMIT: usize = 4096;

const HIDDEN: &str = "(hidden)";

/// A request and its answer, as lines of the transcript.
pub(crate) struct Exchange {
    /// False for the preparation.
    pub(crate) is_question: bool,
    pub(crate) text: String,
}

/// The lines of a request of the registry protocol and its answer.
pub(crate) fn of_registry(
    method: &Method,
    url: &Url,
    is_logged_in: bool,
    headers: &[(&str, &str)],
    body: &[u8],
    answer: &Answer,
) -> String {
    let mut text = format!("> {method} {url}\n");
    for (name, value) in headers {
        let _ = writeln!(text, "> {name}: {value}");
    }
    if is_logged_in {
        let _ = writeln!(text, "> authorization: {HIDDEN}");
    }
    text += &shown_body('>', body);
    let headers = answer.headers.iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.to_str().unwrap_or("?")));
    text + &of_answer(answer.status, headers, &answer.body)
}

/// The lines of a call of an AWS API.
pub(crate) fn of_call(target: &str, url: &str, body: &[u8]) -> String {
    format!("> POST {url} {target}\n{}", shown_body('>', body))
}

/// The lines of an answer.
pub(crate) fn of_answer<'a>(
    status: Option<u16>,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    body: &[u8],
) -> String {
    let Some(status) = status else { return "< the connection was closed\n".to_owned() };
    let mut text = format!("< {status}\n");
    for (name, value) in headers {
        let _ = writeln!(text, "< {name}: {value}");
    }
    text + &shown_body('<', body)
}

fn shown_body(mark: char, body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok("") => String::new(),
        Ok(text) if text.len() <= BODY_LIMIT => {
            text.lines().map(|line| format!("{mark} {line}\n")).collect()
        }
        _ => format!("{mark} ({} bytes)\n", body.len()),
    }
}

/// Hides secrets: of the signature of a URL, of the documents that carry them, and these.
pub(crate) struct Redaction {
    secrets: Vec<String>,
    /// Replaced by the account of AWS's documentation, if it is hidden.
    account: Option<String>,
}

impl Redaction {
    /// Hides the account unless it is to be shown.
    pub(crate) async fn of(backend: &Backend, shows_account: bool) -> anyhow::Result<Self> {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        let login = backend.login().await?;
        let token = login.trim_start_matches("Basic ").to_owned();
        let pair = BASE64_STANDARD.decode(&token).ok().and_then(|it| String::from_utf8(it).ok());
        let password = pair.and_then(|it| Some(it.split_once(':')?.1.to_owned()));
        let secrets = [Some(token), password].into_iter().flatten().collect();
        Ok(Self { secrets, account: (!shows_account).then(|| backend.account.clone()) })
    }

    /// The text without secrets.
    pub(crate) fn apply(&self, text: &str) -> String {
        static PARAMETERS: LazyLock<Regex> = LazyLock::new(|| {
            let names = "Signature|Credential|Security-Token";
            Regex::new(&format!(r#"(X-Amz-(?:{names})=)[^&\s"\\]+"#)).expect("it is valid")
        });
        static MEMBERS: LazyLock<Regex> = LazyLock::new(|| {
            let names = "authorizationToken|SecretString|SecretBinary";
            Regex::new(&format!(r#"("(?:{names})"\s*:\s*)"(?:[^"\\]|\\.)*""#)).expect("it is valid")
        });
        static HEADERS: LazyLock<Regex> = LazyLock::new(|| {
            let names = "authorization|x-amz-security-token|set-cookie";
            Regex::new(&format!(r"(?im)^([<>] (?:{names}): ).*$")).expect("it is valid")
        });
        static PRINCIPALS: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r#"(arn:aws[a-z-]*:(?:iam|sts)::\d{12}:)[^\s"\\]+"#).expect("it is valid")
        });
        static KEYS: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}").expect("it is valid")
        });
        let hide = |found: &Captures<'_>| format!("{}{HIDDEN}", &found[1]);
        let hide_text = |found: &Captures<'_>| format!("{}\"{HIDDEN}\"", &found[1]);
        let mut text = PARAMETERS.replace_all(text, hide).into_owned();
        text = MEMBERS.replace_all(&text, hide_text).into_owned();
        text = HEADERS.replace_all(&text, hide).into_owned();
        text = PRINCIPALS.replace_all(&text, hide).into_owned();
        text = KEYS.replace_all(&text, HIDDEN).into_owned();
        for secret in &self.secrets {
            text = text.replace(secret, HIDDEN);
        }
        match &self.account {
            Some(account) => text.replace(account, "123456789012"),
            None => text,
        }
    }
}

/// All requests and answers.
pub(crate) fn transcript(all: &[Asked], redaction: &Redaction) -> String {
    let mut text = String::new();
    for asked in all {
        let _ = writeln!(text, "== {}: {}", asked.probe.id, asked.probe.assumption);
        let mut is_question = false;
        for exchange in &asked.recorded.exchanges {
            if exchange.is_question && !is_question {
                is_question = true;
                text += "-- the question\n\n";
            }
            text += &exchange.text;
            text.push('\n');
        }
        let _ = writeln!(text, "-- seen: {}\n", asked.shown());
    }
    redaction.apply(&text)
}

/// The table: one row per assumption, those that differ first.
pub(crate) fn table(all: &[Asked], not_asked: &[(&str, String)], redaction: &Redaction) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let mut text = "| | probe | assumption | expected | seen |\n|---|---|---|---|---|\n".to_owned();
    for (verdict, mark) in
        [(Verdict::Differs, "differs"), (Verdict::Failed, "?"), (Verdict::AsExpected, "ok")]
    {
        for asked in all.iter().filter(|asked| asked.verdict() == verdict) {
            let (probe, seen) = (asked.probe, cell(&asked.shown()));
            let (assumption, expected) = (cell(probe.assumption), cell(probe.expected));
            let _ =
                writeln!(text, "| {mark} | {} | {assumption} | {expected} | {seen} |", probe.id);
        }
    }
    for (id, why) in not_asked {
        let _ = writeln!(text, "| – | {id} | | | not asked: {} |", cell(why));
    }
    for left in all.iter().flat_map(|asked| &asked.left) {
        let _ = writeln!(text, "\nNot removed. Run `{}`", cell(left));
    }
    redaction.apply(&text)
}
