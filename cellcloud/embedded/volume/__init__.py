"""The embedded volume service: volumes as the top knows them; their content is with the volume services of cells."""

from __future__ import annotations

from cellcloud.embedded.volume.service import VolumeService

__all__ = ["VolumeService"]
