"""First content of the embedded services. Running it again adds what is missing and changes nothing else."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cellcloud import errors
from cellcloud.db import identity as db
from cellcloud.db import identity_assignments as roles_db
from cellcloud.db import identity_passwords as passwords_db
from cellcloud.db import identity_tokens as tokens_db
from cellcloud.db import volume_types
from cellcloud.db.engine import Database, retried
from cellcloud.db.listing import Page
from cellcloud.embedded.identity import (
    DOMAIN_ID,
    DOMAIN_NAME,
    IMPLIED,
    ROLES,
    SERVICE_PROJECT,
    SERVICE_USER,
)
from cellcloud.embedded.identity_catalog import register_embedded
from cellcloud.embedded.identity_collections import new_id
from cellcloud.embedded.identity_passwords import hash_password
from cellcloud.embedded.image_files import chunks
from cellcloud.embedded.images import EmbeddedImages
from cellcloud.embedded.networks import EmbeddedNetworks
from cellcloud.embedded.viewer import Viewer
from cellcloud.embedded.volume.service import DEFAULT_TYPE
from cellcloud.model.block_storage import VolumeType
from cellcloud.model.identity import DOMAIN, SYSTEM, WHOLE_SYSTEM, Domain, Grant, IdentityRole, Project, User
from cellcloud.model.image import Image
from cellcloud.model.network import Network, Subnet

PROJECTS = ("admin", "demo", SERVICE_PROJECT)
EXTERNAL_NETWORK, EXTERNAL_SUBNET = "public", "public-subnet"
NETWORK, SUBNET, CIDR = "private", "private-subnet", "10.100.0.0/16"
_GRANTS = (
    ("admin", "admin", "admin"),
    ("admin", "demo", "admin"),
    ("demo", "demo", "member"),
    ("demo", "demo", "reader"),
    (SERVICE_USER, SERVICE_PROJECT, "service"),
    (SERVICE_USER, SERVICE_PROJECT, "admin"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passwords:
    """Of the accounts that the bootstrap makes."""

    admin: str = field(repr=False)
    demo: str = field(repr=False)
    service: str = field(repr=False)


def bootstrap(database: Database, passwords: Passwords, *, hashed: Callable[[str, str], str] = hash_password) -> None:
    """Make the domain, roles, projects, accounts and their grants, the shared network that servers start on, and the
    type of volumes that name none.

    An account that exists gets the password given here, where it has another. ``hashed`` does as ``hash_password``.
    """
    _add_identity(database, passwords, hashed)
    _add_network(EmbeddedNetworks(database))
    _add_volume_type(database)


def upload_image(images: EmbeddedImages, database: Database, *, name: str, path: Path, disk_format: str) -> Image:
    """Publish a file through the gate, once: an active public image of that name is answered as it is."""
    page = Page.of(name=[name], visibility=["public"], os_hidden=[True, False])
    for image in images.list_images(project_id="", is_admin=True, page=page):
        if image.status == "active":
            return image
        images.delete_image(image.id, project_id="", is_admin=True)
    with database.read() as c:
        owner = db.PROJECTS.find(c, name="admin", domain_id=DOMAIN_ID)
    if owner is None:
        raise errors.Misconfigured("The project admin does not exist.")
    wanted = Image(
        id="", name=name, disk_format=disk_format, container_format="bare", visibility="public", owner=owner.id
    )
    image = images.create_image(wanted)
    return images.upload(image.id, chunks(path.open("rb")), project_id="", is_admin=True)


@retried
def _add_identity(database: Database, passwords: Passwords, hashed: Callable[[str, str], str]) -> None:
    secrets = {"admin": passwords.admin, "demo": passwords.demo, SERVICE_USER: passwords.service}
    with database.read() as c:
        known = {user.name: db.get_password_hash(c, user.id) for user in db.USERS.list_all(c, domain_id=DOMAIN_ID)}
    hashes = {name: hashed(password, known.get(name, "")) for name, password in secrets.items()}
    with database.write() as c:
        epoch, _ = tokens_db.find_epoch(c)
        if db.DOMAINS.find(c, id=DOMAIN_ID) is None:
            db.DOMAINS.insert(c, Domain(id=DOMAIN_ID, name=DOMAIN_NAME))
        roles = {role.name: role.id for role in roles_db.ROLES.list_all(c, domain_id="")}
        projects = {project.name: project.id for project in db.PROJECTS.list_all(c, domain_id=DOMAIN_ID)}
        users = {user.name: user.id for user in db.USERS.list_all(c, domain_id=DOMAIN_ID)}
        _add_missing(roles, ROLES, lambda name, new: roles_db.ROLES.insert(c, IdentityRole(id=new, name=name)))
        for prior, implied in IMPLIED:
            roles_db.add_implication(c, roles[prior], roles[implied])
        _add_missing(projects, PROJECTS, lambda name, new: db.insert_project(c, Project(id=new, name=name)))
        homes = {"admin": projects["admin"], "demo": projects["demo"], SERVICE_USER: projects[SERVICE_PROJECT]}
        _add_missing(
            users,
            secrets,
            lambda name, new: db.insert_user(c, User(id=new, name=name, default_project_id=homes[name]), hashes[name]),
        )
        for name, stored in known.items():
            if name in hashes and hashes[name] != stored:
                passwords_db.set_password(c, users[name], hashes[name], days=0, kept=0)
        for user, project, role in _GRANTS:
            roles_db.add_grant(c, Grant(actor_id=users[user], scope_id=projects[project], role_id=roles[role]))
        maker, role = users[SERVICE_USER], roles["member"]  # of volumes for servers, in whichever project
        below = Grant(actor_id=maker, scope=DOMAIN, scope_id=DOMAIN_ID, role_id=role, inherited=True)
        roles_db.add_grant(c, below)
        roles_db.add_grant(
            c, Grant(actor_id=users["admin"], scope=SYSTEM, scope_id=WHOLE_SYSTEM, role_id=roles["admin"])
        )
        register_embedded(c)
        if not epoch or any(known.get(name) not in (None, hashes[name]) for name in secrets):
            tokens_db.begin_epoch(c)


def _add_missing(known: dict[str, str], names: Iterable[str], insert: Callable[[str, str], None]) -> None:
    for name in names:
        if name not in known:
            known[name] = new_id()
            insert(name, known[name])


def _add_network(networks: EmbeddedNetworks) -> None:
    admin = Viewer(project_id="", is_admin=True)
    found = networks.list_networks(admin, Page.of(name=[NETWORK], shared=[True]))
    network = found[0] if found else networks.create_network(admin, Network(id="", name=NETWORK, shared=True))
    if not network.subnet_ids:
        networks.create_subnet(admin, Subnet(id="", name=SUBNET, network_id=network.id, cidr=CIDR))


def ensure_external_subnet(database: Database, cidr: str) -> Subnet:
    """Return the IPv4 subnet of the external network called public, where routers lead by its gateway; make what is
    missing, with that range."""
    networks, admin = EmbeddedNetworks(database), Viewer(project_id="", is_admin=True)
    found = networks.list_networks(admin, Page.of(name=[EXTERNAL_NETWORK], **{"router:external": [True]}))
    network = (
        found[0] if found else networks.create_network(admin, Network(id="", name=EXTERNAL_NETWORK, external=True))
    )
    for subnet in networks.list_subnets(admin, Page.of(network_id=[network.id], ip_version=[4])):
        if subnet.gateway_ip:
            return subnet
    gateway = str(ipaddress.IPv4Network(cidr)[1])
    new = Subnet(id="", name=EXTERNAL_SUBNET, network_id=network.id, cidr=cidr, gateway_ip=gateway, enable_dhcp=False)
    return networks.create_subnet(admin, new)


def replace_external_subnet(database: Database, subnet: Subnet, cidr: str) -> Subnet:
    """Give the external network another range, and return its subnet; the one that it has, where that is in use."""
    try:
        EmbeddedNetworks(database).delete_subnet(Viewer(project_id="", is_admin=True), subnet.id)
    except errors.Conflict:
        return subnet
    return ensure_external_subnet(database, cidr)


@retried
def _add_volume_type(database: Database) -> None:
    with database.write() as c:
        if volume_types.find_type(c, DEFAULT_TYPE) is None:
            made = VolumeType(id=str(uuid.uuid4()), name=DEFAULT_TYPE, description="Default Volume Type")
            volume_types.insert_type(c, made)
