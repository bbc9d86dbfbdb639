import pytest

from gem_lightning.composition.chains.chain import Question
from gem_lightning.evaluation.reasoning.answers import candidates, chosen, right

PR = Question(
    "criterion_selection",
    "Which criterion?",
    ("Shortened PR intervals", "Presence of PR depression", "Prolongation of the PR interval"),
    ("Prolongation of the PR interval",),
)
RANGE = Question(
    "measurement_grounding", "Range?", ("Below 200ms", "[200ms - 210ms]", "Above 210ms"), ("[200ms - 210ms]",)
)
LEADS = Question("lead_grounding", "Leads?", ("Lead I", "Lead II", "Lead aVF", "Lead V1"), ("Lead II", "Lead aVF"))
DECISION = Question("diagnostic_decision", "So?", ("Yes", "No", "Further findings are required"), ("No",))


@pytest.mark.parametrize(
    "text",
    [
        "Prolongation of the PR interval",
        "prolongation of the pr interval.",
        "(c)",
        "C",
        "c) Prolongation of the PR interval",
        "**Prolongation of the PR interval**",
        "The correct answer is: Prolongation of the PR interval",
        "Answer: (C)",
        2,
        ["Prolongation of the PR interval"],
    ],
)
def test_an_option_is_read_from_its_text_its_letter_or_a_sentence(text):
    assert right(PR, text)


@pytest.mark.parametrize(
    "text",
    ["Progressive prolongation of the PR interval", "", "I don't know", "both (b) and (c)", "d", 7, -1, None, True,
     ["x"], "Shortened PR intervals, or the prolongation of the PR interval"],
)  # fmt: skip
def test_other_terms_and_several_options_are_unreadable(text):
    assert not chosen(PR, text)


def test_a_leading_presence_of_may_be_left_out():
    assert chosen(PR, "PR depression") == {"Presence of PR depression"}


@pytest.mark.parametrize("text", ["200ms - 210ms", "It lies in [200ms - 210ms].", "(b)"])
def test_a_range_is_read_with_and_without_brackets(text):
    assert right(RANGE, text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [("No.", "No"), ("no, it does not", "No"), ("The answer is yes", "Yes"), ("**Yes**", "Yes"),
     ("Further findings are required", "Further findings are required")],
)  # fmt: skip
def test_yes_and_no_are_read_by_the_first_or_last_word(text, answer):
    assert chosen(DECISION, text) == {answer}


@pytest.mark.parametrize(
    ("text", "good"),
    [("Lead II, Lead aVF", True), ("II and aVF", True), ("I think leads II, aVF show it", True), ("(b), (c)", True),
     (["Lead aVF", "Lead II"], True), ("Lead II", False), ("II, aVF, V1", False), ("II, aVF, III", False),
     ("I see it everywhere", False), ("", False)],
)  # fmt: skip
def test_leads_are_compared_as_sets(text, good):
    assert right(LEADS, text) is good


def test_the_complete_answers_to_a_lead_question_are_all_sets():
    assert len(candidates(LEADS)) == 15
    assert "Lead II, Lead aVF" in candidates(LEADS)
    assert candidates(PR) == PR.options


def test_every_option_that_a_prompt_lists_can_be_given_back_by_its_letter():
    for question in (PR, RANGE, DECISION):
        text = question.prompt
        for letter, option in zip("abc", question.options):
            assert f"({letter}) {option}" in text
            assert chosen(question, f"({letter})") == {option}
