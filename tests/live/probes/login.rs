//! The login of the registry protocol.

use anyhow::{Context, Result};
use aws_sdk_ecr::config::{Credentials, Region};
use http::Method;

use crate::{
    probe::{Scope::*, Seen, probes},
    probe_run::{Answer, ProbeRun},
};

/// Holds an `authorizationToken` that was made more than twelve hours ago.
const EXPIRED_LOGIN: &str = "ECR_MIRROR_LIVE_EXPIRED_LOGIN";

probes! {
    "challenge", Own, "A request without a login is answered with a Basic challenge"
        => "401 Basic realm=\"https://HOST/\",service=\"ecr.amazonaws.com\"",
        otherwise "otherwise=bearer-challenge", challenge;
    "challenge-text", Own, "The answer to a request without a login is a text"
        => "Not Authorized", otherwise "otherwise=bearer-challenge", challenge_text;
    "wrong-login", Own, "A password that ECR did not make is answered 401"
        => "401", otherwise "status-after=403@ecr:GET/v2/", wrong_login;
    "expired-login", Needs(EXPIRED_LOGIN), "An expired login is answered 403, and not 401"
        => "403 DENIED: Your authorization token has expired. Reauthenticate and try again.",
        otherwise "status-after=401@ecr:GET/v2/", expired_login;
    "other-region", Own, "The login of another region is answered 401"
        => "401", otherwise "status-after=200@ecr:GET/v2/", other_region;
    "login-life", Own, "A login is valid for 12 hours, or for the rest of a role's session"
        => "at most 12 h, more than 1 h", otherwise "token-life=3000", login_life;
    "login-version", Own, "Answers name the version of the registry protocol"
        => "200 registry/2.0", otherwise "html@ecr:GET/v2/", version;
    "wrong-credentials", Own, "Credentials that AWS did not make have an error of their own"
        => "UnrecognizedClientException", otherwise "accept=DescribeRegistry", wrong_credentials;
}

async fn ping(run: &ProbeRun, login: Option<&str>) -> Result<Answer> {
    run.send_as(login, Method::GET, run.url("/v2/")?, &[], b"").await
}

async fn challenge(run: &ProbeRun) -> Seen {
    run.prepared();
    let answer = ping(run, None).await?;
    let challenge = answer.header("www-authenticate").unwrap_or("without a challenge");
    Ok(format!("{} {}", answer.code(), challenge.replace(&run.backend.host, "HOST")))
}

async fn challenge_text(run: &ProbeRun) -> Seen {
    run.prepared();
    let answer = ping(run, None).await?;
    run.note(answer.header("content-type").unwrap_or("no content type"));
    Ok(answer.text().trim().to_owned())
}

async fn wrong_login(run: &ProbeRun) -> Seen {
    run.prepared();
    Ok(ping(run, Some("Basic QVdTOndyb25n")).await?.code())
}

async fn expired_login(run: &ProbeRun) -> Seen {
    run.backend.add_fault("token-life=0*1");
    let made = run.api(|ecr| ecr.get_authorization_token().send()).await?.accepted()?;
    let expired = made["authorizationData"][0]["authorizationToken"].as_str();
    let expired = run.backend.variable(EXPIRED_LOGIN, expired.context("no token")?)?;
    // the embedded ECR compares milliseconds
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    run.prepared();
    let answer = ping(run, Some(&format!("Basic {expired}"))).await?;
    let message = answer.json()["errors"][0]["message"].as_str().unwrap_or_default().to_owned();
    Ok(format!("{}: {message}", answer.code()))
}

async fn other_region(run: &ProbeRun) -> Seen {
    let other = if run.backend.region == "us-west-2" { "us-east-2" } else { "us-west-2" };
    let made = run
        .api_with(
            |config| config.region(Region::from_static(other)),
            |ecr| ecr.get_authorization_token().send(),
        )
        .await?
        .accepted()?;
    let token = made["authorizationData"][0]["authorizationToken"].as_str().context("no token")?;
    run.prepared();
    Ok(ping(run, Some(&format!("Basic {token}"))).await?.code())
}

async fn login_life(run: &ProbeRun) -> Seen {
    run.prepared();
    let made = run.api(|ecr| ecr.get_authorization_token().send()).await?.accepted()?;
    let end = made["authorizationData"][0]["expiresAt"].as_f64().context("no end")?;
    let hours = (end - std::time::UNIX_EPOCH.elapsed()?.as_secs_f64()) / 3600.0;
    run.note(format!("{hours:.1} h"));
    let range = if hours > 12.02 { "more than 12 h" } else { "at most 12 h" };
    Ok(format!("{range}, {}", if hours > 1.0 { "more than 1 h" } else { "at most 1 h" }))
}

async fn version(run: &ProbeRun) -> Seen {
    run.prepared();
    let answer = run.get("").await?;
    let version = answer.header("docker-distribution-api-version").unwrap_or("without a version");
    Ok(format!("{} {version}", answer.code()))
}

async fn wrong_credentials(run: &ProbeRun) -> Seen {
    run.prepared();
    // the key of AWS's documentation
    let wrong = Credentials::new("AKIAIOSFODNN7EXAMPLE", "x", Some("x".to_owned()), None, "probe");
    let call = run.api_with(
        |config| config.credentials_provider(wrong),
        |ecr| ecr.describe_registry().send(),
    );
    Ok(call.await?.outcome())
}
