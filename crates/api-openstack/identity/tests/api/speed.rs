//! What a token costs, printed and not judged: `cargo test --release -p unkai-identity -- --ignored --nocapture costs`.

use std::time::Instant;

use jiff::Timestamp;
use unkai_openstack::Authenticate;

use crate::harness::Harness;

const TIMES: u32 = 2000;

#[tokio::test]
#[ignore = "a measurement"]
async fn costs() {
    let h = Harness::new().await;
    let view = h.cloud.store.view();
    let start = Instant::now();
    for _ in 0..TIMES {
        h.identity.authenticate(&view, &h.admin_token, Timestamp::now()).unwrap();
    }
    println!("authenticate, remembered: {:?}", start.elapsed() / TIMES);
    let start = Instant::now();
    for _ in 0..TIMES {
        assert_eq!(h.validate(&h.admin_token).await.status, 200);
    }
    println!("GET /v3/auth/tokens, remembered, with routing: {:?}", start.elapsed() / TIMES);
    let mut fresh = Vec::new();
    let start = Instant::now();
    for _ in 0..TIMES {
        fresh.push(crate::harness::subject(&h.exchange(&h.admin_token, crate::harness::on_project(&h.admin_project)).await));
    }
    println!("POST /v3/auth/tokens with a token, with routing: {:?}", start.elapsed() / TIMES);
    let start = Instant::now();
    for token in &fresh {
        h.identity.authenticate(&view, token, Timestamp::now()).unwrap();
    }
    println!("authenticate, seen for the first time: {:?}", start.elapsed() / TIMES);
}
