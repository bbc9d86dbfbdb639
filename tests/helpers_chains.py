"""Chains of questions in the published form of ECG-Reasoning-Benchmark, for tests."""

import json

DECISIONS = ["Yes", "No", "Further findings are required"]


def question(kind, text, options, answer):
    row = {"question": text, "options": options, "answer": answer, "question_type": kind}
    if kind == "initial_diagnostic_question":
        return row
    places = [options.index(one) for one in answer] if isinstance(answer, list) else options.index(answer)
    return row | {"answer_idx": places}


def chain(name, ecg="simulate:av_block_1::3", source="simulator", **facts):
    """A chain of two loops with seven questions after the initial one, in the published form."""
    first = {
        "criterion_selection": question("criterion_selection", "Which first?", ["Axis", "Conduction"], "Conduction"),
        "finding_identification": question("finding_identification", "Is it 1:1?", ["Yes", "No"], "Yes"),
        "ecg_grounding": [],
        "diagnostic_decision": question("diagnostic_decision", "So far?", DECISIONS, DECISIONS[2]),
    }
    second = {
        "criterion_selection": question("criterion_selection", "Which next?", ["A long PR", "A short PR"], "A long PR"),
        "finding_identification": question("finding_identification", "Is PR long?", ["Yes", "No"], "Yes"),
        "ecg_grounding": [
            question("lead_grounding", "Leads?", ["Lead I", "Lead II", "Lead V1"], ["Lead I", "Lead V1"])
        ],
        "diagnostic_decision": question("diagnostic_decision", "Now?", DECISIONS, "Yes"),
    }
    known = {"id": name, "data_source": source, "ecg_id": str(name), "target_dx": "first_degree_av_block"}
    known |= {"dx_label": True, "path_idx": 0, **facts} | ({"ecg": ecg} if ecg else {})
    initial = question("initial_diagnostic_question", "Is there a block?", ["Yes", "No"], "Yes")
    return {"metadata": known, "data": {"initial_diagnostic_question": initial, "reasoning": [first, second]}}


RIGHT = ["Yes", "Conduction", "Yes", DECISIONS[2], "A long PR", "Yes", ["Lead I", "Lead V1"], "Yes"]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
