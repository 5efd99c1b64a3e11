//! `pull-through warm`: pulls the selected images through the cache once.

use crate::{
    cli::{Global, pull_through::WarmArgs},
    commands::shared::{mirror, print_report, read_expanded_config},
    engine::Options,
    model::Result,
    output::Screen,
    run::{
        pull_through::sites::check_names,
        sync::{ImagesToSync, SyncRequest},
        warm::cached_entries,
    },
};

pub(crate) async fn run(global: &Global, screen: &Screen, args: WarmArgs) -> Result<u8> {
    let mut config = read_expanded_config(global).await?;
    for destination in &mut config.destinations {
        // it is for the identity that mirrors
        destination.account.pull_time_exclusion = None;
    }
    let destinations = &args.destinations.names;
    check_names(&config, destinations)?;
    let entries = cached_entries(&config, &args.only, destinations)?;
    let request = SyncRequest {
        config: &config,
        images: ImagesToSync::Entries(entries.iter().collect()),
        // warming transfers no blob
        options: Options { transfers: 1, ..Options::default() },
    };
    let (report, _) = mirror(global, screen, request, None).await?;
    print_report(global, screen, &report, args.json)?;
    Ok(report.exit)
}
