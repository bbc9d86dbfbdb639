"""The console script, in process: output, files and exit codes."""

import io
import json
import shutil

import numpy as np
import pytest

import gem_lightning as gl
from gem_lightning.cli import main
from gem_lightning.ecg import simulate, write_wfdb
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


def test_interpret(ecg, tmp_path, tiny_gem, capsys):
    tiny_gem.save_pretrained(tmp_path / "model")
    main(["interpret", ecg, "--model", str(tmp_path / "model"), "-o", str(tmp_path / "page.html")])
    assert "research" in (tmp_path / "page.html").read_text().lower()


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
