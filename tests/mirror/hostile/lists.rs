//! Tests tag lists that never end, or that continue at another host.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{
    BUFFERS, MEBI,
    host::{Host, RecordedRequest, endless, reply, with},
    select, valid_image,
};

#[tokio::test(flavor = "multi_thread")]
async fn endless_tag_lists_are_refused() {
    let pages = AtomicU64::new(0);
    let host = Host::serve(|_| {
        move |_: &RecordedRequest| {
            let page = pages.fetch_add(1, Relaxed);
            let link = format!("</v2/x/y/tags/list?n=1000&last={page}>; rel=\"next\"");
            with(reply(200, format!("{{\"tags\":[\"1.0.{page}\"]}}")), "link", &link)
        }
    })
    .await;
    select(&host, &[]).await.assert_failed("has more than 2000 pages of tags");
    assert_eq!(host.requests().len(), 2_000);

    // a tag needs four bytes of a page, and much more memory
    let page = format!("{{\"tags\":[{}]}}", vec!["\"a\""; 7 << 20].join(","));
    let host = Host::serve(|_| move |_: &RecordedRequest| reply(200, page.clone())).await;
    let ran = select(&host, &[]).await;
    ran.assert_failed_within(192 << 10, "it has more than 1000000 tags");

    let host = Host::serve(|_| |_: &RecordedRequest| reply(200, endless("{\"tags\":[\""))).await;
    let ran = select(&host, &[]).await;
    ran.assert_failed_within(128 << 10, "the response has more than 33554432 B");
    assert!(host.sent() < 32 * MEBI + BUFFERS, "{} B", host.sent());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_page_on_another_host_fails_and_is_not_requested() {
    let elsewhere =
        Host::serve(|_| |_: &RecordedRequest| reply(200, r#"{"tags":["2.0.0"]}"#)).await;
    let link = format!("<http://{}/v2/x/y/tags/list?n=1000>; rel=next", elsewhere.address);
    let content = valid_image();
    let host = Host::serve(|_| {
        move |request: &RecordedRequest| match request.line.contains("/tags/list") {
            true => with(reply(200, r#"{"tags":["1"]}"#), "link", &link),
            false => content.answer(request),
        }
    })
    .await;
    let ran = select(&host, &[]).await;
    ran.assert_failed(&format!("the next page is on another host, `{}`", elsewhere.address));
    assert!(ran.row()["hint"].as_str().unwrap().contains("`Link`"));
    assert_eq!(elsewhere.requests().len(), 0);
}
