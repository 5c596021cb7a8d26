"""The ``cellcloud`` command: up, down, status, and stopping one part of a running cloud.

Exit codes: 0 done; 1 it failed, and standard error says why; 2 the command line is wrong; 3 no cloud runs here.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NoReturn

import click
import tabulate

from cellcloud import clock, errors
from cellcloud.up import nodes
from cellcloud.up.processes import ProcessRecord, Records, describe, wait_gone
from cellcloud.up.profile import (
    CELLS,
    DEFAULT_PORT,
    Choices,
    Driver,
    Layout,
    Profile,
    check,
    living_nodes,
    settled_management,
)

NOT_RUNNING = 3
LAUNCHER = "launcher"  # the record of the process that holds everything else
STOP_SECONDS = 90.0
READY, FAILED = "ready", "failed"
THRIFT = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "PYTHONDONTWRITEBYTECODE": "1"}

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


@main.command()
@state_option
@click.option("--profile", type=click.Choice([each.value for each in Profile]), default="embedded", show_default=True)
@click.option("--driver", type=click.Choice([each.value for each in Driver]), default="libvirt", show_default=True)
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
@click.option("--detach/--foreground", default=True, help="Return once it serves, or stay with it.")
@click.option("--progress-to", type=int, hidden=True)
def up(
    state: Path,
    cache: Path | None,
    profile: str,
    driver: str,
    clouds_file: Path,
    detach: bool,
    progress_to: int | None,
    **chosen: Any,
) -> None:
    """Start a cloud and write clouds.yaml. Starting one that runs changes nothing."""
    choices = Choices(
        state=state.resolve(),
        cache=(cache or state / "cache").resolve(),
        profile=Profile(profile),
        driver=Driver(driver),
        clouds_file=clouds_file.resolve(),
        **chosen,
    )
    try:
        records = Records(choices.state / "run")
        if running := _find_launcher(records):
            click.echo(f"A cloud runs here already (process {running.pid}).")
            return
        with _claim(records.directory):
            _end_leftovers(records)  # they may hold the ports
        check(choices)
        if detach:
            _launch(choices)
        else:
            _stay(choices, _reporter(progress_to))
    except errors.CellcloudError as error:
        _give_up(error)


@main.command()
@state_option
def down(state: Path) -> None:
    """Stop all that ``up`` started, and nothing else. What must survive stays in the state directory."""
    records = Records(state.resolve() / "run")
    known = records.list_all()
    launcher = _find_launcher(records)
    if launcher is not None:
        launcher.ask()
        if not wait_gone(launcher.pid, STOP_SECONDS):
            launcher.kill()
    for record in reversed(records.list_all()):  # what a killed launcher has left behind
        record.end()
        records.forget(record.name)
    _stop_nodes(state.resolve())
    click.echo("The cloud is down." if known else "No cloud runs here.")


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
        click.echo(tabulate.tabulate([*rows, total], headers="keys"))
    if _find_launcher(records) is None:
        sys.exit(NOT_RUNNING)


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


def _set_held(state: Path, names: tuple[str, ...], *, held: bool) -> None:
    records = Records(state.resolve() / "run")
    launcher = _find_launcher(records)
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


def _launch(choices: Choices) -> None:
    """Start the launcher as a process of its own and pass on what it reports until it serves."""
    read_end, write_end = os.pipe()
    flags = {
        "--state": choices.state,
        "--cache": choices.cache,
        "--profile": choices.profile,
        "--driver": choices.driver,
        "--hosts": choices.hosts,
        "--port": choices.port,
        "--bind": choices.bind_host,
        "--virt-type": choices.virt_type,
        "--management": choices.management,
        "--clouds-file": choices.clouds_file,
        "--progress-to": write_end,
    }
    words = [str(word) for flag in flags.items() for word in flag]
    log = _open_log(choices)
    with log:
        subprocess.Popen(
            [sys.executable, "-m", "cellcloud.up.cli", "up", "--foreground", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[write_end],
            env={**os.environ, **THRIFT},
        )
    os.close(write_end)
    outcome = FAILED
    with os.fdopen(read_end) as lines:
        for line in lines:
            if line.strip() in (READY, FAILED):
                outcome = line.strip()
                break
            click.echo(line, nl=False)
    if outcome != READY:
        raise errors.Misconfigured(f"The cloud did not start; see {choices.state}/log.")
    click.echo(_how_to_use(choices))


def _open_log(choices: Choices) -> IO[bytes]:
    path = choices.state / "log" / f"{LAUNCHER}.log"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.open("ab")


def _stay(choices: Choices, report: Callable[[str], None]) -> None:
    """Be the launcher, until told to stop."""
    from cellcloud.up import clouds, embedded, plan, supervisor

    began = clock.monotonic()

    def tell(line: str) -> None:
        report(f"{clock.monotonic() - began:6.1f} s  {line}")

    choices = replace(choices, management=settled_management(choices))
    layout = Layout(choices)
    layout.write_option_files()
    layout.point_here()
    records = Records(layout.run)
    only_one = _claim(layout.run)
    records.save(replace(describe(LAUNCHER, "launcher", os.getpid()), grace=STOP_SECONDS))
    clouds.write_clouds(layout, choices.clouds_file or choices.state / "clouds.yaml")
    units = plan.make_plan(layout)

    def ready() -> None:
        records.save(describe(LAUNCHER, "launcher", os.getpid(), state="ready", grace=STOP_SECONDS))
        tell("serving")
        report(READY)

    try:
        if choices.profile is Profile.SERVICES:
            made = supervisor.Supervisor(units, records=records, logs=layout.logs, report=tell)
            failure = made.run(plan.PRELOAD, on_ready=ready)
        else:
            health = layout.run / f"{LAUNCHER}.sock"
            one = embedded.Embedded(units, health=health, log_file=layout.logs / "embedded.log", report=tell)
            failure = one.run(on_ready=ready)
    finally:
        _stop_nodes(choices.state)
        records.forget(LAUNCHER)
        only_one.close()
    if failure:
        tell(failure)
        report(FAILED)
        raise errors.Misconfigured(failure)


def _claim(run: Path) -> IO[bytes]:
    """The lock that makes this the only launcher of its state directory, until closed. Raises Conflict."""
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = (run / "lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise errors.Conflict("Another start of this cloud is under way.") from error
    return file


def _end_leftovers(records: Records) -> None:
    """End what a killed launcher has left running."""
    for record in reversed(records.list_all()):
        record.end()
        records.forget(record.name)


def _stop_nodes(state: Path) -> None:
    """End the nodes of every world below the state directory; their guests' disks stay."""
    for node in list(living_nodes(state)):
        nodes.stop_node(node)


