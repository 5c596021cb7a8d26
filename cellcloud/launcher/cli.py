"""The ``cellcloud`` command: up, down, status, and stopping one part of a running cloud.

Exit codes: 0 done; 1 it failed, and standard error says why; 2 the command line is wrong; 3 no cloud runs here.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from cellcloud import clock, config, errors, storage_daemons
from cellcloud.launcher import clouds_yaml, database_commands, libvirt_nodes
from cellcloud.launcher.launcher_process import (
    LAUNCHER,
    STOP_SECONDS,
    claim,
    end_launcher,
    end_leftovers,
    find_launcher,
    join,
    launch,
    reporter,
    stay,
)
from cellcloud.launcher.layout import CELLS, DEFAULT_PORT, Choices, DriverChoice, Layout, Profile, check, living_nodes
from cellcloud.launcher.process_records import ProcessRecord, Records
from cellcloud.launcher.rabbitmq_servers import keep_accounts

NOT_RUNNING = 3

state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/lib/cellcloud"),
    show_default=True,
    help="Everything this cloud keeps.",
)


@click.group(help=__doc__)
def main() -> None:
    """Set umask for all that follows: nothing of a cloud is for others to read."""
    os.umask(0o077)


for each in ("migrate", "backup", "restore", "promoted"):
    main.add_command(getattr(database_commands, each))


@main.command()
@state_option
@click.option("--profile", type=click.Choice([each.value for each in Profile]), default="embedded", show_default=True)
@click.option(
    "--driver", type=click.Choice([each.value for each in DriverChoice]), default="libvirt", show_default=True
)
@click.option("--hosts", type=int, default=1, show_default=True, help="Hypervisor hosts of each cell.")
@click.option(
    "--port", type=int, default=DEFAULT_PORT, show_default=True, help="The API's; others keep their distance."
)
@click.option("--bind", "bind_host", default="127.0.0.1", show_default=True, help="Address of API and consoles.")
@click.option("--virt-type", type=click.Choice(["auto", "qemu", "kvm"]), default="auto", show_default=True)
@click.option(
    "--management", default="auto", help="First half of the cells' own networks, as 10.77; default: a free one."
)
@click.option("--cache", type=click.Path(path_type=Path), help="Where the guest image is kept; default STATE/cache.")
@click.option("--clouds-file", type=click.Path(path_type=Path), default=Path("clouds.yaml"), show_default=True)
@click.option(
    "--cloud-name",
    default="auto",
    help="Its name in the clouds file, NAME-admin beside it; default: cellcloud, or cellcloud-PORT beside another's.",
)
@click.option("--detach/--foreground", default=True, help="Return once it serves, or stay with it.")
@click.option("--progress-to", type=int, hidden=True)
@click.option("--lock", "lock_handle", type=int, hidden=True)
def up(
    state: Path,
    cache: Path | None,
    profile: str,
    driver: str,
    clouds_file: Path,
    detach: bool,
    progress_to: int | None,
    lock_handle: int | None,
    **chosen: Any,
) -> None:
    """Start a cloud and write clouds.yaml. Starting one that runs changes nothing.

    Guests that run are left as they are; those that ran when their host was ended are started again.
    """
    choices = Choices(
        state=state.resolve(),
        cache=(cache or state / "cache").resolve(),
        profile=Profile(profile),
        driver=DriverChoice(driver),
        clouds_file=clouds_file.resolve(),
        **chosen,
    )
    try:
        if lock_handle is not None:  # by the process that has looked at all this already
            stay(choices, os.fdopen(lock_handle, "wb"), reporter(progress_to))
            return
        records = Records(choices.state / "run")
        lock = None if find_launcher(records) else claim(records.directory)
        if lock is None:
            running = join(records, click.echo)
            click.echo(f"A cloud runs here already (process {running.pid}), at {_url_of(choices.state)}.")
            return
        end_leftovers(records)  # they may hold the ports
        check(choices)
        clouds_yaml.settled_name(Layout(choices))
        if not detach:
            stay(choices, lock, reporter(progress_to))
            return
        launch(choices, lock)
        click.echo(_how_to_use(choices))
    except errors.CellcloudError as error:
        _give_up(error)


@main.command()
@state_option
@click.option(
    "--guests/--no-guests", default=False, help="Power off the guests too and end their hosts; else they run on."
)
def down(state: Path, guests: bool) -> None:
    """Stop the processes that ``up`` started, and nothing else. What must survive stays in the state directory.

    Guests are left running, without anybody to manage them, until the next ``up`` finds them; with --guests they are
    powered off, and the next ``up`` starts those again that ran. What exports their volumes lasts as long as they do.
    """
    records = Records(state.resolve() / "run")
    known = records.list_all()
    end_launcher(records)
    end_leftovers(records)
    living = list(living_nodes(state.resolve()))
    if guests:
        libvirt_nodes.stop_nodes(living)
    if guests or not living:
        _end_exports(state.resolve())
    click.echo("The cloud is down." if known or (guests and living) else "No cloud runs here.")
    if not guests and living:
        click.echo(_what_runs_on(living))


@main.command()
@state_option
@click.option("-f", "--format", "form", type=click.Choice(["table", "json"]), default="table")
def status(state: Path, form: str) -> None:
    """List the processes of the cloud. Memory in MB: resident, and the process's share of what is shared."""
    records = Records(state.resolve() / "run")
    rows = [_row(record, records) for record in records.list_all() if record.kind != "task"]
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo("No cloud runs here.")
    else:
        total = {"name": "total", "rss_mb": sum(r["rss_mb"] for r in rows), "pss_mb": sum(r["pss_mb"] for r in rows)}
        import tabulate

        click.echo(tabulate.tabulate([*rows, total], headers="keys"))
    if find_launcher(records) is None:
        sys.exit(NOT_RUNNING)


