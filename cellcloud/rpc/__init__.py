"""Messages between services: one declaration per service makes its client and its server."""

from cellcloud.third_party_patches import use_threads

use_threads()  # before anything here loads oslo.messaging