def _find_launcher(records: Records) -> ProcessRecord | None:
    record = records.find(LAUNCHER)
    return record if record is not None and record.is_alive() else None


def _row(record: ProcessRecord, records: Records) -> dict[str, Any]:
    from cellcloud.up.plan import is_healthy

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


def _reporter(handle: int | None) -> Callable[[str], None]:
    if handle is None:
        return click.echo
    stream = os.fdopen(handle, "w", buffering=1)

    def report(line: str) -> None:
        if stream.closed:
            return
        try:
            stream.write(f"{line}\n")
        except BrokenPipeError:
            return
        if line in (READY, FAILED):
            stream.close()

    return report


def _how_to_use(choices: Choices) -> str:
    login = "".join(
        f"\n    ip netns exec {node.link} ssh -i k.pem root@ADDRESS    # a guest on {node.name}"
        for cell in CELLS
        for node in Layout(choices).nodes(cell)[:1]
    )
    return f"""
The cloud serves at http://{choices.bind_host}:{choices.port}. For example:

    . .venv/bin/activate
    export OS_CLIENT_CONFIG_FILE={choices.clouds_file} OS_CLOUD=cellcloud
    openstack keypair create --private-key k.pem k && chmod 600 k.pem
    openstack server create --image tiny --flavor m1.tiny --key-name k --wait vm1
    openstack console url show vm1
    openstack --os-cloud cellcloud-admin server list --all-projects --long -c Name -c Host -c Networks{login}

`make status` lists its processes, `make down` stops it."""


def _give_up(error: errors.CellcloudError) -> NoReturn:
    click.echo(f"cellcloud: {error.message} {error.detail}".rstrip(), err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
