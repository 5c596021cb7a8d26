"""What a conductor asks hosts of guests at once: in the right states only, and recorded."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cell.conductor import guest_questions, server_field_updates
from cellcloud import errors
from cellcloud.db import cell_schema, feed, runs
from cellcloud.db.engine import Database
from cellcloud.model import guest_passwords
from cellcloud.model.guest_questions import Diagnose, GuestDiagnostics, GuestQuestion, InjectNmi, SetPassword
from cellcloud.model.keypair import Keypair
from cellcloud.model.operations import Operation
from cellcloud.server_states import PowerState, VmState
from tests.workflows.world import CONTEXT, CellUnderTest

SERVER = "11111111-0000-4000-8000-000000000001"
FIGURES = GuestDiagnostics(power_state=1, driver="libvirt", hypervisor="fake", memory_kb=(1, 1))
KEY = generate_private_key(65537, 2048)
PASSWORD = SetPassword(user="root", password="secret")


@dataclass
class OneHost:
    """The way to the host, and the host. ``error``: what it answers next."""

    asked: list[tuple[str, int, GuestQuestion]] = field(default_factory=list)
    error: errors.CellcloudError | None = None

    def compute(self, host: str) -> Any:
        return self

    def ask_guest(self, context: Any, host: str, server_id: str, generation: int, question: GuestQuestion) -> Any:
        self.asked.append((host, generation, question))
        if self.error is not None:
            raise self.error
        return FIGURES if isinstance(question, Diagnose) else None


@pytest.fixture
def cell(cell_database: Database) -> CellUnderTest:
    world = CellUnderTest(cell_database)
    public = KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    world.create(SERVER, keypair=Keypair(name="k", user_id="u", public_key=public))
    world.run()
    return world


def ask(cell: CellUnderTest, host: OneHost, question: GuestQuestion) -> GuestDiagnostics | None:
    return guest_questions.ask(cell.database, host.compute, CONTEXT, SERVER, question)


def actions(cell: CellUnderTest) -> list[tuple[str, str, str]]:
    with cell.database.read() as connection:
        found = runs.list_runs(connection, server_id=SERVER)
    return [(run.operation, run.state, run.message) for run in found if run.operation != Operation.CREATE]


def set_state(cell: CellUnderTest, **values: Any) -> None:
    with cell.database.write() as connection:
        connection.execute(sa.update(cell_schema.servers).values(**values))


def test_figures_are_asked_for_while_the_guest_runs(cell: CellUnderTest) -> None:
    host = OneHost()
    record = cell.record(SERVER)
    assert ask(cell, host, Diagnose()) == FIGURES
    assert host.asked == [(record.host, record.generation, Diagnose())]
    set_state(cell, power_state=PowerState.SHUTDOWN)
    with pytest.raises(errors.Conflict, match=r"Cannot 'get_diagnostics' instance .* in power state shutdown"):
        ask(cell, host, Diagnose())
    assert actions(cell) == []


def test_a_password_is_sealed_for_the_keys_owner_and_stored_in_no_other_way(cell: CellUnderTest) -> None:
    host = OneHost()
    assert ask(cell, host, PASSWORD) is None
    assert actions(cell) == [("changePassword", "done", "")]
    sealed = cell.record(SERVER).spec.sealed_password
    assert KEY.decrypt(base64.b64decode(sealed), PKCS1v15()) == b"secret"
    with cell.database.read() as connection:
        for table in cell_schema.metadata.sorted_tables:
            assert "secret" not in str(connection.execute(sa.select(table)).all())
    assert "secret" not in repr(PASSWORD)
    host.error = errors.GuestFailed("no")
    with pytest.raises(errors.GuestFailed):
        ask(cell, host, SetPassword(user="root", password="other"))
    assert sorted(actions(cell)) == [("changePassword", "done", ""), ("changePassword", "failed", "no")]
    assert cell.record(SERVER).spec.sealed_password == sealed


def test_what_a_guest_posts_is_kept_until_it_is_cleared(cell: CellUnderTest) -> None:
    host = str(cell.record(SERVER).host)

    def post(host: str, password: str) -> None:
        server_field_updates.keep_posted_password(cell.database, host, SERVER, password)

    before = cell.record(SERVER).version
    post("another", "b3RoZXI=")
    assert cell.record(SERVER).version == before
    post(host, "c2VhbGVk")
    post(host, "b3RoZXI=")
    kept = cell.record(SERVER)
    assert (kept.spec.sealed_password, kept.version > before) == ("c2VhbGVk", True)
    with cell.database.read() as connection:
        assert "c2VhbGVk" in str(feed.list_after(connection, 0, 100).entries[-1])
    server_field_updates.update_server(cell.database, CONTEXT, SERVER, {"sealed_password": ""})
    post(host, "b3RoZXI=")
    assert cell.record(SERVER).spec.sealed_password == "b3RoZXI="


@pytest.mark.parametrize(
    "key", ["", "nonsense", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGSXS8dJ/0bBcHAGQbbMXNbHMrFbOfVTQrqf5hPCN+kk"]
)
def test_what_no_key_can_seal_is_not_kept(key: str) -> None:
    assert guest_passwords.seal("secret", key) == ""


@pytest.mark.parametrize(
    ("question", "name", "states"),
    [
        (PASSWORD, "changePassword", {VmState.ACTIVE}),
        (
            InjectNmi(),
            "trigger_crash_dump",
            {VmState.ACTIVE, VmState.PAUSED, VmState.RESCUED, VmState.RESIZED, VmState.ERROR},
        ),
    ],
)
def test_a_guest_is_told_something_in_novas_states_only(
    cell: CellUnderTest, question: GuestQuestion, name: str, states: set[VmState]
) -> None:
    host = OneHost()
    for state in set(VmState) - {VmState.DELETED}:
        set_state(cell, vm_state=state)
        before = len(host.asked)
        if state in states:
            ask(cell, host, question)
        else:
            with pytest.raises(errors.Conflict, match=f"Cannot '{name}' instance .* in vm_state {state}"):
                ask(cell, host, question)
        assert len(host.asked) - before == (state in states)
    set_state(cell, vm_state=VmState.ACTIVE)
    cell.begin(SERVER, Operation.STOP)
    with pytest.raises(errors.Conflict, match="in task_state powering-off"):
        ask(cell, host, question)
