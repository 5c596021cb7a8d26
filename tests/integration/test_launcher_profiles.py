"""From choices to files: secrets, option files, units."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cellcloud import config, errors
from cellcloud.launcher.clouds_yaml import settled_name, write_clouds
from cellcloud.launcher.layout import CELLS, Choices, DriverChoice, Layout, Profile, check, settled_management
from cellcloud.launcher.process_graph import make_plan
from cellcloud.launcher.process_units import Unit, UnitKind, in_order
from cellcloud.rpc.accounts import Account, Role, host_account


@pytest.fixture(autouse=True)
def private() -> Iterator[None]:
    """The umask that the launcher sets first of all."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def layout(tmp_path: Path, **choices: object) -> Layout:
    tmp_path.mkdir(exist_ok=True)
    chosen = Choices(
        state=tmp_path / "state",
        cache=tmp_path / "cache",
        port=31000,
        management="10.99",
        clouds_file=tmp_path / "clouds.yaml",
    )
    return Layout(replace(chosen, **choices))  # type: ignore[arg-type]


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("driver", DriverChoice)
def test_every_plan_holds_together(profile: Profile, driver: DriverChoice, tmp_path: Path) -> None:
    made = layout(tmp_path, profile=profile, driver=driver, hosts=2)
    units = in_order(make_plan(made))
    names = [unit.name for unit in units]
    assert names[-1] == "first-look"
    assert len(set(names)) == len(names)
    services = {unit.name for unit in units if unit.kind is UnitKind.SERVICE}
    assert {"top.api", "top.router", "east.conductor", "west.metadata", "east.consoleproxy"} <= services
    daemons = {unit.name for unit in units if unit.kind is UnitKind.DAEMON}
    assert ("mariadb" in daemons) == (profile is Profile.SERVICES)
    nodes = {name for name in names if name.endswith(".node")}
    assert len(nodes) == (4 if driver is DriverChoice.LIBVIRT else 0)


@pytest.mark.parametrize("profile", Profile)
def test_files_are_private_and_hosts_hold_no_key_to_a_database(profile: Profile, tmp_path: Path) -> None:
    made = layout(tmp_path, profile=profile)
    made.write_option_files()
    for path in made.world.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    for cell in CELLS:
        keys = set()
        for role in (Role.CONDUCTOR, Role.SCHEDULER, Role.CONSOLEAUTH, Role.METADATA):
            mine = config.load(made.role_file(cell, role))
            assert mine.cell.connection == (made.cell_database_url(cell) if role is Role.CONDUCTOR else "")
            assert mine.cell.transport_url == made.transport_url(cell, Account(role))
            assert bool(mine.metadata.secret) == (role is Role.METADATA)
            keys.add(mine.cell.transport_url)
        for host in made.compute_hosts(cell):
            mine = config.load(made.host_file(cell, host))
            assert mine.host == host
            assert (mine.cell.connection, mine.metadata.secret) == ("", "")
            assert mine.cell.transport_url == made.transport_url(cell, host_account(host))
            keys.add(mine.cell.transport_url)
        assert len(keys) == 4 + len(made.compute_hosts(cell))
    top = config.load(made.top_file)
    assert top.network.quota_port == top.quota.instances
    assert top.top.cells == {cell.name: made.transport_url(cell, Account(Role.TOP)) for cell in CELLS}
    assert made.secret("user.demo") not in repr(top)


@pytest.mark.parametrize("profile", Profile)
def test_in_processes_of_its_own_everything_is_encrypted_and_verified(profile: Profile, tmp_path: Path) -> None:
    made = layout(tmp_path, profile=profile, clouds_file=tmp_path / "clouds.yaml")
    made.write_option_files()
    write_clouds(made)
    top = config.load(made.top_file)
    known = yaml.safe_load((tmp_path / "clouds.yaml").read_text())["clouds"]["cellcloud"]
    if profile is Profile.EMBEDDED:
        assert ("cacert" in known, top.top.tls_certificate, made.public_url[:7]) == (False, "", "http://")
        return
    authority = str(made.authority.certificate)
    assert (known["cacert"], known["auth"]["auth_url"][:8]) == (authority, "https://")
    assert Path(top.top.tls_certificate).exists()
    assert Path(top.top.tls_key).exists()
    urls = [top.top.connection, *top.top.cells.values()]
    for cell in CELLS:
        whole = config.load(made.cell_file(cell))
        assert whole.identity.cafile == authority
        urls += [whole.cell.connection, whole.cell.transport_url]
    assert all(f"={authority}" in url for url in urls)


