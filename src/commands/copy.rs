//! `copy`: mirrors one image. Reads a configuration file only if the user names one.

use super::shared::{mirror, print_report, read_config};
use crate::{
    cli::{CopyArgs, Global},
    config::Aws,
    engine::Options,
    model::Result,
    output::Screen,
    run::{
        copy::CopyRequest,
        sync::{ImagesToSync, SyncRequest},
    },
};

pub(crate) async fn run(global: &Global, screen: &Screen, args: CopyArgs) -> Result<u8> {
    let file = (!global.config.is_empty()).then(|| read_config(global)).transpose()?;
    let filter = args.filter()?;
    let CopyArgs { profile, region, role_arn, .. } = args;
    let aws = Aws { profile, region, role_arn, ..Aws::default() };
    let copy = CopyRequest::new(&args.source, &args.destination, filter, file, aws).await?;
    let request = SyncRequest {
        config: &copy.config,
        images: ImagesToSync::Images(vec![copy.image]),
        options: Options { transfers: args.concurrency, ..Options::default() },
    };
    let (report, _) = mirror(global, screen, request, None).await?;
    print_report(global, screen, &report, args.json)?;
    Ok(report.exit)
}
