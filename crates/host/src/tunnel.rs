//! Streams that the controller asks for: consoles, logs, diagnostics. The agent dials each one outward.

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use unkai_driver_qemu::RunState;
use unkai_link::client::Link;
use unkai_model::Error;
use uuid::Uuid;

use crate::server::Servers;

/// The same words as the dialects' targets.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Target {
    Vnc { server: Uuid },
    Serial { server: Uuid },
    ConsoleLog { server: Uuid, lines: Option<u64> },
    Diagnostics { server: Uuid },
}

/// Dials the tunnel and joins it to its target. A target that cannot be reached ends the stream at once.
pub async fn serve(servers: Servers, link: Link, id: String, target: serde_json::Value) {
    if let Err(error) = join(&servers, &link, &id, target).await {
        tracing::debug!(%error, "a tunnel ended");
    }
}

async fn join(servers: &Servers, link: &Link, id: &str, target: serde_json::Value) -> Result<(), Error> {
    let target: Target = serde_json::from_value(target).map_err(|e| Error::caused("reading a tunnel's target", e))?;
    let mut stream = link.tunnel(id).await?;
    match target {
        Target::Vnc { server } => {
            let vnc =
                vm(servers, server).await?.open_vnc().await.map_err(|e| Error::caused(format!("opening the console of {server}"), e))?;
            pipe(stream, vnc).await
        }
        Target::Serial { server } => {
            let path = vm(servers, server).await?.serial_socket();
            let serial = UnixStream::connect(&path).await.map_err(|e| Error::caused(format!("connecting to `{}`", path.display()), e))?;
            pipe(stream, serial).await
        }
        Target::ConsoleLog { server, lines } => {
            let log = servers.qemu.console(server, lines.map(|n| n as usize)).await;
            write(&mut stream, &log.map_err(|e| Error::caused(format!("reading the console log of {server}"), e))?).await
        }
        Target::Diagnostics { server } => write(&mut stream, diagnostics(servers, server).await?.to_string().as_bytes()).await,
    }
}

async fn vm(servers: &Servers, server: Uuid) -> Result<unkai_driver_qemu::Vm, Error> {
    servers.qemu.vm(server).await.ok_or_else(|| Error::conflict(format!("server {server} does not run")))
}

async fn pipe(mut near: impl AsyncRead + AsyncWrite + Unpin, mut far: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Error> {
    tokio::io::copy_bidirectional(&mut near, &mut far).await.map(drop).map_err(|e| Error::caused("carrying a console", e))
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Error> {
    let written = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await
    };
    written.await.map_err(|e| Error::caused("answering a tunnel", e))
}

/// In the form of Nova's server diagnostics, microversion 2.48.
async fn diagnostics(servers: &Servers, server: Uuid) -> Result<serde_json::Value, Error> {
    let vm = vm(servers, server).await?;
    let (spec, found) = (vm.spec(), vm.diagnostics().await.map_err(|e| Error::caused(format!("reading the state of {server}"), e))?);
    let mut nics = Vec::new();
    for nic in &found.nics {
        let network = servers.desired.port(&nic.port).map(|port| port.network_id).unwrap_or_default();
        let counters = servers.network.port_counters(&network, &nic.port).await.unwrap_or_default();
        nics.push(serde_json::json!({
            "mac_address": nic.mac,
            "rx_octets": counters.rx_bytes, "rx_packets": counters.rx_packets, "rx_drop": counters.rx_dropped,
            "rx_errors": null, "rx_rate": null,
            "tx_octets": counters.tx_bytes, "tx_packets": counters.tx_packets, "tx_drop": counters.tx_dropped,
            "tx_errors": null, "tx_rate": null,
        }));
    }
    let disks: Vec<_> = found
        .disks
        .iter()
        .map(|disk| {
            serde_json::json!({
                "read_bytes": disk.read_bytes, "read_requests": disk.read_requests,
                "write_bytes": disk.write_bytes, "write_requests": disk.write_requests, "errors_count": -1,
            })
        })
        .collect();
    let cpus: Vec<_> = found
        .vcpus
        .iter()
        .map(|cpu| serde_json::json!({"id": cpu.index, "time": cpu.time.as_nanos() as u64, "utilisation": null}))
        .collect();
    Ok(serde_json::json!({
        "state": if found.state == RunState::Paused { "paused" } else { "running" },
        "driver": "libvirt", "hypervisor": "qemu", "hypervisor_os": "linux",
        "uptime": found.uptime.as_secs(), "config_drive": spec.config_drive.is_some(),
        "num_cpus": cpus.len(), "num_nics": nics.len(), "num_disks": disks.len(),
        "memory_details": {"maximum": spec.memory_mib, "used": spec.memory_mib},
        "cpu_details": cpus, "nic_details": nics, "disk_details": disks,
    }))
}
