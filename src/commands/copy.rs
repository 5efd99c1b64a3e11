//! `copy`: mirrors one image, without a configuration file.

use super::shared::{mirror, print_report};
use crate::{
    cli::{CopyArgs, Global},
    engine::{Check, Mode, Options},
    model::Result,
    output::Screen,
    run::{
        copy::CopyRequest,
        sync::{ImagesToSync, SyncRequest},
    },
};

pub(crate) async fn run(global: &Global, screen: &Screen, args: CopyArgs) -> Result<u8> {
    let copy = CopyRequest::new(&args.source, &args.destination, args.filter()?).await?;
    let request = SyncRequest {
        config: &copy.config,
        images: ImagesToSync::Images(vec![copy.image]),
        options: Options { mode: Mode::Mirror, check: Check::Tags, transfers: args.concurrency },
    };
    let (report, _) = mirror(global, screen, request, None).await?;
    print_report(screen, &report, args.json)?;
    Ok(report.exit)
}
