"""What the API is made of: built once by ``app``, handed to every operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cellcloud.clients.identity import IdentityClient
from cellcloud.clients.image import ImageClient
from cellcloud.clients.network import NetworkClient
from cellcloud.clients.volume import VolumeClient
from cellcloud.config import Config
from cellcloud.db.engine import Database
from cellcloud.embedded import EmbeddedServices
from cellcloud.model.intent import Intent
from top_api.authorization import Enforcer
from top_api.cell_clients import Cells
from top_api.request_acceptance import Admission


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServices:
    """``dispatch`` takes intents just committed and returns at once; they are leased to ``owner``.
    ``embedded``: the services of this process whose APIs are served here too. ``volumes``: None where there are
    none."""

    config: Config
    enforcer: Enforcer
    database: Database
    identity: IdentityClient
    images: ImageClient
    networks: NetworkClient
    cells: Cells
    dispatch: Callable[[Sequence[Intent]], None]
    admission: Admission
    owner: str
    embedded: EmbeddedServices | None = None
    volumes: VolumeClient | None = None
