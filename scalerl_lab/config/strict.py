"""The base of every model that YAML is read into: unknown keys are errors, values are frozen."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)]
"""What ids, folders and tags are made of: letters, digits, ``_``, ``.`` and ``-``."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]


class Strict(BaseModel):
    """A frozen model that refuses unknown keys, so that a misspelt choice can never be ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
