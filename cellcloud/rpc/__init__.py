"""Messages between services: one declaration per service makes its client and its server."""

import cellcloud.third_party_patches  # noqa: F401 -- first, before anything here loads oslo.messaging
