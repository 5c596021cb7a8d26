"""An index full of servers as a cloud has them: most run, projects are of every size, images come and go with time."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Iterator
from dataclasses import replace

from cellcloud.db import server_index
from cellcloud.db.engine import Database
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.keypair import Keypair
from cellcloud.model.network import FixedIp, Port
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.server_states import PowerState, TaskState, VmState

BEGAN = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
SPAN = dt.timedelta(days=700)
ENDED = BEGAN + SPAN
_STATES = {VmState.ACTIVE: 850, VmState.STOPPED: 100, VmState.ERROR: 20, VmState.BUILDING: 5, VmState.PAUSED: 5}
_POWER = {VmState.ACTIVE: PowerState.RUNNING, VmState.STOPPED: PowerState.SHUTDOWN, VmState.PAUSED: PowerState.PAUSED}
_ROLES = ("web", "db", "worker", "ci-runner", "cache", "k8s-node", "bastion", "gpu")
AT_ONCE = 1000


def fill(database: Database, count: int, *, largest: str) -> None:
    """Add so many servers of about 200 projects. ``largest``: the one that every seventh is of."""
    left = records(count, largest)
    while some := [record for record, _ in zip(left, range(AT_ONCE), strict=False)]:
        with database.write() as connection:
            server_index.insert_records(connection, some)


def image_of(number: int) -> str:
    return str(uuid.UUID(int=1000 + number))


def host_of(number: int) -> str:
    return f"rack-{number // 20}-host-{number % 20}"


def records(count: int, largest: str) -> Iterator[ServerRecord]:
    chance = random.Random(count)
    states, weights = list(_STATES), list(_STATES.values())
    for number in range(count):
        share = chance.random()
        accepted = BEGAN + share * SPAN
        project = largest if number % 7 == 0 else f"{int(200 * chance.random() ** 3):032d}"
        vm_state = chance.choices(states, weights)[0]
        deleted = chance.random() < 0.1
        host = chance.randrange(max(10, count // 100))
        spec = ServerSpec(
            id=str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            name=f"{chance.choice(_ROLES)}-{number % 997}-{project[-3:]}",
            hostname=f"host-{number}",
            project_id=project,
            user_id=f"user-{project[-3:]}-{number % 5}",
            flavor=Flavor(id=str(int(12 * chance.random() ** 2)), name="m1.x", vcpus=2, memory_mb=4096, root_gb=20),
            image=Image(id=image_of(int(30 * share)), name="image", properties={"os_distro": "debian"}),
            keypair=Keypair(
                name=f"key-{project[-3:]}", user_id="u", public_key="ssh-ed25519 " + "A" * 80, fingerprint="f"
            ),
            reservation_id=f"r-{number // 4}",
            tags=("prod", f"team-{number % 50}") if number % 20 == 0 else (),
            metadata={"owner": f"team-{number % 50}", "cost-centre": "1234"},
            created_at=accepted,
        )
        address = FixedIp(ip_address=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", subnet_id="s")
        port = Port(
            id=str(uuid.UUID(int=number)), network_id="n", network_name="private", mac_address="fa:16:3e:00:00:01",
            fixed_ips=(address,),
        )  # fmt: skip
        record = ServerRecord(
            spec=spec,
            version=5,
            generation=2,
            vm_state=vm_state,
            task_state=TaskState.REBOOTING if number % 400 == 0 and vm_state == VmState.ACTIVE else None,
            power_state=_POWER.get(vm_state, PowerState.NOSTATE),
            host=None if vm_state == VmState.BUILDING else host_of(host),
            node=None if vm_state == VmState.BUILDING else host_of(host),
            availability_zone=f"zone-{host % 3}",
            ports=(port,),
            created_at=accepted,
            updated_at=accepted + chance.random() ** 2 * (ENDED - accepted),
            launched_at=None if vm_state == VmState.BUILDING else accepted + dt.timedelta(seconds=9),
            locked=number % 500 == 0,
            cell="east" if host % 2 else "west",
        )
        if deleted:
            record = replace(
                record, vm_state=VmState.DELETED, task_state=None, deleted=True, terminated_at=record.updated_at
            )
        yield record
