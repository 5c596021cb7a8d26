"""What operators ask about scheduling: why, what if, and by which policies. Each cell answers for itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from cellcloud import errors
from cellcloud.db import flavors, server_lists
from cellcloud.db.server_conditions import ServerQuery
from cellcloud.model.decision import PolicyRecord, Shape
from cellcloud.model.explanation import CellAggregate, CellPolicy, CellShadow, Explanation, Replayed
from cellcloud.model.flavor import Flavor
from cellcloud.model.host import Aggregate
from top_api.request_pipeline import Call, Resource
from top_api.schemas import operator_scheduling as schemas
from top_api.service_api_definition import OPERATOR

T = TypeVar("T")
RULE = "cellcloud:operator"
BUDGET = 60.0  # seconds; a decision is made again from a long log
MOST = 10

scheduling = Resource("scheduling", OPERATOR)


# ---- why -------------------------------------------------------------------------------------------------------------
@scheduling.route("GET", "/explanations", RULE, query=schemas.WHY)
def explain(call: Call) -> dict[str, Any]:
    """Every cell that was asked says why."""
    key, host, most = call.param("key") or "", call.param("host"), int(call.param("most") or MOST)
    context = call.context.with_budget(BUDGET)
    answers = _ask(
        call, call.param("cell"), lambda cell: call.services.cells.scheduler(cell).explain(context, key, host, most)
    )
    found = [replace(one, cell=cell) for cell, told in answers.items() if isinstance(told, list) for one in told]
    if not found:
        _raise_silence(answers)
        raise errors.NotFound(_unknown(call, key))
    return {"explanations": sorted(found, key=_by_time)}


@scheduling.route("POST", "/decisions/<decision>/replay", RULE, body=schemas.REPLAY)
def replay(call: Call, decision: str) -> dict[str, Any]:
    context = call.context.with_budget(BUDGET)
    policy = call.body.get("policy")
    answers = _ask(
        call, call.body.get("cell"), lambda cell: call.services.cells.scheduler(cell).replay(context, decision, policy)
    )
    for cell, told in answers.items():
        if isinstance(told, Replayed):
            return {"replayed": replace(told, cell=cell)}
    for told in answers.values():
        if isinstance(told, errors.CellcloudError) and not isinstance(told, errors.NotFound | errors.TryLater):
            raise told
    _raise_silence(answers)
    raise errors.NotFound(f"No cell has a decision {decision[:64]}.")


def _by_time(told: Explanation) -> Any:
    return told.at


def _unknown(call: Call, key: str) -> str:
    """Return what to say of a key that no cell has a decision for."""
    query = ServerQuery(project_id=None, equal={"id": [key[:64]]}, deleted=None, limit=1)
    with call.services.database.read() as connection:
        found = server_lists.list_records(connection, query)
    if found:
        return f"No cell keeps a decision about server {key[:64]}: none was asked, or it is too long ago."
    return f"No cell knows a server, request or decision {key[:64]}."


# ---- what if ---------------------------------------------------------------------------------------------------------
@scheduling.route("POST", "/plans/fits", RULE, body=schemas.FITS)
def plan_fits(call: Call) -> dict[str, Any]:
    flavor = _flavor(call, call.body["flavor"])
    shape = Shape(flavor=flavor, resources=flavor.resources(), zone=call.body.get("zone"))
    context = call.context.with_budget(BUDGET)
    answers = _ask(
        call,
        call.body.get("cell"),
        lambda cell: call.services.cells.scheduler(cell).plan_fits(context, shape, call.body["servers"]),
    )
    return {"fits": [replace(told, cell=cell) for cell, told in _all(answers).items()]}


@scheduling.route("POST", "/plans/loss", RULE, body=schemas.LOSS)
def plan_loss(call: Call) -> dict[str, Any]:
    """Each cell plans for its own hosts: servers do not leave their cell."""
    hosts, context = call.body["hosts"], call.context.with_budget(BUDGET)
    cells: dict[str, list[str]] = {}
    known = _ask(call, None, lambda cell: call.services.cells.conductor(cell).list_hosts(context))
    cell_of = {one.host: cell for cell, told in known.items() if isinstance(told, list) for one in told}
    for host in hosts:
        if host not in cell_of:
            _raise_silence(known)
            raise errors.NotFound(f"Compute host {host[:255]} could not be found.")
        cells.setdefault(cell_of[host], []).append(host)
    answers = call.services.cells.ask_each(
        list(cells),
        lambda cell: call.services.cells.scheduler(cell).plan_loss(context, cells[cell], call.body["drain"]),
    )
    return {"losses": [replace(told, cell=cell) for cell, told in _all(answers).items()]}


def _flavor(call: Call, wanted: str) -> Flavor:
    """By id, else by name; or of figures, VCPUS:MIB:GIB. Raises NotFound."""
    with call.services.database.read() as connection:
        found = flavors.list_flavors(connection, project_id=None)
    for flavor in (*(one for one in found if one.id == wanted), *(one for one in found if one.name == wanted)):
        return flavor
    figures = wanted.split(":")
    if len(figures) == 3 and all(figure.isdecimal() and len(figure) < 10 for figure in figures):
        vcpus, memory_mb, root_gb = map(int, figures)
        return Flavor(id=wanted, name=wanted, vcpus=vcpus, memory_mb=memory_mb, root_gb=root_gb)
    raise errors.NotFound(f"Flavor {wanted[:255]} could not be found.")


# ---- policies, and copies of aggregates -----------------------------------------------------------------------------
@scheduling.route("GET", "/policies", RULE, query=schemas.CELL)
def list_policies(call: Call) -> dict[str, Any]:
    context = call.services.cells.budget(call.context)
    answers = _ask(
        call, call.param("cell"), lambda cell: call.services.cells.scheduling_store(cell).list_policies(context)
    )
    return {"policies": _of_cells(answers)}


@scheduling.route("POST", "/policies", RULE, body=schemas.ADD_POLICY)
def add_policy(call: Call) -> dict[str, Any]:
    context, body = call.services.cells.budget(call.context), call.body
    answers = _ask(
        call,
        body.get("cell"),
        lambda cell: [
            call.services.cells.scheduling_store(cell).add_policy(context, body["document"], body.get("comment", ""))
        ],
    )
    return {"policies": _of_cells(answers)}


@scheduling.route("POST", "/policies/roles", RULE, body=schemas.SET_ROLE)
def set_role(call: Call) -> dict[str, Any]:
    context, body = call.services.cells.budget(call.context), call.body
    answers = _ask(
        call,
        body.get("cell"),
        lambda cell: call.services.cells.scheduling_store(cell).set_policy_role(context, body["role"], body["version"]),
    )
    return {"policies": _of_cells(answers)}


@scheduling.route("GET", "/policies/shadow", RULE, query=schemas.CELL)
def show_shadow(call: Call) -> dict[str, Any]:
    """Of the cells that have one."""
    context = call.context.with_budget(BUDGET)
    answers = _ask(
        call, call.param("cell"), lambda cell: call.services.cells.scheduling_store(cell).summarise_shadow(context)
    )
    found = [
        CellShadow(cell=cell, summary=told)
        for cell, told in answers.items()
        if not isinstance(told, errors.CellcloudError)
    ]
    if not found:
        _raise_silence(answers)
        raise errors.NotFound("No policy is tried in the shadow of the active one.")
    return {"shadows": found}


@scheduling.route("GET", "/aggregates", RULE, query=schemas.CELL)
def list_aggregates(call: Call) -> dict[str, Any]:
    """Return the copies that cells' schedulers go by."""
    context = call.services.cells.budget(call.context)
    answers = _ask(
        call, call.param("cell"), lambda cell: call.services.cells.scheduling_store(cell).list_aggregates(context)
    )
    return {"aggregates": _aggregates(answers)}


