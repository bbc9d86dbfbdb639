"""The console script on many files: folders, patterns, standard input, tables, JSON, failures and their exit codes."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from gem_lightning import __version__
from gem_lightning.cli import main, outcome, table
from gem_lightning.cli.inputs import Input, find_inputs
from gem_lightning.cli.parser import build_parser
from gem_lightning.cli.records import short_names
from gem_lightning.ecg import LEADS, EcgRecord, simulate, write_ecg, write_wfdb
from gem_lightning.generation.run import FeatureRow, features_schema
from gem_lightning.jobs import JobFolder


def code_of(arguments):
    """The exit code of a command."""
    try:
        main([str(one) for one in arguments])
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two recordings, a flat line, a broken file and one that is no recording."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "deep").mkdir()
    write_wfdb(simulate("rbbb", seed=3).record, folder / "a")
    write_ecg(simulate("sinus", seed=1).record, folder / "deep" / "b.dcm")
    write_ecg(EcgRecord(np.zeros((12, 5000), np.float32), 500, LEADS), folder / "flat.csv")
    (folder / "broken.dcm").write_bytes(b"no DICOM at all")
    (folder / "notes.md").write_text("about these recordings")
    return folder


@pytest.fixture
def many(made, tmp_path):
    return shutil.copytree(made, tmp_path / "many")


def test_inputs_of_folders_patterns_and_companions(many, capsys, monkeypatch):
    monkeypatch.chdir(many)
    assert [one.name for one in find_inputs(["."])] == ["a.hea", "broken.dcm", "deep/b.dcm", "flat.csv"]
    assert "skipped, not known as recordings: notes.md\n" in capsys.readouterr().err  # and not a.dat
    assert [one.name for one in find_inputs(["**/*.dcm"])] == ["broken.dcm", "deep/b.dcm"]
    # as a shell expands `a.*`, and once more by name: one record
    assert [one.name for one in find_inputs(["a.dat", "a.hea", "a"])] == ["a.dat"]
    assert code_of(["measure", "*.scp"]) == outcome.USER_ERROR
    assert "expected files that match '*.scp', got none" in capsys.readouterr().err
    (many / "empty").mkdir()
    assert code_of(["measure", "empty"]) == outcome.USER_ERROR


def test_json_has_the_same_facts_everywhere(many, capsys):
    ecg = many / "a.hea"
    for command in (
        ["info", ecg],
        ["measure", ecg],
        ["check", ecg, "Right bundle branch block."],
        ["render", ecg, "-o", many / "a.png"],
        ["convert", ecg, "--to", "edf", "-o", many / "a.edf"],
    ):
        assert code_of([*command, "--json"]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        facts = json.loads(line)
        assert facts["file"] == str(ecg)
        assert facts["version"] == __version__
        assert facts["quality"] == {"verdict": "usable", "reasons": []}
        assert facts["refused"] is None
        assert "rbbb" in {finding["code"] for finding in facts["findings"]}


def test_several_files_are_lines_and_failures_are_named(many, capsys):
    assert code_of(["measure", many, "--json"]) == outcome.SOME_FAILED
    out, err = capsys.readouterr()
    rows = {os.path.basename(row["file"]): row for row in map(json.loads, out.splitlines())}
    assert sorted(rows) == ["a.hea", "b.dcm", "flat.csv"]
    assert re.search(r"broken\.dcm: expected .*\n", err)
    assert "1 of 4 files were not measured" in err
    flat = rows["flat.csv"]
    assert flat["quality"]["verdict"] == "unusable"
    assert flat["refused"].startswith("This recording cannot be read reliably")
    assert flat["findings"] == []
    assert code_of(["measure", many / "broken.dcm", many / "notes.md"]) == outcome.USER_ERROR  # not one was read


def test_lines_for_people(many, capsys):
    assert code_of(["measure", many / "a.hea", many / "deep", many / "flat.csv"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["file", "rate", "PR", "QRS", "QTc", "axis", "quality", "findings"]
    assert lines[0].startswith("a.hea ")
    assert "right bundle branch block" in lines[0]
    assert lines[1].startswith("deep/b.dcm ")
    assert lines[1].endswith("nothing abnormal")
    assert lines[2].endswith("not interpreted: flat")
    assert all(line == line.rstrip() for line in lines)
    assert code_of(["measure", many / "flat.csv"]) == outcome.NOTHING_CHECKED  # as interpret and check
    assert "not interpreted: flat" in capsys.readouterr().out


@pytest.mark.parametrize("terminal", [True, False])
def test_what_takes_long_is_named_on_a_terminal(terminal, monkeypatch):
    shown = io.StringIO()
    shown.isatty = lambda: terminal
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setattr(outcome, "_PATIENCE_S", 0.001)
    with outcome.busy("photo.jpg"):
        while terminal and "photo.jpg" not in shown.getvalue():
            time.sleep(0.001)
    assert shown.getvalue().endswith("\r\033[K" if terminal else "")
    assert bool(shown.getvalue()) == terminal


def test_urgent_findings_come_first_and_are_marked_without_colour(tmp_path, capsys):
    ecg = write_wfdb(simulate("av_block_3", seed=1).record, tmp_path / "one")
    assert code_of(["measure", ecg]) == 0
    shown = capsys.readouterr().out
    findings = [line for line in shown.splitlines() if line.startswith("  ") and "[1]" in line]
    assert findings[0].startswith("  ! ")
    assert "criterion:" not in shown
    assert code_of(["measure", ecg, "--explain"]) == 0
    assert "criterion:" in capsys.readouterr().out


def test_names_of_outputs_never_meet():
    files = ["x/a.hea", "y/a.hea", "x/a-1.hea", "y/a-2.hea", "z/a.hea", "x/b.dcm", "x/b.xml"]
    names = short_names([Input(file, Path(file)) for file in files])
    assert names == ["a-3", "a-4", "a-1", "a-2", "a-5", "b.dcm", "b.xml"]


def test_standard_input(many, capsys, monkeypatch):
    def typed(path):
        """Standard input as a pipe has it."""
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))

    typed(many / "deep" / "b.dcm")
    assert code_of(["measure", "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == "-"
    typed(many / "flat.csv")
    assert code_of(["info", "-", "--format", "csv", "--fs", "500", "--units", "mV"]) == 0
    assert "unusable" in capsys.readouterr().out
    typed(many / "a.hea")
    assert code_of(["measure", "-"]) == outcome.USER_ERROR
    assert "a.dat" in capsys.readouterr().err
    typed(many / "deep" / "b.dcm")
    assert code_of(["measure", "-", "-o", many / "t.csv"]) == outcome.USER_ERROR
    assert code_of(["check", "-", "-"]) == outcome.USER_ERROR


def test_check_of_several_and_of_an_unusable_one(many, capsys):
    text = "Right bundle branch block."
    assert code_of(["check", many / "a.hea", many / "deep", text]) == outcome.CONTRADICTED
    assert code_of(["check", many / "flat.csv", "Sinus rhythm.", "--json"]) == outcome.NOTHING_CHECKED
    out, err = capsys.readouterr()
    assert "is not interpreted: flat" in err
    assert json.loads(out.splitlines()[-1])["verdicts"] == []
    assert code_of(["check", many / "a.hea", many / "broken.dcm", text]) == outcome.SOME_FAILED
    (many / "report.txt").write_text("Sinus rhythm.")
    code_of(["check", many / "a.hea", many / "report.txt"])
    assert f"- < {many / 'report.txt'}" in capsys.readouterr().err


def test_render_into_a_folder(many, capsys):
    assert code_of(["render", many, "-o", many / "drawn", "--to", "svg", "--layout", "6x2"]) == outcome.SOME_FAILED
    assert sorted(path.name for path in (many / "drawn").iterdir()) == ["a.svg", "b.svg", "flat.svg"]
    assert capsys.readouterr().out.splitlines()[0] == str(many / "drawn" / "a.svg")


# -- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", table.ENDINGS)
def test_table(many, ending, capsys):
    out = many / f"table{ending}"
    assert code_of(["measure", many, "-o", out]) == outcome.SOME_FAILED
    shown, err = capsys.readouterr()
    assert shown.strip() == str(out)
    assert "broken.dcm: " in err
    assert not list(many.glob("*.job"))
    rows = _rows(out)
    assert list(rows[0]) == table.table_schema().names
    by_name = {os.path.basename(row["file"]): row for row in rows}
    assert sorted(by_name) == ["a.hea", "b.dcm", "flat.csv"]
    assert float(by_name["a.hea"]["qrs_ms"]) > 110
    assert "rbbb" in by_name["a.hea"]["findings"]
    assert by_name["flat.csv"]["refused"].startswith("This recording cannot be read reliably")
    assert {row["version"] for row in rows} == {__version__}


def _rows(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".csv":
        import csv

        return list(csv.DictReader(path.open()))
    text = path.read_text()
    return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


def test_the_table_is_that_of_the_generator(many):
    """Every column of ``generate stage=features`` with the same value."""
    out = many / "t.parquet"
    main(["measure", str(many / "a.hea"), "-o", str(out)])
    (row,) = pq.read_table(out).to_pylist()
    expected = FeatureRow()({"id": str(many / "a.hea"), "ecg": str(many / "a.hea")})
    same = [name for name in features_schema().names if name != "cpu_ms"]
    assert len(same) > 370
    assert {name: row[name] for name in same} == {name: expected[name] for name in same}


def test_a_stopped_table_resumes_and_other_files_start_from_scratch(many, capsys, monkeypatch):
    for i in range(10):
        write_wfdb(simulate("sinus", seed=i).record, many / f"s{i}")
    out, measured = many / "t.csv", []

    class Stopped(table.TableRow):
        def __call__(self, item):
            if len(measured) == 9:
                raise KeyboardInterrupt
            measured.append(item["id"])
            return super().__call__(item)

    with monkeypatch.context() as patch:
        patch.setattr(table, "TableRow", Stopped)
        assert code_of(["measure", *sorted(many.glob("s*.hea")), "-o", out]) == outcome.INTERRUPTED
    assert not out.exists()
    assert JobFolder(many / "t.csv.job").missing() == [1]
    capsys.readouterr()
    assert code_of(["measure", *sorted(many.glob("s*.hea")), "-o", out]) == 0
    assert "resumed: 8 of 10" in capsys.readouterr().err
    assert len(_rows(out)) == 10
    with monkeypatch.context() as patch:
        patch.setattr(table, "TableRow", Stopped)
        assert code_of(["measure", *sorted(many.glob("s*.hea")), "-o", out]) == outcome.INTERRUPTED
    assert code_of(["measure", many / "s1.hea", "-o", out]) == 0
    assert "from scratch" in capsys.readouterr().err
    assert len(_rows(out)) == 1


def test_another_ending_is_refused(many, capsys):
    assert code_of(["measure", many / "a.hea", "-o", many / "t.xlsx"]) == outcome.USER_ERROR
    assert "expected a table that ends in .parquet" in capsys.readouterr().err


@pytest.mark.slow
def test_a_table_over_processes_is_the_same(many):
    main(["measure", str(many / "a.hea"), str(many / "deep"), "-o", str(many / "one.csv")])
    main(["measure", str(many / "a.hea"), str(many / "deep"), "-o", str(many / "two.csv"), "--workers", "2"])
    one, two = (
        [{name: v for name, v in row.items() if name != "cpu_ms"} for row in _rows(many / name)]
        for name in ("one.csv", "two.csv")
    )
    assert one == two


def test_progress_on_a_terminal_alone(monkeypatch, capsys):
    def shown(out, err):
        """What standard error gets while three files are read."""
        monkeypatch.setattr("sys.stdout.isatty", lambda: out, raising=False)
        monkeypatch.setattr("sys.stderr.isatty", lambda: err, raising=False)
        assert list(outcome.watched("abc", 3)) == ["a", "b", "c"]
        return capsys.readouterr().err

    assert re.search(r"3/3 \(100.0 %\) · [\d.,]+/s · 0 broken · 0 s left\n$", shown(out=False, err=True))
    assert shown(out=False, err=False) == ""  # a file, or the log of a script
    assert shown(out=True, err=True) == ""  # results on the same terminal


# -- help, mistakes, colour, completion --------------------------------------------------------------------------------


def test_help_begins_with_five_examples(capsys):
    assert code_of(["--help"]) == 0
    first = capsys.readouterr().out.splitlines()[:7]
    assert sum(line.startswith("  gem-lightning ") for line in first) == 5
    assert code_of([]) == outcome.USER_ERROR
    assert "gem-lightning measure" in capsys.readouterr().err
    for command in ("measure", "interpret", "mcp"):
        assert code_of([command, "--help"]) == 0
        assert "130  interrupted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        (["measre", "x"], "measure"),
        (["chek", "x", "y"], "check"),
        (["measure", "x", "--jsn"], "--json"),
        (["render", "x", "-o", "y", "--too", "png"], "--to"),
        (["convert", "x", "--to", "dicm", "-o", "y"], "dicom"),
    ],
)
def test_a_mistyped_command_suggests_the_near_one(typed, near, capsys):
    assert code_of(typed) == outcome.USER_ERROR
    err = capsys.readouterr().err
    assert f"did you mean {near}?" in err
    assert len(err.splitlines()) == 1


def test_help_imports_nothing_heavy():
    slow = ["numpy", "scipy", "torch", "pyarrow", "rich", "hydra", "jinja2", "wfdb", "mcp", "shtab"]
    script = "import sys; from gem_lightning.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    script += f"print(sorted(set({slow}) & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_colour_on_a_terminal_alone(tmp_path, capsys, monkeypatch):
    ecg = write_wfdb(simulate("av_block_3", seed=1).record, tmp_path / "one")
    commands = (["measure", ecg], ["check", ecg, "Third-degree AV block."])

    def colours():
        """The colour codes that each command prints."""
        found = []
        for command in commands:
            code_of(command)
            found.append(re.findall(r"\033\[(?:\d;)*(?:3[0-7]|38;[\d;]*)m", capsys.readouterr().out))
        return found

    assert colours() == [[], []]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert all(colours())
    monkeypatch.setenv("NO_COLOR", "1")
    assert colours() == [[], []]


def test_completion_in_bash(tmp_path, capsys):
    for shell in ("zsh", "fish", "tcsh"):
        assert code_of(["completion", shell]) == 0
        assert "gem-lightning" in capsys.readouterr().out
    assert code_of(["completion", "bash"]) == 0
    (tmp_path / "complete.sh").write_text(capsys.readouterr().out)
    (tmp_path / "ecg.dcm").touch()

    def completed(*line):
        """What Tab offers for the last of the given parts of a line."""
        quoted = " ".join(f"'{part}'" for part in line)
        script = f"source complete.sh; COMP_WORDS=({quoted}); COMP_CWORD={len(line) - 1}\n"
        script += "$(complete -p gem-lightning | sed 's/.*-F \\([^ ]*\\) .*/\\1/'); echo ${COMPREPLY[@]}"
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert completed("gem-lightning", "me") == ["measure"]
    assert completed("gem-lightning", "measure", "--js") == ["--json"]
    assert completed("gem-lightning", "measure", "ecg") == ["ecg.dcm"]
    assert completed("gem-lightning", "convert", "--to", "di") == ["dicom"]


def test_a_closed_pipe_ends_quietly(many):
    command = f"{sys.executable} -m gem_lightning.cli measure {many} {many} {many}/a.hea --json | head -c 10"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert done.returncode == outcome.CLOSED_PIPE
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


def test_every_command_has_a_help_text():
    parser = build_parser()
    actions = [action for action in parser._actions if action.dest == "command"]
    assert len(actions[0].choices) == len(actions[0]._choices_actions)
