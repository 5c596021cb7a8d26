"""Embedded outside services: identity, images, networks and volumes on one machine, without OpenStack."""

from __future__ import annotations

from dataclasses import dataclass

from cellcloud.embedded.identity import EmbeddedIdentity
from cellcloud.embedded.images import EmbeddedImages
from cellcloud.embedded.networks import EmbeddedNetworks
from cellcloud.embedded.volume import VolumeService


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedServices:
    """The services of one process."""

    identity: EmbeddedIdentity
    images: EmbeddedImages
    networks: EmbeddedNetworks
    volumes: VolumeService
