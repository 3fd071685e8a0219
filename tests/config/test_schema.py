"""Models are walked by key path: through choices, containers and options."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from scalerl_lab.config.overrides import get, merged, override
from scalerl_lab.config.problems import KeyPathError, nearest, render
from scalerl_lab.config.schema import keys_at, type_at, types_of, validate
from scalerl_lab.config.strict import Strict


class Round(Strict):
    type: Literal["round", "ball"] = "round"
    radius: float = 1.0


class Square(Strict):
    type: Literal["square"] = "square"
    side: int = 1
    inner: Round = Round()


Shape = Annotated[Round | Square, Field(discriminator="type")]


class Drawing(Strict):
    main: Shape = Square()
    more: tuple[Shape, ...] = ()
    named: dict[str, Shape] | None = None
    backdrop: Square | None = None
    note: str | None = None
    title: str = ""


def test_keys_follow_the_choices_in_the_data() -> None:
    data = {
        "main": {"type": "square", "inner": {}},
        "more": [{"type": "ball"}, {"type": "square"}],
        "named": {"x": {"type": "round"}, "y": {"type": "hexagon"}},
        "backdrop": {},
    }
    round_keys, square_keys = ("type", "radius"), ("type", "side", "inner")
    expected = {
        (): tuple(Drawing.model_fields),
        ("main",): square_keys,
        ("main", "inner"): round_keys,
        ("more", 0): round_keys,
        ("more", 1): square_keys,
        ("more", 2): (),
        ("named", "x"): round_keys,
        ("named", "y"): (),
        ("backdrop",): square_keys,
        ("backdrop", "inner"): round_keys,
        ("title",): (),
        ("title", "x"): (),
        ("nowhere", "x"): (),
    }
    assert {path: keys_at(Drawing, data, path) for path in expected} == expected
    assert type_at(Drawing, data, ("main", "side")) is int
    assert type_at(Drawing, data, ("main", "radius")) is None
    assert type_at(Drawing, data, ("title", "x")) is None


def test_a_union_is_listed_by_type() -> None:
    assert types_of(Shape) == {"round": Round, "ball": Round, "square": Square}
    assert types_of(str) == {}


def test_nothing_is_coerced() -> None:
    for data in ({"side": "1"}, {"side": 1.0}, {"side": True}):
        with pytest.raises(KeyPathError, match=r"^side: must be a whole number, got"):
            validate(Square, data)
    assert validate(Round, {"radius": 2}).radius == 2.0


def test_problems_within_a_choice_leave_its_tag_out_of_the_path() -> None:
    with pytest.raises(KeyPathError) as error:
        validate(
            Drawing, {"more": [{"type": "square", "sied": 1}, {"type": "square", "inner": {"radius": "x"}}]}
        )
    assert [render(each.path) for each in error.value.problems] == ["more[0].sied", "more[1].inner.radius"]


# ---------------------------------------------------------------- overrides

DRAWING = Drawing(named={"x": Round(radius=2.0)})


def test_mappings_merge_and_choices_are_replaced() -> None:
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}) == {"a": {"b": 1, "c": 3}}
    assert merged({"a": 1}, {"type": "t"}) == {"type": "t"}
    assert merged({"a": 1}, None) is None
    assert override(DRAWING, {"main.inner": {"radius": 3.0}}).main == Square(inner=Round(radius=3.0))
    assert override(DRAWING, {"main": {"type": "round"}}).main == Round()
    assert override(DRAWING, {"main.type": "round", "main.radius": 5.0}).main == Round(radius=5.0)
    assert override(DRAWING, {"named.y": {"type": "square"}}).named == {"x": Round(radius=2.0), "y": Square()}
    assert override(DRAWING, {"named": None, "note": "n"}) == Drawing(note="n")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (
            "titel",
            "unknown key 'titel'; allowed: backdrop, main, more, named, note, title; did you mean 'title'?",
        ),
        ("main.radius", "unknown key 'radius'; allowed: inner, side, type (main is 'square' here)"),
        ("named.z.radius", "unknown key 'z'; allowed: x"),
        ("title.x", "title is a single value and has no keys"),
        ("title.type", "title is a single value and has no keys"),
        ("title.x.y", "title is a single value and has no keys"),
    ],
)
def test_a_path_that_does_not_exist(path: str, says: str) -> None:
    with pytest.raises(KeyPathError) as error:
        override(DRAWING, {path: 1}, ("at",))
    assert str(error.value) == f"at.{path}: {says}"


def test_a_problem_of_the_result_is_told_where_it_was_caused() -> None:
    causes = {"main.side": "x", "more": [{"type": "ball", "radius": "y"}], "backdrop": {"sid": 1}}
    with pytest.raises(KeyPathError) as error:
        override(DRAWING, causes, ("set",))
    assert [each.path for each in error.value.problems] == [
        ("set", "main.side"),
        ("set", "more", 0, "radius"),
        ("set", "backdrop", "sid"),
    ]


def test_reading_a_path() -> None:
    assert get(DRAWING, "named.x.radius") == 2.0
    assert get(DRAWING, "main") == {"type": "square", "side": 1, "inner": {"type": "round", "radius": 1.0}}
    with pytest.raises(KeyPathError, match=r"^unknown key 'named2'"):
        get(DRAWING, "named2.x")


@settings(max_examples=25, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.text())
def test_the_order_of_changes_does_not_matter(radius: float, side: int, title: str) -> None:
    changes = {"main.side": side, "title": title, "main.inner.radius": radius, "more": [{"type": "ball"}]}
    backwards = dict(reversed(changes.items()))
    assert override(DRAWING, changes) == override(DRAWING, backwards)
    again = override(override(DRAWING, changes), changes)
    assert again == override(DRAWING, changes), "changing twice changes nothing more"


def test_the_nearest_name_is_near() -> None:
    assert nearest("LOS", ["loss", "model"]) == "; did you mean 'loss'?"
    assert nearest("xyz", ["loss", "model"]) == ""
