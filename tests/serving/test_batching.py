"""Requests share batches, and each gets the answer that it would get alone."""

import contextlib
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from gem_lightning.ecg import simulate, write_ecg
from gem_lightning.errors import EcgReadError, GemError
from gem_lightning.revision.options import VerifyOptions
from gem_lightning.serving.batching import BatchQueue
from gem_lightning.serving.service import Ask, CancelledError, EcgService
from gem_lightning.serving.uploads import Upload

slow = pytest.mark.slow


class Held:
    """A queue whose first batch waits until the others are there."""

    def __init__(self, answer=None, size=4):
        self.batches, self.begun, self.go_on = [], threading.Event(), threading.Event()
        self.answer = answer or (lambda jobs: [job.work for job in jobs])
        self.queue = BatchQueue(self.run, size)
        self.first = self.queue.submit("first", "first")
        assert self.begun.wait(10)

    def run(self, jobs):
        self.begun.set()
        assert self.go_on.wait(10)
        self.batches.append([job.work for job in jobs])
        return self.answer(jobs)


def test_waiting_jobs_of_one_key_are_answered_together_and_the_oldest_first():
    held = Held()
    keys = ["a", "b", "a", None, "a", "a", "a", None]
    jobs = [held.queue.submit(number, key) for number, key in enumerate(keys)]
    assert held.queue.waiting == 8
    held.go_on.set()
    assert [job.result() for job in jobs] == list(range(8))
    assert held.batches == [["first"], [0, 2, 4, 5], [1], [3], [6], [7]]
    held.queue.close()


def test_a_batch_waits_for_half_of_the_open_requests_and_a_lone_one_for_none():
    batches = []
    queue = BatchQueue(lambda jobs: batches.append(len(jobs)) or [0] * len(jobs), 4)
    with queue.request():
        assert queue.submit(0, "a").result() == 0
    with contextlib.ExitStack() as requests:
        for _ in range(4):
            requests.enter_context(queue.request())
        first = queue.submit(1, "a")
        second = queue.submit(2, "a")
        assert [first.result(), second.result()] == [0, 0]
    assert batches == [1, 2]
    queue.close()


def test_a_job_that_fails_costs_the_others_nothing():
    def answer(jobs):
        if any(job.work == "bad" for job in jobs):
            raise GemError("a bad one")
        return [job.work for job in jobs]

    held = Held(answer)
    jobs = [held.queue.submit(work, "a") for work in ("x", "bad", "y", "z")]
    held.go_on.set()
    assert [jobs[i].result() for i in (0, 2, 3)] == ["x", "y", "z"]
    with pytest.raises(GemError, match="a bad one"):
        jobs[1].result()
    held.queue.close()


def test_closing_ends_what_waits():
    held = Held()
    waiting = held.queue.submit("never", "a")
    closing = threading.Thread(target=held.queue.close)
    closing.start()
    held.go_on.set()
    closing.join()
    with pytest.raises(GemError, match="shutting down"):
        waiting.result()


@pytest.fixture(scope="module")
def service(gem_small):
    service = EcgService(gem_small, max_new_tokens=60)
    yield service
    service.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ecgs")
    kinds = ("sinus", "atrial_fibrillation", "lbbb", "av_block_1")
    return [write_ecg(simulate(k, seed=i).record, folder / f"{i}.dcm") for i, k in enumerate(kinds)]


def ask(service, path, question="", emit=None):
    with open(path, "rb") as file:
        return service.interpret([Upload(path.name, file)], Ask(question), emit)


def test_answers_do_not_depend_on_who_else_asks(service, files):
    questions = ["", "What is the rate?", "", "Is there a block? " * 20]
    alone = [ask(service, *each).text for each in zip(files, questions, strict=True)]
    sizes = []
    service.queue.sizes = sizes.append
    streams = [[] for _ in files]
    with ThreadPoolExecutor(4) as threads:
        given = zip([service] * 4, files, questions, [lambda kind, data, s=s: s.append((kind, data)) for s in streams])
        together = [found.text for found in threads.map(lambda each: ask(*each), given)]
    assert together == alone
    assert max(sizes) > 1
    for stream, text in zip(streams, alone, strict=True):
        assert "".join(data["delta"] for kind, data in stream if kind == "text").strip() == text


def test_processes_read_measure_and_revise_as_threads_do_and_a_crash_is_an_error(service, files, tmp_path):
    options = VerifyOptions("revise", complete=True)
    apart = EcgService(service.gem, max_new_tokens=60, workers=1)
    (tmp_path / "bad.dcm").write_bytes(b"no recording")
    try:
        with open(files[2], "rb") as file, open(files[2], "rb") as again:
            expected = service.interpret([Upload("a.dcm", file)], Ask("", options))
            found = apart.interpret([Upload("a.dcm", again)], Ask("", options))
        assert found.to_dict() == expected.to_dict() and (found.record.signal == expected.record.signal).all()
        with pytest.raises(EcgReadError) as error:
            ask(apart, tmp_path / "bad.dcm")
        with pytest.raises(EcgReadError, match=re.escape(str(error.value))):
            ask(service, tmp_path / "bad.dcm")
        with pytest.raises(GemError, match=r"expected a recording that can be read.* the process died"):
            apart._apart(os.abort)
        assert apart.verify(expected.record).features.heart_rate_bpm == expected.features.heart_rate_bpm
    finally:
        apart.close()


def test_a_client_that_goes_away_stops_the_model(service, files):
    def gone(kind, data):
        if kind == "text":
            raise CancelledError("gone")

    jobs = []
    submit = service.queue.submit
    service.queue.submit = lambda *args: jobs.append(submit(*args)) or jobs[-1]
    with pytest.raises(CancelledError):
        ask(service, files[0], emit=gone)
    service.queue.submit = submit
    whole = ask(service, files[0]).text
    assert len(jobs[0].result()) < len(whole)


@pytest.mark.parametrize("verify", ["revise", pytest.param("guide", marks=slow), pytest.param("rerank", marks=slow)])
def test_verified_texts_are_those_of_the_model_alone(service, files, verify):
    options = VerifyOptions(verify)
    expected = service.gem.interpret(files[1], max_new_tokens=60, seed=0, **vars(options)).text
    with open(files[1], "rb") as file:
        found = service.interpret([Upload("a.dcm", file)], Ask("", options))
    if verify != "rerank":  # which samples
        assert found.text == expected
    assert found.text
