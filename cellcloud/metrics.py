"""Prometheus figures of this process: what operators watch. docs/operators.md says which to alert on.

Each process counts for itself, and serves its figures on the unix socket that answers for its health. Times are in
seconds.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, generate_latest

SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

# ---- requests and calls ----------------------------------------------------------------------------------------------
REQUESTS = Histogram("cellcloud_api_seconds", "API requests, seconds", ["method", "route", "status"])
CALLS = Counter("cellcloud_rpc_calls_total", "RPC calls served", ["interface", "method", "outcome"])
CALL_TIMES = Histogram(
    "cellcloud_rpc_seconds", "RPC calls made, seconds until the answer", ["cell", "method", "outcome"], buckets=SHORT
)
CALLS_WAITING = Gauge("cellcloud_rpc_calls_under_way", "RPC calls made that have no answer yet", ["cell"])
BREAKERS = Gauge("cellcloud_breaker_open", "1 while a cell's service is left alone", ["cell", "interface"])
BATCHES = Histogram("cellcloud_batch_items", "Items done together", ["batch"], buckets=SIZES)
BATCH_DEPTH = Gauge("cellcloud_batch_waiting", "Items that wait for the next batch", ["batch"])

# ---- the top ---------------------------------------------------------------------------------------------------------
CELLS = Gauge("cellcloud_cell_up", "1 while the router is answered by the cell", ["cell"])
FEED_LAG = Gauge("cellcloud_feed_lag_entries", "Entries of a cell's feed that the index has not taken in", ["cell"])
INTENTS = Gauge("cellcloud_intents_open", "Accepted requests that no cell has settled", ["kind"])
INTENT_AGE = Gauge("cellcloud_intent_oldest_seconds", "Age of the oldest of them", ["kind"])

# ---- cells -----------------------------------------------------------------------------------------------------------
CHANGE_LOG = Gauge("cellcloud_change_log_lag_entries", "Changes that a scheduler has not read", ["scheduler"])
RANKING = Histogram("cellcloud_rank_seconds", "Ranking of a batch of servers, seconds", ["cell"], buckets=SHORT)
REFUSALS = Counter("cellcloud_filter_refusals_total", "Servers without a host, by filters that refused", ["filter"])
CLAIMS = Counter("cellcloud_claims_total", "Claims tried", ["outcome"])
RUNS = Gauge("cellcloud_runs_unfinished", "Operations under way or waiting", ["cell", "operation"])
RUN_AGE = Gauge("cellcloud_run_oldest_seconds", "Age of the oldest of them", ["cell", "operation"])
STEPS = Counter("cellcloud_steps_total", "Workflow steps taken", ["step", "direction", "outcome"])
REPORTS = Gauge("cellcloud_reports_waiting", "Results of commands that no conductor has taken yet", ["host"])

# ---- databases -------------------------------------------------------------------------------------------------------
POOL = Gauge("cellcloud_database_connections", "Connections of the pool in use", ["database"])
POOL_SIZE = Gauge("cellcloud_database_connections_most", "Connections that the pool may have", ["database"])
RACES = Counter("cellcloud_database_races_total", "Transactions run again since another one won")
PURGED = Counter("cellcloud_purged_rows_total", "Rows forgotten after their time", ["table"])


def render() -> bytes:
    """Return all figures of this process in Prometheus' text form."""
    return bytes(generate_latest())
