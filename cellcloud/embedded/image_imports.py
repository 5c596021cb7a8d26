"""Imports of the embedded image service: images get bytes that were staged, or that are somewhere on the web, while
nobody waits. Each is a task that tells how it ended.

An import holds its incoming file locked from before its record says that it runs: a sweep tells one at work from one
whose process is gone.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cellcloud import clock, errors
from cellcloud.db import image_tasks as db
from cellcloud.db import images
from cellcloud.db.engine import Database, retried, transact
from cellcloud.db.listing import Page
from cellcloud.embedded.image_contents import ImageContents
from cellcloud.embedded.image_files import STALE_SECONDS, IncomingFile
from cellcloud.embedded.web_download import WebDownloadRules, check_uri, download
from cellcloud.model.image import Image, ImageTask

LOG = logging.getLogger(__name__)
STORE = "file"  # the one that there is
DIRECT, WEB = "glance-direct", "web-download"
METHODS = (DIRECT, WEB)
KEPT_SECONDS = 48 * 3600.0  # that an ended task is shown: Glance's
MOST_SHOWN = 100  # tasks of one image
_TASK, _GOING, _FAILED = "os_glance_import_task", "os_glance_importing_to_stores", "os_glance_failed_import"


class ImportWorkers:
    """Threads for imports: ``at_once`` work, half of them for one project; others wait, ``most`` in all and a quarter
    of one project."""

    def __init__(self, at_once: int = 4, most: int = 64) -> None:
        self._at_once = at_once
        self._most = most
        self._changed = threading.Condition()
        self._here: Counter[str] = Counter()
        self._working: Counter[str] = Counter()

    def start(self, project_id: str, work: Callable[[], None]) -> None:
        """Do it on a thread that the process does not wait for when it ends. Raises Busy."""
        with self._changed:
            if self._here.total() >= self._most or self._here[project_id] >= self._most // 4:
                raise errors.Busy("Too many images are being imported; try again shortly.")
            self._here[project_id] += 1
        threading.Thread(target=self._turn, args=(project_id, work), name="image-import", daemon=True).start()

    def _turn(self, project_id: str, work: Callable[[], None]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._has_slot(project_id))
            self._working[project_id] += 1
        try:
            work()
        finally:
            with self._changed:
                for counted in (self._here, self._working):
                    counted[project_id] -= 1
                    if not counted[project_id]:
                        del counted[project_id]
                self._changed.notify_all()

    def _has_slot(self, project_id: str) -> bool:
        return self._working.total() < self._at_once and self._working[project_id] < max(1, self._at_once // 2)


class EmbeddedImageImports:
    """``get_own``: the image that a caller may change; raises NotFound, Forbidden. ``start``: what does the work."""

    def __init__(
        self,
        database: Database,
        contents: ImageContents,
        get_own: Callable[[str, str, bool], Image],
        rules: WebDownloadRules,
    ) -> None:
        self._database = database
        self._contents = contents
        self._get_own = get_own
        self._rules = rules
        self.start: Callable[[str, Callable[[], None]], None] = ImportWorkers().start

    def begin_import(
        self,
        image_id: str,
        request: Mapping[str, Any],
        *,
        project_id: str,
        is_admin: bool,
        user_id: str = "",
        request_id: str = "",
    ) -> ImageTask:
        """Begin to import what the request's method names, checked before. Raises NotFound, Forbidden, Conflict for an
        image that is not ready for it, Invalid for a URI that may not be asked, Busy."""
        image = self._get_own(image_id, project_id, is_admin)
        method = request["method"]["name"]
        now = clock.now()
        task = ImageTask(
            id=str(uuid.uuid4()),
            image_id=image.id,
            type="api_image_import",
            status="pending",
            owner=project_id,
            user_id=user_id,
            request_id=request_id,
            input={"image_id": image.id, "import_req": dict(request), "backend": [STORE]},
            created_at=now,
            updated_at=now,
        )
        _check_ready(image, method)
        uri = str(request["method"].get("uri") or "") if method == WEB else None
        if uri is not None:
            check_uri(uri, self._rules)
        part = self._contents.files.receive(image.id)
        try:
            image = _begin(self._database, task, method)
            self.start(project_id, lambda: self._run(task, image, uri, part))
        except BaseException as error:
            part.close()
            if isinstance(error, errors.Busy):
                self._give_up(task, error)
            raise
        return task

    def get_task(self, task_id: str) -> ImageTask:
        """Return a task. Raises NotFound."""
        with self._database.read() as c:
            task = db.find(c, task_id)
        if task is None:
            raise errors.NotFound(f"No task found with ID {task_id[:64]}")
        return task

    def list_tasks(self, page: Page) -> list[ImageTask]:
        """Return a page of all tasks. Raises Invalid for an unknown marker."""
        try:
            with self._database.read() as c:
                return db.list_tasks(c, page)
        except errors.NotFound as error:
            raise errors.Invalid(error.message) from None

    def list_tasks_of(self, image_id: str, *, project_id: str, is_admin: bool) -> list[ImageTask]:
        """Return what a project has done to an image, or, for an administrator, all have; the last first."""
        with self._database.read() as c:
            return db.list_of_image(c, image_id, owner=None if is_admin else project_id, most=MOST_SHOWN)

    def sweep_tasks(self, live: set[str]) -> None:
        """End the tasks that nobody is at any more: none of an image that something still comes in for."""
        with self._database.read() as c:
            left = db.list_left(c, live, older_than=STALE_SECONDS)
        for task, status in left:
            if status in ("active", "deactivated"):
                _end(self._database, task, None)
            else:
                _end(self._database, task, "The image service ended during the import.")
        transact(self._database, lambda c: db.delete_old(c, older_than=KEPT_SECONDS))

    def _run(self, task: ImageTask, image: Image, uri: str | None, part: IncomingFile) -> None:
        with part:
            why: str | None = "The import failed."
            try:
                transact(self._database, lambda c: db.begin(c, task.id))
                self._contents.fill(image, self._data(image, uri), part)
                why = None
            except errors.CellcloudError as error:
                LOG.warning(
                    "image not imported", extra={"image": image.id, "why": error.message, "detail": error.detail}
                )
                why = error.message
            except Exception:
                LOG.exception("image not imported", extra={"image": image.id})
            finally:
                try:
                    _end(self._database, task, why)
                except errors.CellcloudError as error:  # a sweep does it then
                    LOG.warning("import not ended", extra={"image": image.id, "why": error.message})

    def _data(self, image: Image, uri: str | None) -> Iterator[bytes]:
        yield from self._contents.open_staged(image.id) if uri is None else download(uri, self._rules)

    def _give_up(self, task: ImageTask, error: errors.Busy) -> None:
        def queue(c: Any) -> None:
            images.move_status(c, task.image_id, "importing", "queued", {"size": None})

        self._contents.files.drop(task.image_id)
        transact(self._database, queue)
        _end(self._database, task, error.message)


def _check_ready(image: Image, method: str) -> None:
    """Check that an image can be imported that way. Raises Conflict."""
    if image.status == "active":
        raise errors.Conflict("Image with status active cannot be target for import")
    if method == WEB and image.status != "queued":
        raise errors.Conflict(f"Image needs to be in 'queued' state to use '{method}' method")
    if method == DIRECT and image.status != "uploading":
        raise errors.Conflict(f"Image needs to be staged before '{method}' method can be used")
    for name in ("container_format", "disk_format"):
        if not getattr(image, name):
            raise errors.Conflict(f"'{name}' needs to be set before import")


@retried
def _begin(database: Database, task: ImageTask, method: str) -> Image:
    """Let the image be imported; what it is from here on. Raises Conflict, NotFound."""
    with database.write() as c:
        before = images.find_image(c, task.image_id, lock=True)
        if before is None:
            raise errors.NotFound(f"No image found with ID {task.image_id}")
        _check_ready(before, method)
        if method == DIRECT and not images.take_staged(c, before.id):
            raise errors.Conflict(f"Image needs to be staged before '{method}' method can be used")
        if method == WEB:
            images.move_status(c, before.id, "queued", "importing")
        images.note(c, before, {_TASK: task.id, _GOING: STORE, _FAILED: ""})
        db.insert(c, task)
        image = images.find_image(c, before.id)
    if image is None:
        raise errors.NotFound(f"No image found with ID {task.image_id}")
    return image


@retried
def _end(database: Database, task: ImageTask, why: str | None) -> None:
    """Note how an import ended, with the task and with its image. ``why`` it failed; None: it did not."""
    with database.write() as c:
        image = images.find_image(c, task.image_id, lock=True)
        if image is not None and image.properties.get(_TASK) == task.id:
            images.note(c, image, {_GOING: "", _FAILED: "" if why is None else STORE})
        if why is None:
            db.end(c, task.id, "success", {"image_id": task.image_id})
        else:
            db.end(c, task.id, "failure", None, why)
