//! What a token costs, printed and not judged: `cargo test --release -p unkai-identity -- --ignored --nocapture costs`.

use std::time::Duration;

use jiff::Timestamp;

use crate::harness::Harness;

const TIMES: u32 = 2000;

/// Processor time of this thread, which does everything here; other work on the machine does not count.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel counts processor time");
    let nanos = text.split_whitespace().next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanos.expect("schedstat starts with the time run"))
}

#[tokio::test]
#[ignore = "a measurement"]
async fn costs() {
    let h = Harness::new().await;
    let view = h.cloud.store.view();
    let start = cpu();
    for _ in 0..TIMES {
        assert!(h.is_good(&view, &h.admin_token, Timestamp::now()));
    }
    println!("authenticate, remembered: {:?}", (cpu() - start) / TIMES);
    let start = cpu();
    for _ in 0..TIMES {
        assert_eq!(h.validate(&h.admin_token).await.status, 200);
    }
    println!("GET /v3/auth/tokens, remembered, with routing: {:?}", (cpu() - start) / TIMES);
    let mut fresh = Vec::new();
    let start = cpu();
    for _ in 0..TIMES {
        fresh.push(crate::harness::subject(&h.exchange(&h.admin_token, crate::harness::on_project(&h.admin_project)).await));
    }
    println!("POST /v3/auth/tokens with a token, with routing: {:?}", (cpu() - start) / TIMES);
    let start = cpu();
    for token in &fresh {
        assert!(h.is_good(&view, token, Timestamp::now()));
    }
    println!("authenticate, seen for the first time: {:?}", (cpu() - start) / TIMES);
}