@main.command()
@click.argument("cell")
@click.option("--host", "hosts", multiple=True, help="A hypervisor host of the cell; repeat for each.")
@click.option("--kept", type=click.Path(path_type=Path, dir_okay=False), required=True, help="For the passwords.")
def accounts(cell: str, hosts: tuple[str, ...], kept: Path) -> None:
    """Make the accounts of a cell's queue, for a RabbitMQ of your own: its definitions go to standard output.

    Load them with 'rabbitmqctl import_definitions'. Passwords, and each host's metadata.node_key, are added to the
    file KEPT; what it has already stays. Each service's transport_url is
    rabbit://ACCOUNT:PASSWORD@BROKER:5671/cell?ssl=1&ssl_ca_file=FILE; the top's goes to top.cells.
    """
    try:
        click.echo(json.dumps(keep_accounts(cell, hosts, kept), indent=1))
    except errors.CellcloudError as error:
        _give_up(error)


@main.command()
@state_option
@click.argument("names", nargs=-1, required=True)
def stop(state: Path, names: tuple[str, ...]) -> None:
    """Stop these processes of a running cloud (services profile) and keep them stopped."""
    _set_held(state, names, held=True)


@main.command()
@state_option
@click.argument("names", nargs=-1, required=True)
def start(state: Path, names: tuple[str, ...]) -> None:
    """Start these processes again that ``stop`` stopped."""
    _set_held(state, names, held=False)


def _end_exports(state: Path) -> None:
    """End what exports volumes to guests that are gone; the next ``up`` starts again what servers have."""
    for directory in sorted(state.glob("*/volumes/*/exports")):
        try:
            storage_daemons.end_all(directory)
        except errors.CellcloudError as error:
            _give_up(error)


