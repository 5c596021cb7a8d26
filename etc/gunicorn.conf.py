"""gunicorn -c etc/gunicorn.conf.py top_api.wsgi:application

CELLCLOUD_CONFIG names the top cell's option file.
"""

import os

from cellcloud.config import load

_top = load(os.environ["CELLCLOUD_CONFIG"]).top

if _top.tls_certificate:
    certfile, keyfile = _top.tls_certificate, _top.tls_key
bind = f"{_top.bind_host}:{_top.bind_port}"
workers = _top.workers
threads = _top.threads
worker_class = "cellcloud.launcher.web_server.FrontWorker"
timeout = 120
graceful_timeout = 8
keepalive = 30
control_socket_disable = True
