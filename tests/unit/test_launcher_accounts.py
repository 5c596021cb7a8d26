"""The accounts of a cell's queue on a broker of the operator's own."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from click.testing import CliRunner

from cellcloud.launcher.cli import main
from cellcloud.model.metadata_signature import node_key


def make(kept: Path, *words: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["accounts", *words, "--kept", str(kept)])
    assert result.exit_code == code, result.output
    return result.output


def test_accounts_are_made_once_and_hosts_are_added(tmp_path: Path) -> None:
    kept = tmp_path / "east.json"
    made = json.loads(make(kept, "east", "--host", "c1.example.com"))
    first = json.loads(kept.read_text())
    names = {"top", "conductor", "scheduler", "consoleauth", "metadata", "host.c1.example.com", "volume.c1.example.com"}
    assert {user["name"] for user in made["users"]} == set(first["passwords"]) == names
    assert len(set(first["passwords"].values())) == len(names)
    assert all(password not in json.dumps(made) for password in first["passwords"].values())
    rights = {each["user"]: each for each in made["permissions"]}
    assert rights["host.c1.example.com"]["configure"] == r"^(east/host\.c1\.example\.com(/.*)?)\z"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    make(kept, "east", "--host", "c2")
    second = json.loads(kept.read_text())
    assert first["passwords"].items() <= second["passwords"].items()
    secret = second["metadata"]["secret"].encode()
    assert second["metadata"]["node_key of c2"] == node_key(secret, "c2").hex()


def test_names_that_could_be_taken_for_others_are_refused(tmp_path: Path) -> None:
    for words in (("east", "--host", "a/b"), ("e|w",), ("east", "--host", "a*")):
        make(tmp_path / "kept.json", *words, code=1)
        assert not (tmp_path / "kept.json").exists()
