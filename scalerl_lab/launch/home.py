"""Where the lab keeps its databases, run folders and caches."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """Every place the lab writes to.

    Environment: ``LAB_HOME`` (default ``.lab`` in the current folder), ``LAB_DATABASE_URL`` (default a
    SQLite file there), ``LAB_MLFLOW_URI`` (default a SQLite file there).
    """

    root: Path
    database_url: str
    mlflow_uri: str

    @classmethod
    def from_environment(cls, *, create: bool = True) -> Home:
        """Read the places from the environment; creates the root folder unless told not to."""
        root = Path(os.environ.get("LAB_HOME", ".lab")).expanduser().resolve()
        if create:
            root.mkdir(parents=True, exist_ok=True)
        return cls(
            root=root,
            database_url=os.environ.get("LAB_DATABASE_URL") or f"sqlite:///{root / 'lab.db'}",
            mlflow_uri=os.environ.get("LAB_MLFLOW_URI") or f"sqlite:///{root / 'mlflow.db'}",
        )

    @property
    def has_own_database(self) -> bool:
        """Whether the database is the file in the root folder."""
        return self.database_url == f"sqlite:///{self.root / 'lab.db'}"

    @property
    def cache(self) -> Path:
        """Shared warm starts, by content."""
        return self.root / "cache"

    @property
    def ray(self) -> Path:
        """Ray Tune's own files; nothing in there is needed after a sweep."""
        return self.root / "ray"

    @property
    def mlflow_artifacts(self) -> Path:
        """Files that MLflow shows."""
        return self.root / "mlartifacts"

    def run_folder(self, run_id: str) -> Path:
        """The folder of one run."""
        return self.root / "runs" / run_id

    def sweep_lock(self, sweep_id: str) -> Path:
        """The file that the driver of a sweep holds a lock on."""
        return self.root / "locks" / f"{sweep_id}.lock"

    def log(self, name: str) -> Path:
        """A log file of a side process."""
        return self.root / "logs" / f"{name}.log"
