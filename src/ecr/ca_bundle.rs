//! The CA certificates that AWS's tools are told to trust: `AWS_CA_BUNDLE`, else `ca_bundle` of the
//! profile. They are trusted in addition to the system's.
//!
//! Source: AWS SDKs and Tools reference guide, "General configuration settings", `ca_bundle`.

use aws_config::profile;
use aws_types::os_shim_internal::{Env, Fs};

use crate::{
    model::{Error, Kind, Result},
    registry::Certificate,
};

/// The certificates for this profile; `None` uses the selected profile.
///
/// # Errors
/// [`Kind::Configuration`] if the bundle cannot be read or contains no valid certificate.
pub async fn ca_bundle(profile: Option<&str>) -> Result<Option<Certificate>> {
    find(&Env::real(), &Fs::real(), profile).await
}

async fn find(env: &Env, fs: &Fs, profile: Option<&str>) -> Result<Option<Certificate>> {
    let variable = env.get("AWS_CA_BUNDLE").ok().filter(|path| !path.is_empty());
    let (path, setting) = match variable {
        Some(path) => (path, "`AWS_CA_BUNDLE`"),
        None => {
            let selected = profile.map(|profile| profile.to_owned().into());
            // a broken file is the error of the credentials
            let Ok(profiles) = profile::load(fs, env, &Default::default(), selected).await else {
                return Ok(None);
            };
            let Some(path) = profiles.get("ca_bundle").filter(|path| !path.is_empty()) else {
                return Ok(None);
            };
            (path.to_owned(), "`ca_bundle` of the AWS configuration")
        }
    };
    let refused = |problem: String| {
        Error::new(Kind::Configuration, problem)
            .hint(format!("name a PEM file in {setting}, or remove this setting"))
    };
    let pem = fs.read_to_end(&path).await.map_err(|error| {
        refused(format!("{setting} names `{path}`, which cannot be read")).because(error)
    })?;
    Certificate::from_pem(&pem).map(Some).map_err(|error| {
        refused(format!("{setting} names `{path}`, which contains no valid certificate"))
            .because(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outcome with these variables, files and this profile.
    async fn found(
        variables: &[(&str, &str)],
        files: &[(&str, &[u8])],
        profile: Option<&str>,
    ) -> Result<bool> {
        let mut variables = variables.to_vec();
        variables.push(("AWS_CONFIG_FILE", "/config"));
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.to_vec()));
        let fs = Fs::from_raw_map(files.map(|(name, text)| (name.into(), text)).collect());
        find(&Env::from_slice(&variables), &fs, profile).await.map(|found| found.is_some())
    }

    #[tokio::test]
    async fn the_variable_precedes_the_profile_and_a_missing_bundle_is_an_error() {
        let ca = ("/ca.pem", &include_bytes!("../registry/tests/tls/ca.pem")[..]);
        let config = b"[default]\nca_bundle = /missing.pem\n[profile good]\nca_bundle = /ca.pem\n";
        let config = ("/config", &config[..]);
        let variable = |path| [("AWS_CA_BUNDLE", path)];
        for (variables, files, profile, expected) in [
            (&[][..], &[ca][..], None, Ok(false)),
            (&variable("/ca.pem"), &[ca], None, Ok(true)),
            (&variable("/ca.pem"), &[ca, config], None, Ok(true)),
            (&variable(""), &[ca, config], Some("good"), Ok(true)),
            (&[], &[ca, config], Some("good"), Ok(true)),
            (&[], &[ca, config], Some("other"), Ok(false)),
            (&[("AWS_PROFILE", "good")], &[ca, config], None, Ok(true)),
            (&[], &[ca, config], None, Err(())),
            (&variable("/missing.pem"), &[ca, config], Some("good"), Err(())),
            (&variable("/config"), &[ca, config], None, Err(())),
        ] {
            let found = found(variables, files, profile).await;
            if let Err(error) = &found {
                assert_eq!(error.kind(), Kind::Configuration);
                assert!(error.to_string().contains("names `/"), "{error}");
            }
            assert_eq!(found.map_err(drop), expected, "{variables:?} {profile:?}");
        }
    }
}
