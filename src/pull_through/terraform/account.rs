//! Writes the settings of the registry's account.
//!
//! No import: Terraform's creation of a setting writes the existing one, too. An exclusion that exists
//! is the exception, and is not read here: a comment has the command.

use super::{hcl::HclDocument, resources::Writer};
use crate::model::ecr_settings::{AccountSettings, ScanKind, Scanning};

const SETTING: &str = "aws_ecr_account_setting";
const EXCLUSION: &str = "aws_ecr_pull_time_update_exclusion";
const SCANNING: &str = "aws_ecr_registry_scanning_configuration";

impl Writer<'_> {
    pub(super) fn account(&mut self, account: &AccountSettings) {
        if let Some(is_on) = account.blob_mounting {
            let label = self.label(SETTING, "blob-mounting");
            self.resource(SETTING, &label, |block| {
                block.set("name", "BLOB_MOUNTING");
                block.set("value", if is_on { "ENABLED" } else { "DISABLED" });
            });
        }
        if account.pull_time_exclusion == Some(true) {
            self.pull_time_exclusion();
        }
        if let Some(scanning) = &account.scanning {
            let label = self.label(SCANNING, "registry");
            self.resource(SCANNING, &label, |block| write_scanning(block, scanning));
        }
    }

    /// The excluded principal is the one that mirrors: only a configured role is known here.
    fn pull_time_exclusion(&mut self) {
        let label = self.label(EXCLUSION, "mirror");
        match &self.part.identity.role_arn {
            Some(role) => {
                let role = role.clone();
                self.resource(EXCLUSION, &label, |block| {
                    block.comment(&format!(
                        "If `ecr-mirror sync` has set it: terraform import {EXCLUSION}.{label} {role}"
                    ));
                    block.set("principal_arn", &role);
                });
            }
            None => {
                self.document.gap();
                self.document.comment(&format!(
                    "`pull_time_exclusion` is not exported: it is for the role that mirrors, which \
                     is not\nin the configuration. Set the `role_arn` of the destination, or add \
                     {EXCLUSION}."
                ));
            }
        }
    }
}

fn write_scanning(block: &mut HclDocument, scanning: &Scanning) {
    block.set(
        "scan_type",
        match scanning.kind {
            ScanKind::Basic => "BASIC",
            ScanKind::Enhanced => "ENHANCED",
        },
    );
    for (frequency, wildcards) in
        [("CONTINUOUS_SCAN", &scanning.continuous), ("SCAN_ON_PUSH", &scanning.on_push)]
    {
        if wildcards.is_empty() {
            continue;
        }
        block.section("rule", |block| {
            block.set("scan_frequency", frequency);
            for wildcard in wildcards {
                block.section("repository_filter", |block| {
                    block.set("filter", wildcard);
                    block.set("filter_type", "WILDCARD");
                });
            }
        });
    }
}
