"""gunicorn's target: ``top_api.wsgi:application``, with CELLCLOUD_CONFIG naming the top cell's option file."""

from __future__ import annotations

import logging
import os

from cellcloud import errors, log
from cellcloud.config import load
from cellcloud.db import rollback_detection
from cellcloud.db.engine import Database
from cellcloud.service import serve_worker_health
from top_api.app import create_app

_config = load(os.environ["CELLCLOUD_CONFIG"])
log.set_up("top.api", level=_config.log_level)
_database = Database(_config.top.connection, timeout=_config.database_timeout)
try:
    rollback_detection.top_marker(_database, _config.state_dir).look()
except errors.TryLater as error:
    logging.getLogger(__name__).warning("the database is not compared with its mark", extra={"why": error.message})
serve_worker_health("top.api", _config.state_dir / "run")
application = create_app(_config, database=_database)
