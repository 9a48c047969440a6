//! Documents and a small cloud for the tests of this crate.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use unkai_model::compute::{Capacity, Flavor, FlavorCopy, Host, HostStatus, Launch, Observed, Phase, Reachability, Server, ServerSpec};
use unkai_model::image::{Content, DiskFormat, Image, ImageSpec, ImageState, Visibility};
use unkai_model::network::{Network, Segment, Subnet, default_pools};
use unkai_model::volume::{AttachState, Attachment, Volume, VolumePhase, VolumeSpec, VolumeStatus, VolumeType};
use unkai_model::{Error, Id, Meta};
use unkai_openstack::Cloud;
use unkai_openstack::testing::{Answer, Client};
use unkai_store::Tx;

use crate::Fault;

/// A server nobody has asked anything of yet.
pub fn server(id: &str, project: &str) -> Server {
    Server {
        meta: Meta::new(id).named("one").owned_by(project),
        spec: ServerSpec::new(
            "u",
            Launch {
                image: Some("i".into()),
                reservation: "r-1".into(),
                ..Launch::new(
                    FlavorCopy { id: "1".into(), name: "m1.tiny".into(), vcpus: 1, ram_mib: 512, disk_gib: 1, ..Default::default() },
                    "one",
                )
            },
        ),
        status: Default::default(),
    }
}

/// A cloud with a flavor, an image, a network, a host, and whatever a test makes in it.
pub struct World {
    pub cloud: Cloud,
    pub member: Client,
    pub admin: Client,
    _dir: tempfile::TempDir,
}

pub const IMAGE: &str = "11111111-1111-4111-8111-111111111111";
pub const NETWORK: &str = "22222222-2222-4222-8222-222222222222";
pub const VOLUME_TYPE: &str = "55555555-5555-4555-8555-555555555555";
pub const HOST: &str = "33333333-3333-4333-8333-333333333333";

impl World {
    pub async fn new() -> World {
        let dir = tempfile::tempdir().expect("a directory for files can be made");
        let cloud = unkai_openstack::testing::cloud(dir.path());
        cloud.store.transact(furnish).await.expect("the world is sound");
        let member = Client::new(&cloud, crate::routes(&cloud), "p/u/member,reader");
        let admin = member.with_token("a/root/admin,member,reader");
        World { cloud, member, admin, _dir: dir }
    }

    /// Calls with a microversion.
    pub async fn at(&self, minor: u16, method: &str, path: &str, body: Value) -> Answer {
        call(&self.member, minor, method, path, body).await
    }

    /// As an administrator.
    pub async fn admin_at(&self, minor: u16, method: &str, path: &str, body: Value) -> Answer {
        call(&self.admin, minor, method, path, body).await
    }

    /// A server on the network; its id.
    pub async fn create(&self, extra: Value) -> String {
        let mut server = json!({"name": "one", "flavorRef": "1", "imageRef": IMAGE, "networks": "auto"});
        merge(&mut server, extra);
        let answer = self.at(52, "POST", "/v2.1/servers", json!({ "server": server })).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.body["server"]["id"].as_str().expect("an id").to_owned()
    }

    /// Plays control and agent: the server is placed, and reaches what is asked in `phase`.
    pub async fn settle(&self, id: &str, phase: Phase) {
        self.change(id, move |server| {
            server.status.host = Some(HOST.into());
            server.status.observed = Observed { generation: server.meta.generation, phase: phase.clone(), ..Default::default() };
            server.status.timeline.launched = Some(server.meta.updated);
        })
        .await;
        self.settle_volumes(id).await;
    }

    /// The same for the volumes of a server that has reached its newest generation.
    async fn settle_volumes(&self, id: &str) {
        let id = Id::<Server>::new(id);
        let body = move |tx: &mut Tx| {
            for attachment in unkai_volume::verbs::attachments(&tx.view(), &id) {
                match attachment.state {
                    AttachState::Attaching => drop(unkai_volume::verbs::settle_off_host(tx, &attachment.meta.id)?),
                    AttachState::Detaching => drop(tx.delete(&attachment.meta.id)?),
                    AttachState::Reserved | AttachState::Attached => {}
                }
            }
            Ok::<_, Error>(())
        };
        self.cloud.store.transact(body).await.expect("attachments settle");
    }

    /// A volume of the project that is whole; its id.
    pub async fn volume(&self, change: impl Fn(&mut Volume) + Send + 'static) -> String {
        let body = move |tx: &mut Tx| {
            let status =
                VolumeStatus { made: true, generation: 1, size_gib: 1, phase: VolumePhase::Ready { size_gib: 1 }, ..Default::default() };
            let meta = Meta::new(tx.new_id()).owned_by("p");
            let mut volume = Volume { meta, spec: VolumeSpec::new("u", VOLUME_TYPE.into(), 1), status };
            change(&mut volume);
            Ok::<_, Error>(tx.insert(volume)?.meta.id.to_string())
        };
        self.cloud.store.transact(body).await.expect("a volume can be made")
    }

