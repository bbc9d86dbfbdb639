"""Resumable runner for work over many records: items → a function → rows in atomic shards.

A job is a folder::

    job.json              settings that change the rows; a run with other settings is refused
    items.jsonl           the items, in order, fixed by the first run
    shards/000012.parquet rows of one block of items (or .jsonl), written atomically
    shards/000012.broken  items of that block that failed, one JSON line each with the reason
    0of1.lock             held by the process that works on this part

A block is done when its shard exists: a run killed at any moment loses only blocks in flight and repeats no finished
one, and any number of machines can use the folder (or merge their folders, see :func:`merge`).
"""

from gem_lightning.jobs.engines import Engine, LocalEngine, RayEngine, SubmititEngine
from gem_lightning.jobs.files import NoRoomError, replace_folder, room_for, write_atomically
from gem_lightning.jobs.folder import Item, JobError, JobFolder, Row
from gem_lightning.jobs.merge import merge
from gem_lightning.jobs.names import file_name
from gem_lightning.jobs.progress import Progress, duration
from gem_lightning.jobs.runner import failure, follow_parent, one_thread_each, run, run_async, work_through
from gem_lightning.jobs.workers import DiedError, Workers

__all__ = [
    "DiedError",
    "Engine",
    "Item",
    "JobError",
    "JobFolder",
    "LocalEngine",
    "NoRoomError",
    "Progress",
    "RayEngine",
    "Row",
    "SubmititEngine",
    "Workers",
    "duration",
    "failure",
    "file_name",
    "follow_parent",
    "merge",
    "one_thread_each",
    "replace_folder",
    "room_for",
    "run",
    "run_async",
    "work_through",
    "write_atomically",
]