# ---- asking cells ----------------------------------------------------------------------------------------------------
def _ask(call: Call, cell: str | None, ask: Callable[[str], T]) -> dict[str, T | errors.CellcloudError]:
    """Every cell, or the one that is named. Raises NotFound for one that there is not."""
    names = [one.name for one in call.services.cells.list_cells()]
    if cell is not None and cell not in names:
        raise errors.NotFound(f"Cell {cell[:255]} could not be found.")
    return call.services.cells.ask_each(names if cell is None else [cell], ask)


def _all(answers: dict[str, T | errors.CellcloudError]) -> dict[str, T]:
    """Return what each cell answered; an error of any is the error of all."""
    found = {cell: told for cell, told in answers.items() if not isinstance(told, errors.CellcloudError)}
    for cell, told in answers.items():
        if isinstance(told, errors.CellcloudError):
            others = f" ({', '.join(found)} answered; --cell asks one alone)" if found else ""
            raise type(told)(f"Cell {cell}: {told.message}{others}", detail=told.detail)
    return found


def _of_cells(answers: dict[str, list[PolicyRecord] | errors.CellcloudError]) -> list[CellPolicy]:
    return [CellPolicy(cell=cell, policy=one) for cell, found in _all(answers).items() for one in found]


def _aggregates(answers: dict[str, list[Aggregate] | errors.CellcloudError]) -> list[CellAggregate]:
    return [CellAggregate(cell=cell, aggregate=one) for cell, found in _all(answers).items() for one in found]


def _raise_silence(answers: dict[str, Any]) -> None:
    """Nobody knows while somebody is silent. Raises Unreachable."""
    silent = [cell for cell, told in answers.items() if isinstance(told, errors.TryLater)]
    if silent:
        raise errors.Unreachable(f"No answer from {', '.join(silent)}; the other cells know nothing of it.")
