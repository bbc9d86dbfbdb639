"""Recordings to send to the application, and ways to read what it sends."""

import contextlib
import json
import threading
import time

import pydicom.examples
import uvicorn

DICOM = pydicom.examples.get_path("waveform")
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def upload(*paths, field="files"):
    return [(field, (path.name, path.read_bytes())) for path in paths]


def events(lines):
    """(event, data) of each server-sent event."""
    found = []
    for line in lines:
        if line.startswith("event: "):
            found.append((line.removeprefix("event: "), None))
        elif line.startswith("data: "):
            found[-1] = (found[-1][0], json.loads(line.removeprefix("data: ")))
    return found


@contextlib.contextmanager
def serving(app):
    """The address of an application on loopback."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
