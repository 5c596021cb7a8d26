"""noVNC's files, as the console proxy shows them: plain files below one directory, nothing else."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mp3": "audio/mpeg",
    ".oga": "audio/ogg",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".woff": "font/woff",
}


def find_page(root: Path, target: str) -> Path | None:
    """Return the file that a request's target names; None for what is no plain file of a kind that is shown.

    ``root`` must be free of symbolic links. Links below it are not followed.
    """
    path = unquote(target.partition("?")[0], errors="replace")
    parts = path.split("/")[1:]
    if not parts or any(part.startswith(".") or not part or not part.isprintable() or "\\" in part for part in parts):
        return None
    page = root.joinpath(*parts)
    try:
        shown = page.suffix in TYPES and page.resolve(strict=True) == page and page.is_file()
    except OSError:
        return None
    return page if shown else None
