"""From a name or a path to a recipe, a sweep or a profile.

A file is found as given, else beside the file that names it, else in the folder of its kind: of the
current directory, of the checkout, of the installed package (``scalerl_lab/shipped``).

A recipe may say ``extends: other_recipe`` and then only what differs; its name, its prose and its
stand-ins are its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel

from scalerl_lab.config.document import Document, Value, read_document, shown
from scalerl_lab.config.overrides import merged
from scalerl_lab.config.problems import KeyPath, KeyPathError, nearest, one_problem
from scalerl_lab.config.profile import Profile
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.schema import validate
from scalerl_lab.config.sweep import Sweep
from scalerl_lab.errors import NotFound

Kind = Literal["recipe", "sweep", "profile"]
M = TypeVar("M", bound=BaseModel)

FOLDERS: dict[Kind, str] = {"recipe": "recipes", "sweep": "sweeps", "profile": "sweeps/profiles"}
PACKAGE = Path(__file__).resolve().parent.parent
OWN_TO_A_RECIPE = ("name", "about", "stands_in")


def read_recipe(name_or_path: str | Path, beside: Path | None = None) -> Recipe:
    """The recipe of that name or in that file, with what it extends.

    Raises:
        NotFound: There is no such file; names the nearest.
        ConfigError: What the file says is not allowed; names file, line and key path of each problem.
    """
    return _read(Recipe, recipe_document(name_or_path, beside))


def read_sweep(name_or_path: str | Path) -> Sweep:
    """The sweep of that name or in that file; raises as ``read_recipe``."""
    return _read(Sweep, sweep_document(name_or_path))


def read_profile(name_or_path: str | Path) -> Profile:
    """The profile of that name or in that file; raises as ``read_recipe``."""
    return _read(Profile, _named(read_document(shipped("profile", name_or_path))))


def recipe_document(name_or_path: str | Path, beside: Path | None = None) -> Document:
    """A recipe's keys and their places, with those of the recipes it extends."""
    return _extended(shipped("recipe", name_or_path, beside), ())


def sweep_document(name_or_path: str | Path) -> Document:
    """A sweep's keys and their places; a comparison is about the first of its recipes."""
    document = _named(read_document(shipped("sweep", name_or_path)))
    match document.data:
        case {"question": {"type": "compare", "recipes": [first, *_]}}:
            document.data.setdefault("recipe", first)
    return document


def shipped(kind: Kind, name: str | Path, beside: Path | None = None) -> Path:
    """The file of a recipe, sweep or profile.

    Args:
        kind: What is looked for.
        name: A path, or a name with or without ``.yaml``.
        beside: Folder of the file that names it.

    Raises:
        NotFound: No place has it; names the nearest of those that exist.
    """
    given = Path(name)
    wanted = given if given.suffix in (".yaml", ".yml") else given.with_name(given.name + ".yaml")
    for candidate in (given, wanted):
        if candidate.is_file():
            return candidate
    tops = _tops()
    folders = [*([beside] if beside else []), *(top / FOLDERS[kind] for top in tops), *tops]
    for folder in folders:
        if (folder / wanted).is_file():
            return folder / wanted
    there = available(kind)
    raise NotFound(
        f"no {kind} {str(name)!r}; there {'are' if len(there) != 1 else 'is'} "
        f"{', '.join(there) or 'none'}{nearest(wanted.stem, there)}"
    )


def data_file(name: str) -> Path:
    """A file of prompts that a recipe names: as given, else in a folder ``recipes``.

    Raises:
        NotFound: No place has it; names them.
    """
    given = Path(name)
    places = list(dict.fromkeys([given, *(top / FOLDERS["recipe"] / given for top in _tops())]))
    for place in places:
        if place.is_file():
            return place
    raise NotFound(f"no file of prompts {name!r}; looked for {', '.join(map(str, places))}")


def available(kind: Kind) -> tuple[str, ...]:
    """Names of all recipes, sweeps or profiles that are found without a path."""
    folders = [top / FOLDERS[kind] for top in _tops()]
    return tuple(
        sorted({file.stem for folder in folders if folder.is_dir() for file in folder.glob("*.yaml")})
    )


def _tops() -> list[Path]:
    """Folders that hold ``recipes`` and ``sweeps``, in the order of the search."""
    checkout = PACKAGE.parent
    tops = [Path.cwd(), *([checkout] if (checkout / "pyproject.toml").is_file() else []), PACKAGE / "shipped"]
    return list(dict.fromkeys(tops))


def _read(model: type[M], document: Document) -> M:
    try:
        return validate(model, document.data)
    except KeyPathError as error:
        raise document.located(error) from None


def _named(document: Document) -> Document:
    """A file that gives no name is called as the file."""
    document.data.setdefault("name", Path(document.file).stem)
    return document


def _extended(path: Path, above: tuple[Path, ...]) -> Document:
    """A recipe's document laid over that of the recipe it extends."""
    document = _named(read_document(path))
    if "extends" not in document.data:
        return document
    parent = document.data.pop("extends")
    if not isinstance(parent, str):
        raise document.located(one_problem(("extends",), f"must be the name of a recipe, got {parent!r}"))
    chain = (*above, path.resolve())
    try:
        parent_path = shipped("recipe", parent, path.parent)
    except NotFound as error:
        raise document.located(one_problem(("extends",), str(error))) from None
    if parent_path.resolve() in chain:
        circle = " -> ".join(shown(step) for step in (*chain, parent_path))
        raise document.located(one_problem(("extends",), f"goes in a circle: {circle}"))
    base = _extended(parent_path, chain)
    data: dict[str, Value] = {k: v for k, v in base.data.items() if k not in OWN_TO_A_RECIPE}
    data |= {k: merged(data.get(k), v) for k, v in document.data.items()}
    places = {path: place for path, place in base.places.items() if _survives(path, document.data)}
    return Document(document.file, data, places | document.places)


def _survives(path: KeyPath, child: Value) -> bool:
    """Whether a parent's key is still there under a child: not below a value that the child replaces."""
    for part in path:
        if not isinstance(child, dict) or "type" in child:
            return False
        if part not in child:
            return True
        child = child[str(part)]
    return True
