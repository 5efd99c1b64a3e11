//! A registry that repeats secrets it was sent: in the text of its errors, as a careless server or
//! a debugging proxy does, and in its content.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ecr_mirror::model::Digest;
use serde_json::json;
use url::form_urlencoded;

/// The only layer of every image.
const LAYER: &[u8] = b"a layer";
const CONFIG: &[u8] = b"{}";

/// Secrets that the registry hands out.
#[derive(Clone)]
pub(super) struct IssuedSecrets {
    /// Token of the token service.
    pub(super) token: String,
    /// Signature in the URLs that blobs are redirected to.
    pub(super) signature: String,
    /// State in the URLs of uploads.
    pub(super) state: String,
}

/// Serves until the process ends. The first part of a repository's name selects the behavior:
///
/// - `basic`, `denied`: requires a user name and a password, and refuses them
/// - `token`: refuses them at its token service
/// - `bearer`: issues a token, and refuses it
/// - `signed`: redirects blobs to a server that refuses them
/// - `open`: serves everything without a login
/// - `push`: accepts uploads, and refuses their content
/// - `code`, `field`, `type`, `served`, `platform`, `listed`, `moved`: requires a user name and a
///   password, and repeats the password in that part of its answer
pub(super) fn serve(issued: &IssuedSecrets) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let issued = issued.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let issued = issued.clone();
            // a client that disconnects is ignored
            thread::spawn(move || answer(stream, address, &issued));
        }
    });
    address
}

/// The parts of a request that the registry repeats.
struct ReceivedRequest {
    method: String,
    target: String,
    authorization: Option<String>,
}

impl ReceivedRequest {
    fn read(stream: &TcpStream) -> io::Result<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (mut authorization, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => authorization = Some(value.to_owned()),
                "content-length" => length = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        io::copy(&mut reader.take(length), &mut io::sink())?;
        Ok(Self { method, target, authorization })
    }

    /// User name and password.
    fn pair(&self) -> String {
        let header = self.authorization.as_deref().unwrap_or_default();
        let encoded = header.split(' ').nth(1).unwrap_or_default();
        String::from_utf8(STANDARD.decode(encoded).unwrap_or_default()).unwrap_or_default()
    }

    fn password(&self) -> String {
        self.pair().split_once(':').map_or(String::new(), |(_, password)| password.to_owned())
    }

    /// All secrets of the request, in every form that a server sees.
    fn repeated(&self) -> String {
        let header = self.authorization.clone().unwrap_or_default();
        let (pair, password) = (self.pair(), self.password());
        let target = &self.target;
        format!("no to `{header}`, that is `{pair}` or `{password}`, and to {target}")
    }
}

/// Status, additional headers, body.
type Answer = (u16, String, Vec<u8>);

fn answer(mut stream: TcpStream, address: SocketAddr, issued: &IssuedSecrets) -> io::Result<()> {
    let request = ReceivedRequest::read(&stream)?;
    let (status, headers, body) = decide(&request, address, issued);
    let length = body.len();
    let body = if request.method == "HEAD" { &[] } else { &body[..] };
    write!(
        stream,
        "HTTP/1.1 {status} It\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    stream.write_all(body)
}

fn decide(request: &ReceivedRequest, address: SocketAddr, issued: &IssuedSecrets) -> Answer {
    let path = request.target.split('?').next().unwrap_or_default();
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", "refusing"] => {
            (401, String::new(), json!({ "details": request.repeated() }).to_string().into())
        }
        ["", "giving"] => (200, String::new(), json!({ "token": issued.token }).to_string().into()),
        ["", "cdn", ..] => (403, String::new(), request.repeated().into()),
        ["", "v2", kind, ..] if request.authorization.is_none() && challenge(kind).is_some() => {
            let challenge = challenge(kind).unwrap().replace("HOST", &address.to_string());
            (401, format!("www-authenticate: {challenge}\r\n"), Vec::new())
        }
        ["", "v2", "open" | "signed", _, "manifests", _] => manifest(),
        ["", "v2", "signed", _, "blobs", _] => {
            let signature = &issued.signature;
            let at = format!("http://localhost:{}/cdn?X-Amz-Signature={signature}", address.port());
            (307, format!("location: {at}\r\n"), Vec::new())
        }
        ["", "v2", "open", _, "blobs", digest] => {
            let blobs = [LAYER, CONFIG];
            let blob = blobs.into_iter().find(|blob| Digest::of(blob).to_string() == digest);
            (200, String::new(), blob.unwrap_or_default().to_vec())
        }
        ["", "v2", "push", name, "blobs", "uploads", ""] => {
            let state = &issued.state;
            let at = format!("/v2/push/{name}/blobs/uploads/{state}?_state={state}");
            (202, format!("location: {at}\r\n"), Vec::new())
        }
        ["", "v2", "push", ..] if request.method != "PUT" => refusal(404, "NAME_UNKNOWN", request),
        ["", "v2", "denied", ..] => refusal(403, "DENIED", request),
        ["", "v2", "push", ..] => refusal(400, "UNSUPPORTED", request),
        ["", "v2", kind, ..] => repeating(kind, path, &request.password())
            .unwrap_or_else(|| refusal(401, "UNAUTHORIZED", request)),
        _ => refusal(401, "UNAUTHORIZED", request),
    }
}

/// An answer of this kind with the password in it.
fn repeating(kind: &str, path: &str, password: &str) -> Option<Answer> {
    let ok = |document: serde_json::Value| (200, String::new(), document.to_string().into());
    let digest = Digest::of(LAYER);
    Some(match kind {
        "code" => {
            (403, String::new(), json!({ "errors": [{ "code": password }] }).to_string().into())
        }
        "field" => ok(json!({ "schemaVersion": password })),
        "type" => ok(json!({ "mediaType": password })),
        "served" => (200, format!("content-type: x/{password}\r\n"), b"{}".to_vec()),
        "platform" => {
            let platform = json!({ "os": password, "architecture": "amd64" });
            ok(json!({ "manifests": [{ "digest": digest, "size": 1, "platform": platform }] }))
        }
        "listed" if path.ends_with("/tags/list") => ok(json!({ "tags": password })),
        "moved" => {
            let part = form_urlencoded::byte_serialize(password.as_bytes()).collect::<String>();
            (307, format!("location: /cdn/{part}/x\r\n"), Vec::new())
        }
        _ => return None,
    })
}

fn challenge(kind: &str) -> Option<&'static str> {
    match kind {
        "basic" | "denied" | "code" | "field" | "type" | "served" | "platform" | "listed"
        | "moved" => Some("Basic realm=\"it\""),
        "token" => Some("Bearer realm=\"http://HOST/refusing\",service=\"it\""),
        "bearer" => Some("Bearer realm=\"http://HOST/giving\",service=\"it\""),
        _ => None,
    }
}

fn refusal(status: u16, code: &str, request: &ReceivedRequest) -> Answer {
    let error =
        json!({ "code": code, "message": request.repeated(), "detail": request.repeated() });
    (status, String::new(), json!({ "errors": [error] }).to_string().into())
}

fn manifest() -> Answer {
    let described = |kind: &str, blob: &[u8]| json!({ "mediaType": kind, "size": blob.len(), "digest": Digest::of(blob).to_string() });
    let text = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("application/vnd.oci.image.config.v1+json", CONFIG),
        "layers": [described("application/vnd.oci.image.layer.v1.tar", LAYER)],
    });
    let kind = "content-type: application/vnd.oci.image.manifest.v1+json\r\n".to_owned();
    (200, kind, text.to_string().into())
}
