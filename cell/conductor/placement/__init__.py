"""Reserve and confirm: a cell's half of placing a server.

``reserve`` schedules, claims and holds; ``confirm`` turns a held server into a run. Both are idempotent by server id,
so the top may repeat them as often as messages get lost. A hold nobody confirms expires and gives its claim back; the
server may be held again then, at a higher version.
"""
