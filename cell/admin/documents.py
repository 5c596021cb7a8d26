"""Files that operators write: JSON or YAML, one document each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cellcloud import errors

MOST_BYTES = 1 << 20


def read_document(path: str) -> Any:
    """Return what a file says; JSON is YAML, too. Raises Invalid."""
    try:
        data = Path(path).read_bytes()
        if len(data) > MOST_BYTES:
            raise errors.Invalid(f"{path} is larger than {MOST_BYTES} bytes.")
        return yaml.safe_load(data)
    except OSError as error:
        raise errors.Invalid(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise errors.Invalid(f"{path} is neither JSON nor YAML.", detail=str(error)) from error


def read_object(path: str) -> dict[str, object]:
    """Return a document that is an object. Raises Invalid."""
    found = read_document(path)
    if not isinstance(found, dict):
        raise errors.Invalid(f"{path} must hold one object: keys and their values.")
    return found