def _set_held(state: Path, names: tuple[str, ...], *, held: bool) -> None:
    records = Records(state.resolve() / "run")
    launcher = find_launcher(records)
    if launcher is None:
        click.echo("No cloud runs here.", err=True)
        sys.exit(NOT_RUNNING)
    unknown = [name for name in names if name == LAUNCHER or records.find(name) is None]
    if unknown:
        _give_up(errors.NotFound(f"No such process: {', '.join(unknown)}."))
    for name in names:
        (records.hold if held else records.release)(name)
    launcher.wake()
    deadline = clock.monotonic() + STOP_SECONDS
    wanted = ("held",) if held else ("ready",)
    while any(
        (record := records.find(name)) and (record.state not in wanted or held == record.is_alive()) for name in names
    ):
        if clock.monotonic() > deadline:
            _give_up(errors.DeadlineExceeded("It takes too long; see the logs."))
        clock.sleep(0.05)


def _row(record: ProcessRecord, records: Records) -> dict[str, Any]:
    from cellcloud.launcher.process_graph import is_healthy

    alive = record.is_alive()
    resident, proportional = record.memory(alone=record.name == LAUNCHER)
    socket_path = records.directory / f"{record.name}.sock"
    health = ("ok" if is_healthy(socket_path) else "ill") if alive and socket_path.exists() else "-"
    return {
        "name": record.name,
        "pid": record.pid or None,
        "state": record.state if alive or record.state in ("held", "waiting") else "dead",
        "rss_mb": round(resident / 1e6, 1),
        "pss_mb": round(proportional / 1e6, 1),
        "restarts": record.restarts,
        "health": health,
    }


def _how_to_use(choices: Choices) -> str:
    layout = Layout(choices)
    name = clouds_yaml.settled_name(layout)
    login = "".join(
        f"\n    ip netns exec {node.link}.$NETWORK ssh -i k.pem root@ADDRESS    # a guest on {node.name}"
        for cell in CELLS
        for node in layout.nodes(cell)[:1]
    )
    status, down, up = _commands(choices)
    if login:
        login = f"\n    NETWORK=$(openstack network show private -f value -c id){login}"
    return f"""
The cloud serves at {layout.public_url}. For example:

    . .venv/bin/activate
    export OS_CLIENT_CONFIG_FILE={choices.clouds_file} OS_CLOUD={name}
    openstack keypair create --private-key k.pem k && chmod 600 k.pem
    openstack server create --image tiny --flavor m1.tiny --key-name k --wait vm1
    openstack console url show vm1
    openstack --os-cloud {name}-admin server list --all-projects --long -c Name -c Host -c Networks{login}

{status}    # list its processes
{down}    # stop it; its guests run on
{down} {"GUESTS=1" if down.startswith("make") else "--guests"}    # stop it and its guests
{up}    # start it again"""


def _commands(choices: Choices) -> tuple[str, str, str]:
    """How to ask for the status, the end and the start of just this cloud: with make, where there is a Makefile."""
    if not Path("Makefile").exists():
        state = f" --state {choices.state}"
        chosen = f" --profile {choices.profile} --driver {choices.driver} --hosts {choices.hosts} --port {choices.port}"
        return f"cellcloud status{state}", f"cellcloud down{state}", f"cellcloud up{state}{chosen}"
    state = "" if choices.state == Path(".state").resolve() else f" STATE={choices.state}"
    chosen = "".join(
        f" {variable}={value}"
        for variable, value, usual in (
            ("PORT", choices.port, DEFAULT_PORT),
            ("PROFILE", choices.profile, Profile.EMBEDDED),
            ("DRIVER", choices.driver, DriverChoice.LIBVIRT),
            ("HOSTS", choices.hosts, 1),
        )
        if value != usual
    )
    return f"make status{state}", f"make down{state}", f"make cloud{state}{chosen}"


def _what_runs_on(living: list[libvirt_nodes.NodeConfig]) -> str:
    count = sum(libvirt_nodes.count_guests(node) for node in living)
    names = ", ".join(node.name for node in living)
    return f"{count} guests run on, on {names}; `cellcloud down --guests` (make down GUESTS=1) powers them off."


def _url_of(state: Path) -> str:
    """Return where the cloud of a state directory serves."""
    return config.load(state / "top" / "cellcloud.conf").public_url


def _give_up(error: errors.CellcloudError) -> NoReturn:
    click.echo(f"cellcloud: {error.message} {error.detail}".rstrip(), err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
