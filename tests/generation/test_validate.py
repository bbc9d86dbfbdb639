"""Planted faults of every kind among sound samples: each is found, and nothing else."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from gem_lightning.ecg import simulate, write_wfdb
from gem_lightning.errors import DataError
from gem_lightning.generation.duplicates import near_pairs, read_signatures, signature, similarity
from gem_lightning.generation.pipeline import Pipeline
from gem_lightning.generation.validate import DataValidator, ValidationReport
from gem_lightning.generation.validate_images import agreement, image_shows, read_image
from gem_lightning.render import EcgRenderer
from gem_lightning.reporting.validation import validation_page
from gem_lightning.samples.io import read_samples, write_samples
from gem_lightning.samples.sample import InstructionSample
from gem_lightning.sources.base import RecordFiles, SourceRecord

N = 14


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Records as files, their pictures, and composed samples."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "records").mkdir()
    names = ["sinus", "rbbb", "lvh", "atrial_fibrillation"]
    for i in range(N):
        write_wfdb(simulate(names[i % 4], seed=700 + i, snr_db=28).record, folder / "records" / f"r{i}")
    source = RecordFiles(str(folder / "records"), prefix="records")
    pipeline = Pipeline(paths=source.paths, out=str(folder), renderer=EcgRenderer(size=(336, 435)))
    rows = [pipeline(record.to_item())[0]["sample"] for record in source.records()]
    samples = [type(next(iter(read_samples(write(folder, [row]))))).from_dict(row) for row in rows]
    return folder, samples


def write(folder, rows):
    path = folder / "one.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def copy(sound, tmp_path):
    folder, samples = sound
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return tmp_path, list(samples)


def examine(folder, samples, **options):
    write_samples(samples, folder / "data.json")
    paths = {"records": str(folder / "records"), "images": str(folder / "images")}
    return DataValidator(str(folder / "data.json"), paths, **options).validate(workers=0)


def kinds(found):
    return sorted((fault["kind"], str(fault["id"])) for fault in found.faults)


def test_criteria_by_age_and_sex_are_judged_as_they_were_written(tmp_path):
    pipeline = Pipeline(source="simulator")
    record = SourceRecord("r", "simulate:av_block_3?snr_db=30::10501", age=86, sex="female")
    made = InstructionSample.from_dict(pipeline(record.to_item())[0]["sample"])
    sample = answer(made, "Left ventricular hypertrophy.")  # near the threshold for women, far below that for men
    assert (sample.metadata["age"], sample.metadata["sex"]) == (86, "female")
    write_samples([sample], tmp_path / "data.jsonl")
    assert DataValidator(str(tmp_path / "data.jsonl")).validate(workers=0).faults == []
    man = replace(sample, metadata=sample.metadata | {"sex": "male"})
    write_samples([man], tmp_path / "data.jsonl")
    (fault,) = DataValidator(str(tmp_path / "data.jsonl")).validate(workers=0).faults
    assert "ventricular hypertrophy" in fault["message"]
    odd = replace(sample, metadata=sample.metadata | {"age": 999, "sex": "?"})
    write_samples([odd], tmp_path / "data.jsonl")
    assert "corrupt_record" not in DataValidator(str(tmp_path / "data.jsonl")).validate(workers=0).counts()


def answer(sample, text):
    return replace(sample, conversations=[sample.conversations[0], {"from": "gpt", "value": text}])


def test_sound_data_have_no_faults(copy):
    folder, samples = copy
    found = examine(folder, samples)
    assert found.faults == []
    assert found.samples == N
    assert not found.fails("warning")
    assert found.labels["sinus_rhythm"] > 0


def test_every_planted_fault_is_found_and_nothing_else(copy):
    folder, samples = copy
    s = samples
    (folder / "records" / "r0.dat").unlink()
    (folder / "records" / "r0.hea").unlink()
    (folder / s[1].image).unlink()
    dat = folder / "records" / "r10.dat"  # sorted by name: r0 r1 r10 r11 r12 r13 r2 ...
    assert s[2].ecg == "records/r10"
    dat.write_bytes(dat.read_bytes()[:1000])
    picture = folder / s[3].image
    picture.write_bytes(picture.read_bytes()[: picture.stat().st_size // 2])
    shutil.copy(folder / s[5].image, folder / s[4].image)
    s[6] = answer(s[6], s[6].answer + " The QRS duration is 240 ms.")
    s[7] = replace(s[7], conversations=s[7].conversations[:1])
    s[8] = answer(s[8], "")
    s[9] = replace(s[9], id=s[10].id)
    s.append(replace(s[11], id="again"))
    s[12] = replace(s[12], metadata=s[12].metadata | {"split": "train", "patient": "p"})
    s[13] = replace(s[13], metadata=s[13].metadata | {"split": "test", "patient": "p"})
    found = examine(folder, s)
    assert kinds(found) == sorted([
        ("missing_record", str(s[0].id)), ("missing_image", str(s[1].id)), ("corrupt_record", str(s[2].id)),
        ("corrupt_image", str(s[3].id)), ("image_mismatch", str(s[4].id)), ("contradicted", str(s[6].id)),
        ("malformed", str(s[7].id)), ("malformed", str(s[8].id)), ("duplicate_id", str(s[10].id)),
        ("duplicate", "again"), ("leak_patient", str(s[13].id)),
    ])  # fmt: skip
    assert found.fails()
    found.write(folder / "report")
    lines = [json.loads(line) for line in (folder / "report" / "validation.jsonl").read_text().splitlines()]
    assert len(lines) == 11
    assert {line["severity"] for line in lines} == {"error"}
    assert json.loads((folder / "report" / "validation.json").read_text())["faults"] == found.counts()
    text = validation_page(found).to_html()
    assert "image mismatch (1)" in text
    assert "data:image/svg+xml" in text
    assert "11 errors." in text
    assert text.index("normal axis") < text.index("Length of an answer")


def test_malformed_lines_are_reported_once_and_errors_come_first(tmp_path):
    turns = [
        {"from": "human", "value": "<image>\nRead."},
        {"from": "gpt", "value": "It follows from the report given."},
    ]
    rows = [{"id": 1, "ecg": "simulate:sinus::1", "conversations": turns}]
    rows += [{"id": 2, "conversations": "oops"}, {"id": 3, "conversations": [{"from": "gpt", "value": None}]}]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"cut": \n')
    found = DataValidator(str(tmp_path / "data.jsonl")).validate(workers=0)
    assert found.counts() == {"malformed": 3, "names_sources": 1}
    assert all("expected" in fault["message"] for fault in found.faults if fault["kind"] == "malformed")
    text = validation_page(found).to_html()
    assert "3 errors, 1 warning." in text
    assert text.index("malformed (3)") < text.index("names sources (1)")


def test_numbers_of_large_sets_are_readable():
    found = ValidationReport(1156110, [], {"sinus_rhythm": 1156110}, {}, {}, [5, 7, 141], [1, 1, 1])
    html = validation_page(found).to_html()
    assert html.count("1,156,110") == 3  # title, heading, table
    assert ">127.6<" in html
    assert "No faults." in html


def test_copies_of_a_signal_are_found_under_other_names_and_across_splits(copy):
    folder, samples = copy
    record = samples[0].mapped({"records": str(folder / "records")}).record.read()
    noise = np.random.default_rng(0).normal(0, 0.01, record.signal.shape)
    changed = {
        "noisy": record.signal * 1.1 + noise,
        "shifted": np.roll(record.signal, 300, axis=1),
        "exact": record.signal,
    }
    for name, signal in changed.items():
        write_wfdb(record.with_signal(signal.astype(np.float32)), folder / "records" / name)
    extra = [
        replace(samples[0], id=name, ecg=f"records/{name}", image=None, metadata={"split": "train"})
        for name in ("noisy", "shifted")
    ]
    extra.append(replace(samples[0], id="exact", ecg="records/exact", image=None, metadata={"split": "val"}))
    samples[0] = replace(samples[0], metadata={"split": "train"})
    found = examine(folder, [*samples, *extra], texts=False)
    by_kind = {kind for kind, _ in kinds(found)}
    assert {"near_duplicate", "leak_record"} <= by_kind
    assert {fault["id"] for fault in found.faults} <= {"noisy", "shifted", "exact"}


def test_unlike_signals_are_not_near(sound):
    signs = [signature(simulate("sinus", seed=i, snr_db=30).record) for i in range(40)]
    assert list(near_pairs(read_signatures(signs), 0.985)) == []
    block = read_signatures(signs)
    assert similarity(block[0], block[0]) == pytest.approx(1)
    assert similarity(block[0], block[1]) < 0.985


@pytest.mark.parametrize("layout", ["3x4+1", "6x2", "12x1"])
def test_pictures_of_several_layouts_are_matched_without_knowing_the_renderer(layout):
    record, other = (simulate("sinus", seed=i, snr_db=28).record for i in (1, 2))
    drawn = EcgRenderer(layout=layout, size=(500, 700))(record)
    worn = np.clip(drawn.image.astype(int) + np.random.default_rng(0).integers(-12, 13, drawn.image.shape), 0, 255)
    assert agreement(worn.astype(np.uint8), record, drawn.geometry) > 0.8
    assert image_shows(worn.astype(np.uint8), record)[0]
    assert not image_shows(worn.astype(np.uint8), other)[0]


def test_a_camera_s_picture_is_matched_through_the_record_s_own_rendering():
    record, other = (simulate("sinus", seed=i, snr_db=28).record for i in (1, 2))
    renderer = EcgRenderer(size=(700, 900), artifacts="photo")
    image = renderer(record, seed=5).image
    assert image_shows(image, record, renderer, seed=5)[0]
    assert not image_shows(image, other, renderer, seed=5)[0]


def test_pictures_that_are_none(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match="complete image"):
        read_image(tmp_path / "a.png")
    Image.new("RGB", (40, 30)).save(tmp_path / "b.png")
    assert read_image(tmp_path / "b.png").shape == (30, 40, 3)


def test_no_data_is_explained():
    with pytest.raises(DataError, match="data=FILE"):
        DataValidator(None)
