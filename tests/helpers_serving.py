"""Recordings to send to the application, and ways to read what it sends."""

import json

import pydicom.examples

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
