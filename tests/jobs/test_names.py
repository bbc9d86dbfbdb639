"""File names of hostile ids."""

import string
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gem_lightning.ecg.listing import short_names
from gem_lightning.jobs import file_name

HOSTILE = [
    *["", ".", "..", "a/b", "a-b", "a b", "a%2Fb", "1.2.840.1", "1.2.840.2", ".hidden", "end.", "con", "CON.x", "nul"],
    *["ü", "u\u0308", "a\x00b", "%", "%%", "../../etc/passwd", "C:\\x", "\ud800"],
    *["x" * 150, "x" * 151, "x" * 152],
]
ids = st.sampled_from(HOSTILE) | st.text(max_size=12) | st.text(alphabet="./%-aA", max_size=8)


@given(st.lists(ids, unique=True, max_size=20))
def test_two_ids_never_share_a_file(names):
    assert len({file_name(name) for name in names}) == len(names)


@given(ids)
def test_a_name_is_one_plain_file(name):
    found = file_name(name)
    assert set(found) <= set(string.ascii_letters + string.digits + "_-.%")
    assert 0 < len(found) <= 150
    assert found[0] != "."
    assert found[-1] != "."
    assert found.split(".")[0].lower() not in ("con", "nul", "aux", "prn", "com1")


def test_usual_ids_stay_readable():
    assert file_name("JS00001") == "JS00001"
    assert file_name("records100/00000/00001_lr") == "records100%2F00000%2F00001_lr"
    assert file_name("1.2.840.1") == "1.2.840.1"


@given(st.lists(st.text(alphabet="ab.", min_size=1, max_size=7).map(Path), unique=True, max_size=12))
def test_short_names_of_different_files_differ(paths):
    paths = [path for path in paths if path.name]
    assert len(set(short_names(paths))) == len(paths)


def test_a_short_name_gives_way_to_a_whole_one():
    assert short_names([Path("a.dcm"), Path("a.xml"), Path("a.dcm.dcm")]) == ["a.dcm", "a.xml", "a.dcm.dcm"]
