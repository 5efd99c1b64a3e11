//! A standing sandbox, for clients that know only loopback.

use super::*;

#[tokio::test]
async fn another_client_logs_in_pushes_and_pulls_by_the_loopback_address() {
    let mut world = World::start(Options { mode: Mode::Standing, ..Options::default() }).await;
    let address = world.sandbox.ecr_address();
    world.ecr = sdk(&world.sandbox, "us-east-1");
    world.log_in().await;
    let data = world.ecr.get_authorization_token().send().await.unwrap();
    let endpoint = data.authorization_data()[0].proxy_endpoint().unwrap().to_owned();
    assert_eq!(endpoint, format!("http://{address}"));
    world.create("there").await;

    let send = |method: Method, url: String, body: Vec<u8>| {
        let request = world.http.request(method, url).header("authorization", &world.login);
        world.send(request.header("content-type", IMAGE).body(body))
    };
    let mut digests = Vec::new();
    for blob in [b"config".to_vec(), b"layer".to_vec()] {
        let start =
            send(Method::POST, format!("{endpoint}/v2/there/blobs/uploads/"), Vec::new()).await;
        let location = start.header("location").unwrap();
        assert!(location.starts_with(&endpoint), "{location}");
        let digest = Digest::of(&blob);
        let put = send(Method::PUT, format!("{location}?digest={digest}"), blob).await;
        assert_eq!(put.status, 201);
        digests.push(digest);
    }
    let manifest = image(&digests[0], &digests[1], 5).to_string().into_bytes();
    let put = send(Method::PUT, format!("{endpoint}/v2/there/manifests/1"), manifest).await;
    assert_eq!(put.status, 201);
    let blob = format!("{endpoint}/v2/there/blobs/{}", digests[1]);
    let redirect = send(Method::GET, blob, Vec::new()).await;
    let url = redirect.header("location").unwrap().to_owned();
    // another host for a client, so that it does not forward credentials
    assert!(url.starts_with(&format!("http://localhost:{}/s3/", address.port())), "{url}");
    let url = url.replace("localhost", "127.0.0.1");
    let layer = world.send(world.http.get(&url)).await;
    assert_eq!((layer.status.as_u16(), layer.text().as_str()), (200, "layer"));
    assert_eq!(send(Method::GET, url, Vec::new()).await.status, 400);
}

#[tokio::test]
async fn oci_client_pushes_in_parts_and_reads_back_what_it_pushed() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use oci_client::{Client, Reference, client, config::ConfigFile, secrets::RegistryAuth};

    let mut world = World::start(Options { mode: Mode::Standing, ..Options::default() }).await;
    world.ecr = sdk(&world.sandbox, "us-east-1");
    world.log_in().await;
    world.create("there").await;
    let pair = STANDARD.decode(world.login.strip_prefix("Basic ").unwrap()).unwrap();
    let password = String::from_utf8(pair).unwrap().strip_prefix("AWS:").unwrap().to_owned();
    let auth = RegistryAuth::Basic("AWS".to_owned(), password);
    let config =
        client::ClientConfig { protocol: client::ClientProtocol::Http, ..Default::default() };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::new(config);
    let image: Reference = format!("{}/there:1", world.sandbox.ecr_address()).parse().unwrap();
    // two full parts and a shorter one
    let content: Vec<u8> = (0..9 << 20).map(|n: u32| (n % 251) as u8).collect();
    let layers = [client::ImageLayer::oci_v1_gzip(content.clone(), None)];
    let config = client::Config::oci_v1_from_config_file(ConfigFile::default(), None).unwrap();
    client.push(&image, &layers, config, &auth, None).await.unwrap();

    let pulled = client.pull(&image, &auth, vec![LAYER]).await.unwrap();
    assert!(pulled.layers[0].data == content, "{} bytes", pulled.layers[0].data.len());
}
