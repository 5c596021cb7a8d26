"""gunicorn's target: ``top_api.wsgi:application``, with CELLCLOUD_CONFIG naming the top cell's option file."""

from __future__ import annotations

import os

from cellcloud import log
from cellcloud.config import load
from top_api.app import create_app

_config = load(os.environ["CELLCLOUD_CONFIG"])
log.set_up("top.api", level=_config.log_level)
application = create_app(_config)
