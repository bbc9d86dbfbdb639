"""The console script, in process: output, files and exit codes."""

import io
import json
import shutil
import sys

import numpy as np
import pytest

import gem_lightning as gl
from gem_lightning.cli import main
from gem_lightning.ecg import LEADS, EcgRecord, read_ecg, simulate, write_ecg, write_wfdb
from gem_lightning.evaluation.ecgbench.benchmark import EcgBench
from gem_lightning.evaluation.predictors import FilePredictor


@pytest.fixture
def ecg(tmp_path):
    return str(write_wfdb(simulate("rbbb", seed=3).record, tmp_path / "one"))


def test_measure(ecg, capsys):
    main(["measure", ecg])
    shown = capsys.readouterr().out
    qrs = gl.measure(gl.read_ecg(ecg)).qrs_ms
    assert "QRS" in shown
    assert shown.count(f"{qrs:.0f}") >= 2  # measured, and as the evidence of a finding
    main(["measure", ecg, "--json"])
    assert json.loads(capsys.readouterr().out)["qrs_ms"] > 110


def test_a_file_that_holds_no_rate_is_read_as_told(tmp_path, capsys):
    record = simulate("rbbb", seed=3).record
    rows = record.signal[::-1].T * 1000
    np.savetxt(tmp_path / "ecg.csv", rows, delimiter=",")
    with pytest.raises(SystemExit) as end:
        main(["measure", str(tmp_path / "ecg.csv")])
    assert end.value.code == 2
    assert "--fs 500 --units mV" in capsys.readouterr().err
    names = ",".join(reversed(record.leads))
    main(["measure", str(tmp_path / "ecg.csv"), "--fs", "500", "--units", "uV", "--leads", names, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["qrs_ms"] == pytest.approx(gl.measure(record).qrs_ms, abs=0.1)


def test_columns_without_names_follow_the_advice(tmp_path, capsys):
    record = simulate("rbbb", seed=3).record
    np.savetxt(tmp_path / "three.csv", record.signal[[1, 6, 10]].T, delimiter=",", fmt="%.4f")
    given = ["measure", str(tmp_path / "three.csv"), "--fs", "500", "--units", "mV", "--json"]
    with pytest.raises(SystemExit):
        main([*given, "--leads", "any"])
    assert "name them: --leads I,II,..." in capsys.readouterr().err
    main([*given, "--leads", "II,V1,V5"])
    assert list(json.loads(capsys.readouterr().out)["leads"]) == ["II", "V1", "V5"]
    eight = record.signal[[0, 1, *range(6, 12)]].T  # the others follow from I and II
    np.savetxt(tmp_path / "three.csv", eight, delimiter=",", fmt="%.4f")
    main([*given, "--leads", "I,II,V1,V2,V3,V4,V5,V6"])
    assert list(json.loads(capsys.readouterr().out)["leads"]) == list(LEADS)


def test_render(ecg, tmp_path, capsys):
    out = tmp_path / "deep" / "ecg.png"
    main(["render", ecg, "-o", str(out), "--layout", "6x2", "--dpi", "60"])
    assert capsys.readouterr().out.strip() == str(out)
    assert out.read_bytes().startswith(b"\x89PNG")


def test_check_says_so_by_its_exit_code(ecg, capsys, monkeypatch):
    with pytest.raises(SystemExit) as end:
        main(["check", ecg, "The QRS duration is 60 ms.", "--json"])
    assert end.value.code == 1
    assert [v["verdict"] for v in json.loads(capsys.readouterr().out)["verdicts"]] == ["contradicted"]
    monkeypatch.setattr("sys.stdin", io.StringIO("Right bundle branch block."))
    main(["check", ecg, "-"])
    assert "Right bundle branch block" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "report.txt", "Vorhofflimmern mit Rechtsschenkelblock.", "Asystole."])
def test_check_of_a_text_that_it_cannot_read(ecg, text, capsys):
    with pytest.raises(SystemExit) as end:
        main(["check", ecg, text])
    assert end.value.code in ((1, 3) if text == "Asystole." else (3,))  # contradicted, once it has a criterion
    capsys.readouterr()


def test_strict_check_names_what_was_not_read(ecg, capsys):
    text = "Right bundle branch block. There is endocarditis."
    main(["check", ecg, text])
    assert "endocarditis" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["check", ecg, text, "--strict"])
    assert end.value.code == 3
    main(["check", ecg, "Right bundle branch block.", "--strict"])


