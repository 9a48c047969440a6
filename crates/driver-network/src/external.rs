//! External bridges: the ways out of the cloud, in the data-plane namespace.

use crate::{Driver, Result, spec::ExternalSpec, sys::sysctl};

impl Driver {
    /// Makes the bridge of a physical name, with the host's own addresses on it and the physical device in it.
    pub async fn apply_external(&self, spec: &ExternalSpec) -> Result<()> {
        let index = self.external_bridge(&spec.physical).await?;
        let links = self.0.dataplane.links().await?;
        let message = links.by_index(index).mtu(spec.mtu).alias(&spec.physical).up();
        links.change(message.build(), "set up external bridge").await?;
        links.set_addresses(index, &spec.host_addresses).await?;
        if let Some(device) = &spec.device {
            let message = links.by_name(device).controller(index).up();
            links.change(message.build(), &format!("enslave {device}")).await?;
        }
        Ok(())
    }

    pub async fn remove_external(&self, physical: &str) -> Result<()> {
        let _one = self.0.externals.lock().await;
        let links = self.0.dataplane.links().await?;
        links.delete(&self.0.names.external(physical)).await
    }

    /// The bridge's index; made bare when it is not there yet (whoever needs it may come first).
    pub(crate) async fn external_bridge(&self, physical: &str) -> Result<u32> {
        let _one = self.0.externals.lock().await;
        let links = self.0.dataplane.links().await?;
        let name = self.0.names.external(physical);
        if let Some(bridge) = links.get(&name).await?
            && bridge.up
        {
            return Ok(bridge.index);
        }
        links.add_bridge(&name).await?;
        let bridge = links.must(&name).await?;
        let device = name.clone();
        self.0
            .dataplane
            .run("prepare external bridge", move || {
                // Others' frames pass here; only the host's own are this namespace's business.
                sysctl::set(&format!("ipv6/conf/{device}/accept_ra"), "0", true)
            })
            .await?;
        let message = links.by_index(bridge.index).alias(physical).up();
        links.change(message.build(), "bring up external bridge").await?;
        Ok(bridge.index)
    }
}
