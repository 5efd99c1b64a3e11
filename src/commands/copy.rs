//! `copy`: mirrors one image, without a configuration file.

use super::shared::mirror;
use crate::{
    cli::{CopyArgs, Global},
    engine::{Mode, Options},
    model::Result,
    output::{Screen, json, table},
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
        options: Options { mode: Mode::Mirror, transfers: args.concurrency },
    };
    let (report, _) = mirror(global, screen, request, None).await?;
    screen.print(|out| match args.json {
        true => json::write(out, &report),
        false => table::sync(out, &report, screen.width()),
    })?;
    Ok(report.exit)
}
