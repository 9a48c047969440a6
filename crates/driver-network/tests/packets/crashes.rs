//! Killed between any two steps, given up on in the middle, everything at once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use unkai_driver_network::*;

use crate::{
    routers::{address, interface, outside, router},
    traffic::*,
    world::{EVERYTHING, Owner, World, group_spec, network_spec, world},
};

/// Everything a small tenant has, in the order an agent would apply it.
async fn apply_all(driver: &Driver, plan: &Plan) -> Result<()> {
    driver.apply_external(&plan.external).await?;
    driver.apply_group(&plan.group).await?;
    driver.apply_network(&plan.network).await?;
    for port in &plan.ports {
        match driver.apply_port(port).await {
            Err(Error::NoPort(_)) => drop(driver.open_port(port).await?),
            other => other?,
        }
    }
    driver.apply_router(&plan.router).await
}

struct Plan {
    external: ExternalSpec,
    group: GroupSpec,
    network: NetworkSpec,
    ports: Vec<PortSpec>,
    router: RouterSpec,
}

/// A process that is killed after `lifetime`: a runtime whose tasks stop wherever they are.
fn short_life(config: &Config, plan: &Arc<Plan>, metadata: &Arc<crate::world::Metadata>, lifetime: Duration) -> bool {
    let (config, plan, metadata) = (config.clone(), plan.clone(), metadata.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let done = runtime.block_on(async move {
            tokio::time::timeout(lifetime, async {
                let driver = Driver::open(config, Arc::new(Owner(metadata))).await.unwrap();
                apply_all(&driver, &plan).await.unwrap();
            })
            .await
            .is_ok()
        });
        runtime.shutdown_timeout(Duration::from_secs(5));
        done
    })
    .join()
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_time() {
    let mut world = world!();
    let network = network_spec(1, "10.0.1");
    let open = group_spec(1, &EVERYTHING);
    let mut spec = router(1, vec![interface(&network, 1, &["10.0.1.1/24"])]);
    spec.floating_ips.push(FloatingIp { floating: "203.0.113.50".parse().unwrap(), fixed: "10.0.1.5".parse().unwrap() });
    // Guests are made by a first driver only to have their namespaces and specs.
    world.driver.apply_network(&network).await.unwrap();
    world.driver.apply_group(&open).await.unwrap();
    let a = world.guest(&network, 5, &[&open]).await;
    let b = world.guest(&network, 6, &[&open]).await;
    outside(&world).await;
    serve_tcp(&a.netns, 22);
    let plan = Arc::new(Plan {
        external: ExternalSpec { physical: "ext".into(), device: None, host_addresses: vec!["203.0.113.1/24".parse().unwrap()], mtu: 1500 },
        group: open,
        network: network.clone(),
        ports: vec![a.spec.clone(), b.spec.clone()],
        router: spec,
    });
    let mut lifetime = Duration::from_millis(2);
    loop {
        world.driver.remove_router(&plan.router.id).await.unwrap();
        world.driver.remove_network(&plan.network.id).await.unwrap();
        world.driver.remove_external("ext").await.unwrap();
        let done = short_life(&world.config, &plan, &world.metadata, lifetime);
        world.reopen().await;
        apply_all(&world.driver, &plan).await.unwrap();
        for guest in [&a, &b] {
            guest.configure(&network);
        }
        ping_passes(&b.netns, a.v4());
        tcp_passes(&world.dataplane(), (address("203.0.113.50"), 22));
        assert_eq!(world.driver.inventory().await.unwrap().networks[0].ports.len(), 2);
        if done {
            break;
        }
        lifetime += Duration::from_millis(9);
    }
    eprintln!("a whole life took {lifetime:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn given_up_on_is_done_all_the_same() {
    let world = world!();
    let open = world.group(1, &EVERYTHING).await;
    let network = network_spec(1, "10.0.1");
    let impatient = Duration::from_millis(1);
    assert!(tokio::time::timeout(impatient, world.driver.apply_network(&network)).await.is_err());
    let guest = world.guest(&network, 5, &[&open]).await;
    let mut shut = guest.spec.clone();
    shut.security_groups.clear();
    assert!(tokio::time::timeout(impatient, world.driver.apply_port(&shut)).await.is_err());
    let other = world.guest(&network, 6, &[&open]).await;
    ping_blocked(&other.netns, guest.v4());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once() {
    let world = world!();
    outside(&world).await;
    let open = world.group(1, &EVERYTHING).await;
    let begin = Instant::now();
    let count = 20;
    let tasks: Vec<_> = (1..=count)
        .map(|n| {
            let (driver, group) = (world.driver.clone(), open.id.clone());
            tokio::spawn(async move {
                let network = network_spec(n, "172.16.0");
                driver.apply_network(&network).await?;
                let mut taps = Vec::new();
                for host in [5, 6] {
                    let port: PortSpec = serde_json::from_value(serde_json::json!({
                        "id": crate::world::id(n * 1000 + host), "network_id": network.id,
                        "mac": crate::world::mac(n * 256 + host), "security_groups": [group],
                        "fixed_ips": [{"subnet_id": "four", "address": format!("172.16.0.{host}")}],
                    }))
                    .unwrap();
                    taps.push(driver.open_port(&port).await?);
                }
                let router = router(n, vec![interface(&network, n, &["172.16.0.1/24"])]);
                driver.apply_router(&router).await?;
                Ok::<_, Error>(taps)
            })
        })
        .collect();
    let mut taps = Vec::new();
    for task in tasks {
        taps.push(task.await.unwrap().unwrap());
    }
    eprintln!("{count} networks with 2 ports and a router each in {:?}", begin.elapsed());
    let found = world.driver.inventory().await.unwrap();
    assert_eq!((found.networks.len(), found.routers.len()), (count as usize, count as usize));
    assert!(found.networks.iter().all(|n| n.ports.len() == 2));
    let begin = Instant::now();
    world.driver.remove_all().await.unwrap();
    eprintln!("removed in {:?}", begin.elapsed());
    drop(taps);
    drop::<World>(world);
}