def test_secrets_differ_and_last(tmp_path: Path) -> None:
    made = layout(tmp_path, profile=Profile.SERVICES)
    names = ["user.admin", "user.demo", "mariadb.top", "mariadb.east", "postgresql.west", "east.metadata"]
    assert len({made.secret(name) for name in names}) == len(names)
    assert made.secret("user.demo") == layout(tmp_path, profile=Profile.SERVICES).secret("user.demo")
    assert len(made.secret("user.demo")) == 48


def test_no_two_things_share_a_port(tmp_path: Path) -> None:
    made = layout(tmp_path, profile=Profile.SERVICES, driver=DriverChoice.FAKE)
    made.write_option_files()
    ports = [made.choices.port, made.mariadb.port, made.postgresql.port]
    for cell in CELLS:
        settings = config.load(made.cell_file(cell))
        broker = made.broker(cell).port
        ports += [broker, broker + 1, broker + 2, settings.console.bind_port, settings.metadata.bind_port]
    assert len(set(ports)) == len(ports)


def test_clouds_of_others_are_kept(tmp_path: Path) -> None:
    made = layout(tmp_path)
    path = made.choices.clouds_file
    ours = "{auth: {auth_url: 'http://127.0.0.1:31000/identity/v3'}}"
    path.write_text(f"clouds: {{elsewhere: {{auth: {{username: me}}}}, cellcloud: {ours}}}\n")
    write_clouds(made)
    clouds = yaml.safe_load(path.read_text())["clouds"]
    assert clouds["elsewhere"] == {"auth": {"username": "me"}}
    assert clouds["cellcloud"]["auth"]["password"] == made.secret("user.demo")
    assert clouds["cellcloud-admin"]["auth"]["project_name"] == "admin"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_clouds_share_a_clouds_file(tmp_path: Path) -> None:
    one, other = layout(tmp_path / "a"), layout(tmp_path / "b", port=9774, clouds_file=tmp_path / "a" / "clouds.yaml")
    for made in (one, other, one, other):
        write_clouds(made)
    clouds = yaml.safe_load(one.choices.clouds_file.read_text())["clouds"]
    assert list(clouds) == ["cellcloud", "cellcloud-admin", "cellcloud-9774", "cellcloud-9774-admin"]
    assert clouds["cellcloud"]["auth"]["password"] == one.secret("user.demo")
    assert clouds["cellcloud-9774"]["auth"]["password"] == other.secret("user.demo")


@pytest.mark.parametrize("change", [{"port": 9774}, {"profile": Profile.SERVICES}])
def test_a_cloud_that_moves_keeps_its_name(change: dict[str, object], tmp_path: Path) -> None:
    write_clouds(layout(tmp_path))
    moved = layout(tmp_path, **change)
    write_clouds(moved)
    clouds = yaml.safe_load(moved.choices.clouds_file.read_text())["clouds"]
    assert list(clouds) == ["cellcloud", "cellcloud-admin"]
    assert clouds["cellcloud"]["auth"]["password"] == moved.secret("user.demo")
    assert str(moved.choices.port) in clouds["cellcloud"]["auth"]["auth_url"]


def test_a_chosen_name_that_is_anothers_is_refused(tmp_path: Path) -> None:
    write_clouds(layout(tmp_path / "a", cloud_name="mine"))
    file = tmp_path / "a" / "clouds.yaml"
    with pytest.raises(errors.Conflict, match="choose another --cloud-name"):
        settled_name(layout(tmp_path / "b", port=9774, cloud_name="mine", clouds_file=file))


def test_two_clouds_get_different_networks_and_device_names(tmp_path: Path) -> None:
    one, other = layout(tmp_path / "a"), layout(tmp_path / "b")
    assert one.node(CELLS[0], 1).link != other.node(CELLS[0], 1).link
    assert one.node(CELLS[0], 1).bridge != other.node(CELLS[0], 1).bridge
    free = replace(one.choices, management="auto")
    assert settled_management(free) == settled_management(free)


@pytest.mark.parametrize(
    "wrong", [{"hosts": 0}, {"hosts": 201}, {"port": 80}, {"port": 65000}, {"management": "10.300"}]
)
def test_what_cannot_work_is_refused(wrong: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured):
        check(replace(layout(tmp_path).choices, **wrong))  # type: ignore[arg-type]


def test_units_that_wait_for_nobody_are_refused() -> None:
    lone = Unit(name="a", kind=UnitKind.TASK, run=lambda: None, after=("nobody",))
    with pytest.raises(errors.Misconfigured):
        in_order([lone])
    ring = [replace(lone, after=("b",)), replace(lone, name="b", after=("a",))]
    with pytest.raises(errors.Misconfigured):
        in_order(ring)
