"""Prometheus figures that every process counts the same way."""

from __future__ import annotations

from prometheus_client import Counter, Histogram, generate_latest

CALLS = Counter("cellcloud_rpc_calls_total", "RPC calls served", ["interface", "method", "outcome"])
STEPS = Counter("cellcloud_steps_total", "Workflow steps taken", ["step", "direction", "outcome"])
CLAIMS = Counter("cellcloud_claims_total", "Claims tried", ["outcome"])
PURGED = Counter("cellcloud_purged_rows_total", "Rows forgotten after their time", ["table"])
REQUESTS = Histogram("cellcloud_api_seconds", "API requests, seconds", ["method", "route", "status"])


def render() -> bytes:
    """All figures of this process in Prometheus' text form."""
    return bytes(generate_latest())