    pub fn attachments(&self, server: &str) -> Vec<std::sync::Arc<Attachment>> {
        unkai_volume::verbs::attachments(&self.cloud.store.view(), &Id::new(server))
    }

    pub async fn active(&self) -> String {
        let id = self.create(json!({})).await;
        self.settle(&id, Phase::Running).await;
        id
    }

    pub async fn change(&self, id: &str, change: impl Fn(&mut Server) + Send + 'static) {
        let id: Id<Server> = id.into();
        let done = self.cloud.store.transact(move |tx| {
            tx.update(&id, |server: &mut Server| {
                change(server);
                Ok::<_, Error>(())
            })
            .map(drop)
        });
        done.await.expect("the server is there");
    }

    pub async fn change_flavor(&self, id: &str, change: impl Fn(&mut Flavor) + Send + 'static) {
        let id = Id::<Flavor>::new(id);
        let body = move |tx: &mut Tx| {
            tx.update(&id, |flavor: &mut Flavor| {
                change(flavor);
                Ok::<_, Fault>(())
            })
        };
        self.cloud.store.transact(body).await.expect("a flavor can be changed");
    }

    pub fn document(&self, id: &str) -> std::sync::Arc<Server> {
        self.cloud.store.view().get(&id.into()).expect("the server is there")
    }

    pub async fn show(&self, id: &str) -> Value {
        self.at(96, "GET", &format!("/v2.1/servers/{id}"), Value::Null).await.body["server"].clone()
    }

    /// Asks for an action at the newest version.
    pub async fn act(&self, id: &str, body: Value) -> Answer {
        self.at(96, "POST", &format!("/v2.1/servers/{id}/action"), body).await
    }
}

pub async fn call(client: &Client, minor: u16, method: &str, path: &str, body: Value) -> Answer {
    let version = format!("compute 2.{minor}");
    let headers = [("openstack-api-version", version.as_str()), ("content-type", "application/json")];
    let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body).expect("JSON encodes") };
    client.send(method, path, &headers, bytes).await
}

fn merge(into: &mut Value, extra: Value) {
    if let (Some(into), Value::Object(extra)) = (into.as_object_mut(), extra) {
        into.extend(extra);
    }
}

fn furnish(tx: &mut Tx) -> Result<(), Fault> {
    for (id, vcpus, ram, disk) in [("1", 1, 512, 1), ("2", 2, 1024, 10), ("9", 64, 1 << 20, 10), ("0", 1, 64, 0)] {
        tx.insert(Flavor::new(id, format!("m{id}"), vcpus, ram, disk))?;
    }
    let spec = ImageSpec { visibility: Visibility::Public, disk_format: Some(DiskFormat::Qcow2), ..Default::default() };
    let mut image = Image::new(Meta::new(IMAGE).named("cirros").owned_by("a"), spec);
    let attempt = image.begin(ImageState::Saving)?;
    let content = Content { file: "f".into(), size: 1 << 20, virtual_size: Some(100 << 20), md5: "m".into(), sha512: "s".into() };
    image.complete(attempt, content)?;
    tx.insert(image)?;
    tx.insert(Host {
        capacity: BTreeMap::from([
            ("VCPU".to_owned(), Capacity { total: 8, reserved: 0, ratio: 4.0 }),
            ("MEMORY_MB".to_owned(), Capacity { total: 16_384, reserved: 0, ratio: 1.0 }),
            ("DISK_GB".to_owned(), Capacity { total: 100, reserved: 0, ratio: 1.0 }),
        ]),
        status: HostStatus { reachability: Reachability::Up, ..Default::default() },
        ..Host::new(Meta::new(HOST).named("host-1"), 1)
    })?;
    let (access, extra_specs) = Default::default();
    let meta = Meta::new(VOLUME_TYPE).named("standard");
    tx.insert(VolumeType { meta, description: None, public: true, access, extra_specs, encryption: None, encryption_id: None })?;
    network(tx, NETWORK, "p", "private", "10.1.0.0/16")
}

/// A network with one subnet.
pub fn network(tx: &mut Tx, id: &str, project: &str, name: &str, cidr: &str) -> Result<(), Fault> {
    let cidr: ipnet::IpNet = cidr.parse().map_err(|_| Fault::bad_request(cidr))?;
    tx.insert(Network {
        meta: Meta::new(id).named(name).owned_by(project),
        standard: Default::default(),
        admin_up: true,
        mtu: 1450,
        segment: Segment::Vxlan { vni: u32::from_be_bytes(tx.random()) & 0xff_ffff },
        external: false,
        is_default: false,
        port_security: true,
        dns_domain: String::new(),
        availability_zone_hints: Vec::new(),
    })?;
    let meta = Meta::new(tx.new_id()).named(name).owned_by(project);
    tx.insert(Subnet {
        meta,
        standard: Default::default(),
        network: id.into(),
        cidr,
        gateway: None,
        pools: default_pools(&cidr, None),
        enable_dhcp: false,
        dns_nameservers: Vec::new(),
        host_routes: Vec::new(),
        ipv6_ra_mode: None,
        ipv6_address_mode: None,
        subnet_pool: None,
        service_types: Vec::new(),
    })?;
    Ok(())
}
