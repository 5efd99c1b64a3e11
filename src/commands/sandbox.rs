//! `sandbox`: serves the embedded registries for other clients, until interrupted.

use std::{io, net::SocketAddr};

use futures::StreamExt;

use crate::{
    cli::SandboxArgs,
    engine::signals,
    model::{Error, Kind, Result},
    output::{Screen, error},
    sandbox::{Mode, Options, RecordRequests, Sandbox},
};

/// Serves until a signal. Prints the clients' environment as lines for a shell.
pub(crate) async fn run(screen: &Screen, args: SandboxArgs) -> Result<u8> {
    let failed = |cause: io::Error| {
        Error::new(Kind::Unavailable, "cannot serve the sandbox")
            .because(cause)
            .hint("use another address (`--listen`) or another DIR")
    };
    if let Some(address) = args.listen.filter(|address| !address.ip().is_loopback()) {
        check_remote(screen, address, args.allow_remote)?;
    }
    // before the environment is printed, so that no signal is lost
    let mut signals = signals().map_err(failed)?;
    let mode = if args.plain { Mode::Plain } else { Mode::Standing };
    let options = Options {
        mode,
        directory: args.directory,
        listen: args.listen,
        latency: args.latency,
        blob_mounting: args.blob_mounting,
        rates: args.rates,
        faults: args.faults,
        like: args.like,
        record: RecordRequests::Log,
    };
    let sandbox = Sandbox::start(options).await.map_err(failed)?;
    let environment = match mode {
        Mode::Plain => plain_environment(sandbox.address()),
        _ => cloud_environment(sandbox.address(), sandbox.ecr_address()),
    };
    screen.print(|out| out.write_all(environment.as_bytes()))?;
    signals.next().await;
    sandbox.stop().await;
    Ok(0)
}

/// Refuses an address that other machines can reach, or warns of it if `allowed`.
fn check_remote(screen: &Screen, address: SocketAddr, allowed: bool) -> Result<()> {
    let problem = format!("other machines can reach `{address}`, and the sandbox checks no login");
    if allowed {
        error::warn(screen, &problem);
        return Ok(());
    }
    Err(Error::new(Kind::Configuration, problem)
        .hint("listen on 127.0.0.1, or give `--allow-remote`"))
}

fn plain_environment(registry: SocketAddr) -> String {
    format!(
        "# an empty registry, without TLS and login; for example\n\
         #   skopeo copy --dest-tls-verify=false SOURCE docker://{registry}/nginx:1.27\n\
         export SANDBOX_REGISTRY={registry}\n"
    )
}

fn cloud_environment(upstream: SocketAddr, ecr: SocketAddr) -> String {
    format!(
        "# upstream registries, without TLS; for example\n\
         #   skopeo inspect --tls-verify=false docker://{upstream}/docker.io/library/nginx:1.27\n\
         export SANDBOX_UPSTREAM={upstream}\n\
         # ECR of account 123456789012 in us-east-1, without TLS; for example\n\
         #   aws ecr create-repository --repository-name nginx\n\
         #   aws ecr get-login-password | skopeo login --tls-verify=false -u AWS --password-stdin {ecr}\n\
         #   skopeo inspect --tls-verify=false docker://{ecr}/nginx:1.27\n\
         export SANDBOX_ECR={ecr}\n\
         export AWS_ENDPOINT_URL_ECR=http://{ecr}\n\
         export AWS_ENDPOINT_URL_STS=http://{ecr}\n\
         export AWS_ENDPOINT_URL_SECRETS_MANAGER=http://{ecr}\n\
         export AWS_REGION=us-east-1\n\
         export AWS_DEFAULT_REGION=us-east-1\n\
         export AWS_ACCESS_KEY_ID=sandbox\n\
         export AWS_SECRET_ACCESS_KEY=sandbox\n\
         unset AWS_SESSION_TOKEN AWS_PROFILE\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_environment_is_a_shell_script_with_both_addresses() {
        let (upstream, ecr) = (([127, 0, 0, 1], 4000).into(), ([127, 0, 0, 1], 4001).into());
        let script = cloud_environment(upstream, ecr) + &plain_environment(upstream);
        let shell = std::process::Command::new("sh")
            .arg("-euc")
            .arg(format!(
                "{script}\necho $SANDBOX_UPSTREAM $SANDBOX_REGISTRY $SANDBOX_ECR $AWS_ENDPOINT_URL_ECR \
                 $AWS_REGION $AWS_DEFAULT_REGION"
            ))
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&shell.stdout),
            "127.0.0.1:4000 127.0.0.1:4000 127.0.0.1:4001 http://127.0.0.1:4001 us-east-1 us-east-1\n"
        );
        assert!(shell.stderr.is_empty());
    }
}
