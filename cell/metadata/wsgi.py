"""gunicorn's target, for a metadata service in several processes: the file in CELLCLOUD_CONFIG says which cell's."""

from __future__ import annotations

import os

from cell.metadata.__main__ import build
from cellcloud.config import load

application = build(load(os.environ["CELLCLOUD_CONFIG"])).application
