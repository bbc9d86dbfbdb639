import json

import numpy as np
import pytest

from gem_lightning.composition.tools import BY_LEAD, FORMS, WHOLE, RecordTools, parse_call, specifications
from gem_lightning.ecg import simulate
from gem_lightning.features import measure


@pytest.fixture(scope="module")
def ecg():
    return simulate("lbbb", 4, snr_db=25)


@pytest.fixture(scope="module")
def tools(ecg):
    return RecordTools(ecg.record)


def test_every_quantity_is_measured_as_measure_does(ecg, tools):
    features = measure(ecg.record)
    assert tools.run("measure", {"quantity": "qrs_ms"})["value"] == pytest.approx(features.qrs_ms, abs=1e-4)
    axis = features.axis_deg["QRS"]
    assert tools.run("measure", {"quantity": "qrs_axis_deg"})["value"] == pytest.approx(axis, abs=1e-4)
    for quantity in WHOLE:
        assert "error" not in tools.run("measure", {"quantity": quantity})
    for quantity in (*BY_LEAD, *FORMS):
        assert "error" not in tools.run("measure", {"quantity": quantity, "lead": "V2"})
        if quantity not in FORMS:
            found = tools.run("measure", {"quantity": quantity, "lead": "V2", "beat": 2})
            expected = features.beats.by_lead[quantity][features.beats.leads.index("V2"), 1]
            assert found["value"] == pytest.approx(expected, abs=1e-4, nan_ok=True) or found["value"] is None
    assert tools.run("measure", {"quantity": "st_j_mv", "lead": "V2"})["value"] == round(features.st_mv["V2"]["J"], 4)


def test_beats_are_listed_and_counted_from_one(ecg, tools):
    beats = tools.run("measure", {"quantity": "beats"})["beats"]
    assert [beat["beat"] for beat in beats] == list(range(1, len(ecg.beat_class) + 1))
    assert np.allclose([beat["time_s"] for beat in beats], ecg.global_marks["R"] / 500, atol=0.05)


def test_a_criterion_comes_with_its_evidence(tools):
    found = tools.run("criterion", '{"code": "lbbb"}')
    assert found["met"] is True
    assert found["evidence"]["qrs_ms"] >= 120
    assert "QRS at least 120 ms" in found["criterion"]
    assert tools.run("criterion", {"code": "rbbb"})["met"] is False


def test_a_look_at_a_lead_has_its_samples_and_waves(ecg, tools):
    first = ecg.global_marks["QRS_on"][2] / 500
    found = tools.run("zoom", {"lead": "II", "t0": first - 0.3, "t1": first + 0.2})
    assert len(found["mv"]) == 50
    assert found["mv"][10] == pytest.approx(ecg.record.signal[1, round((first - 0.2) * 500)], abs=2e-3)
    (qrs,) = (wave for wave in found["waves"] if wave["wave"] == "QRS")
    assert qrs["start_s"] == pytest.approx(first, abs=0.03)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("guess", {}, "expected a tool of measure, criterion, zoom, got 'guess'"),
        ("measure", {"quantity": "mood"}, "expected a quantity of heart_rate_bpm"),
        ("measure", {"quantity": "pr_ms", "lead": "V9"}, "expected a quantity of p_mv"),
        ("measure", {"quantity": "r_mv", "lead": "V9"}, "expected a lead of I, II"),
        ("measure", {"quantity": "qrs_ms", "beat": 99}, "expected a beat from 1 to"),
        ("measure", {"quantity": "qtc_ms", "beat": 1}, "for one beat"),
        ("measure", {}, "expected measure(quantity, lead, beat)"),
        ("measure", "{broken", "expected measure("),
        ("measure", {"kind": "pr"}, "got kind"),
        ("criterion", {"code": "gout"}, "expected a code of"),
        ("zoom", {"lead": "II", "t0": 0, "t1": 9}, "at most 2.5 s"),
        ("zoom", {"lead": "II", "t0": "soon", "t1": 9}, "expected zoom("),
    ],
)
def test_what_is_wrong_with_a_call_comes_back_to_the_model(tools, name, arguments, message):
    assert message in tools.run(name, arguments)["error"]


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("measure(pr_ms)", ("measure", {"quantity": "pr_ms"})),
        ("Let me see.\nmeasure(r_mv, V5, 3)", ("measure", {"quantity": "r_mv", "lead": "V5", "beat": 3})),
        ("call: zoom(lead=II, t0=1.2, t1=2)", ("zoom", {"lead": "II", "t0": 1.2, "t1": 2})),
        ("`criterion('lbbb')`", ("criterion", {"code": "lbbb"})),
        ("criterion(lbbb)\nso there is a block", None),
        ("I would measure(pr_ms) first.", None),
        ("", None),
    ],
)
def test_a_call_is_read_from_the_end_of_a_text(text, call):
    assert parse_call(text) == call


def test_specifications_name_the_arguments_that_the_tools_take():
    for one in specifications():
        function = one["function"]
        assert hasattr(RecordTools, function["name"])
        assert set(function["parameters"]["required"]) <= set(function["parameters"]["properties"])
        json.dumps(one)