@pytest.fixture(scope="module")
def model(tiny_gem, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_gem.save_pretrained(folder)
    return str(folder)


def test_interpret(ecg, tmp_path, model, capsys):
    main(["interpret", ecg, "--model", model, "-o", str(tmp_path / "page.html")])
    assert "research" in (tmp_path / "page.html").read_text().lower()
    main(["interpret", ecg, "--model", model, "--json"])
    out, err = capsys.readouterr()
    facts = json.loads(out.splitlines()[-1])
    assert list(facts)[:5] == ["file", "version", "quality", "refused", "findings"]
    assert facts["claims"]["text"] == facts["text"]
    assert err == ""  # no bar of loading weights
    with pytest.raises(SystemExit) as end:
        main(["interpret", ecg, "--model", model, "-o", str(tmp_path / "page.docx")])
    assert end.value.code == 2


def test_interpret_several_and_refuse_a_flat_line(ecg, tmp_path, model, capsys):
    flat = write_ecg(EcgRecord(np.zeros((12, 5000), np.float32), 500, LEADS), tmp_path / "flat.dcm")
    (tmp_path / "broken.dcm").write_bytes(b"no DICOM")
    with pytest.raises(SystemExit) as end:
        main(["interpret", ecg, str(flat), str(tmp_path / "broken.dcm"), "--model", model, "--json"])
    assert end.value.code == 4
    out, err = capsys.readouterr()
    assert [json.loads(line)["refused"] is None for line in out.splitlines()] == [True, False]
    assert "broken.dcm: expected" in err
    with pytest.raises(SystemExit) as end:
        main(["interpret", str(flat), "--model", model])
    assert end.value.code == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "is not interpreted: flat" in err


def test_interpret_into_a_folder_resumes_and_keeps_to_its_recordings(ecg, tmp_path, model, capsys):
    (tmp_path / "broken.dcm").write_bytes(b"no DICOM")
    out = tmp_path / "out"
    command = ["interpret", ecg, str(tmp_path / "broken.dcm"), "--model", model, "-o", str(out)]
    for again in range(2):
        with pytest.raises(SystemExit) as end:
            main([*command, *["--retry-failed"] * again])
        assert end.value.code == 4
        shown, err = capsys.readouterr()
        assert shown.split() == [str(out / name) for name in ("predictions.jsonl", "summary.json", "pages")]
        assert f"{tmp_path / 'broken.dcm'}: expected" in err
    (row,) = map(json.loads, (out / "predictions.jsonl").read_text().splitlines())
    assert row["id"] == "one"
    assert {"file", "version", "quality", "refused", "findings", "text"} <= set(row)
    assert "<html" in (out / "pages" / "one.html").read_text()
    with pytest.raises(SystemExit) as end:
        main(["interpret", ecg, "--model", model, "-o", str(out)])
    assert end.value.code == 2
    assert "expected the recordings that" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main([*command[:-1], str(tmp_path / "page.html")])
    assert end.value.code == 2
    assert "expected a folder for 2 recordings" in capsys.readouterr().err


def test_a_missing_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "gem_lightning.serving.mcp", raising=False)
    for name in [name for name in sys.modules if name == "mcp" or name.startswith("mcp.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(SystemExit) as end:
        main(["mcp", "--root", str(tmp_path)])
    assert end.value.code == 2
    assert "gem-lightning[mcp]" in capsys.readouterr().err


def test_compare(golden, tmp_path, capsys):
    task = golden / "metrics" / "ecgbench" / "cpsc-test"
    (tmp_path / "bench").mkdir()
    shutil.copy(task / "gold.json", tmp_path / "bench" / "cpsc-test.json")
    for name in ("step-100", "step-final"):
        EcgBench(tmp_path / "bench", draws=20)(FilePredictor(task / f"{name}.jsonl"), tmp_path / name).save(
            tmp_path / name
        )
    main(["compare", str(tmp_path / "step-100"), str(tmp_path / "step-final"), "-o", str(tmp_path / "gap")])
    assert (tmp_path / "gap" / "report.html").exists()


def test_a_mistake_ends_in_one_line_and_exit_code_2(tmp_path, capsys):
    for arguments in (["measure", str(tmp_path / "none.hea")], ["compare", str(tmp_path), str(tmp_path), "-o", "x"]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
        assert capsys.readouterr().err.startswith("gem-lightning: ")


def test_info_states_how_a_file_was_read(tmp_path, capsys):
    path = tmp_path / "x.csv"
    record = simulate("sinus", seed=1).record
    np.savetxt(path, record.signal.T, delimiter=",", fmt="%.4f")
    main(["info", str(path), "--fs", "500", "--units", "mV", "--json"])
    out = capsys.readouterr()
    facts = json.loads(out.out)
    assert facts["format"] == "csv"
    assert facts["leads"] == list(LEADS)
    assert "standard order" in facts["notes"][0]
    assert "pass --leads I,II,..." in out.err
    main(["info", str(path), "--fs", "500", "--units", "mV"])
    assert "usable" in capsys.readouterr().out


def test_errors_name_options_of_the_command_line(tmp_path, capsys):
    np.savetxt(tmp_path / "x.csv", simulate("sinus", seed=1).record.signal.T, delimiter=",", fmt="%.4f")
    for arguments, advice in (
        (["measure", str(tmp_path / "x.csv")], "pass --fs 500 --units mV"),
        (["measure", str(tmp_path / "x.csv"), "--fs", "500", "--units", "mV", "--leads", "I,II"], "name them: --leads"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert advice in capsys.readouterr().err


def test_convert_many_and_name_what_failed(tmp_path, capsys):
    one = write_wfdb(simulate("sinus", seed=1).record, tmp_path / "1.2.1")
    two = write_wfdb(simulate("rbbb", seed=2).record, tmp_path / "1.2.2")
    (tmp_path / "note.txt").write_text("no samples")
    with pytest.raises(SystemExit) as stop:
        main(["convert", str(one), str(two), str(tmp_path / "note.txt"), "--to", "dicom", "-o", str(tmp_path / "out")])
    assert stop.value.code == 4
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["1.2.1.dcm", "1.2.2.dcm"]
    assert "note.txt" in capsys.readouterr().err
    back = read_ecg(tmp_path / "out" / "1.2.2.dcm")
    assert np.abs(back.signal - read_ecg(two).signal).max() < 1e-3


def test_any_leads(tmp_path, capsys):
    header = write_wfdb(EcgRecord(simulate("sinus", seed=1).record.signal[[1]], 500, ("II",)), tmp_path / "one")
    main(["info", str(header), "--leads", "any", "--json"])
    assert json.loads(capsys.readouterr().out)["leads"] == ["II"]
