"""Transfers of volumes between projects, under both names that they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellcloud.embedded.volume import transfers as operations
from cellcloud.model.block_storage import Transfer
from top_api.embedded_api import volume_list_filters as lists
from top_api.embedded_api import volume_schemas as schemas
from top_api.embedded_api.error_formats import VOLUME as API
from top_api.embedded_api.volume_calls import check_id, find_volume, is_true, links, service_of, stamp, viewer_of
from top_api.request_pipeline import Call, Resource

volume_transfers = Resource("volume_transfers", API)
_OLD, _NEW = "os-volume-transfer", "volume-transfers"


def look_up(call: Call, words: Mapping[str, str]) -> None:
    """Find the offer that a path names. Raises NotFound for another project's."""
    transfer_id = words["transfer_id"]
    check_id(transfer_id, f"Transfer {transfer_id[:64]} could not be found.")
    call.found = operations.get_transfer(service_of(call), viewer_of(call), transfer_id)
    call.target = {"project_id": call.found.source_project_id}


def _declare(collection: str, **options: Any) -> None:
    root = f"/v3/{collection}"

    @volume_transfers.route("GET", root, "volume:get_all_transfers", **options)
    def list_transfers(call: Call) -> dict[str, Any]:
        return _list(call, (collection,), detailed=False)

    @volume_transfers.route("GET", f"{root}/detail", "volume:get_all_transfers", **options)
    def list_transfers_in_detail(call: Call) -> dict[str, Any]:
        return _list(call, (collection, "detail"), detailed=True)

    @volume_transfers.route("POST", root, "volume:create_transfer", status=202, body=schemas.TRANSFER, **options)
    def create_transfer(call: Call) -> dict[str, Any]:
        wanted = call.body["transfer"]
        volume = find_volume(call, wanted["volume_id"])
        name = wanted.get("name")
        made, key = operations.create_transfer(
            service_of(call),
            viewer_of(call),
            volume.id,
            name.strip() if name is not None else None,
            no_snapshots=is_true(wanted.get("no_snapshots", False), "no_snapshots"),
        )
        return {"transfer": _view(call, made, collection) | {"auth_key": key}}

    @volume_transfers.route("GET", f"{root}/<transfer_id>", "volume:get_transfer", lookup=look_up, **options)
    def show_transfer(call: Call, transfer_id: str) -> dict[str, Any]:
        return {"transfer": _view(call, call.found, collection)}

    @volume_transfers.route(
        "DELETE", f"{root}/<transfer_id>", "volume:delete_transfer", status=202, lookup=look_up, **options
    )
    def delete_transfer(call: Call, transfer_id: str) -> None:
        operations.delete_transfer(service_of(call), viewer_of(call), transfer_id)

    @volume_transfers.route(
        "POST",
        f"{root}/<transfer_id>/accept",
        "volume:accept_transfer",
        status=202,
        body=schemas.TRANSFER_ACCEPT,
        **options,
    )
    def accept_transfer(call: Call, transfer_id: str) -> dict[str, Any]:
        check_id(transfer_id, f"Transfer {transfer_id[:64]} could not be found.")
        key = str(call.body["accept"]["auth_key"])
        made = operations.accept_transfer(service_of(call), viewer_of(call), transfer_id, key)
        return {"transfer": _summary(call, made, collection)}


def _list(call: Call, path: tuple[str, ...], *, detailed: bool) -> dict[str, Any]:
    service, project_id = service_of(call), lists.project_of(call)
    view = _view if detailed else _summary
    return lists.listed(
        call,
        lists.TRANSFERS,
        lambda page: operations.list_transfers(service, project_id, page),
        lambda transfer: view(call, transfer, path[0]),
        path=path,
    )


def _summary(call: Call, transfer: Transfer, collection: str) -> dict[str, Any]:
    return {
        "id": transfer.id,
        "volume_id": transfer.volume_id,
        "name": transfer.name,
        "links": links(call, collection, transfer.id),
    }


def _view(call: Call, transfer: Transfer, collection: str) -> dict[str, Any]:
    shown = _summary(call, transfer, collection) | {"created_at": stamp(transfer.created_at)}
    if call.version >= (3, 55):
        shown["no_snapshots"] = transfer.no_snapshots
    if call.version >= (3, 57):
        shown |= {
            "destination_project_id": transfer.destination_project_id,
            "source_project_id": transfer.source_project_id,
            "accepted": transfer.accepted,
        }
    return shown


_declare(_OLD)
_declare(_NEW, since=(3, 55))
