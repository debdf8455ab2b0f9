"""A specification takes each of its fields from one place."""

from typing import Any

import pytest

from lesion.study.job import Specification, specify


class Drawing(Specification):
    """What is drawn, and how."""

    width: int
    colour: str = "black"


class Size(Specification):
    """A section with a field of the drawing and one of its own."""

    width: int
    depth: int = 1


class Look(Specification):
    """Another section with a field of the drawing."""

    colour: str


class Frame(Specification):
    """A section that has a field in common with `Size`."""

    width: int
    colour: str = "gold"


def test_fields_are_those_of_the_sections_and_given_ones_come_first() -> None:
    assert specify(Drawing, Size(width=2), Look(colour="red")) == Drawing(width=2, colour="red")
    assert specify(Drawing, Size(width=2), colour="red") == Drawing(width=2, colour="red")
    assert specify(Drawing, Frame(width=2), colour="red") == Drawing(width=2, colour="red")


def test_a_field_of_two_sections_is_refused() -> None:
    with pytest.raises(TypeError, match=r"two sections give Drawing the fields \['width'\]"):
        specify(Drawing, Size(width=2), Frame(width=3))


@pytest.mark.parametrize("own", [{"width": 3}, {"width": 3, "colour": "red"}])
def test_a_section_that_gives_nothing_is_refused(own: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="Size gives Drawing no field"):
        specify(Drawing, Size(width=2), **own)
