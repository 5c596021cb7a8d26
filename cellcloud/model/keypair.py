"""Keypair: a named public key of a user."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Keypair:
    """``fingerprint`` is MD5 in colon form for ssh keys, as the API shows."""

    name: str
    user_id: str
    type: str = "ssh"
    public_key: str = ""
    fingerprint: str = ""
    created_at: dt.datetime | None = None
    id: int = 0
