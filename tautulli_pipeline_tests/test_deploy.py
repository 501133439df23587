"""The files in `deploy/` fit the package."""

from __future__ import annotations

import plistlib
import re
from pathlib import Path

import yaml

from tautulli_pipeline.settings import Settings

CHECKOUT = Path(__file__).parents[1]
DEPLOY = CHECKOUT / "deploy"
OUR_PREFIXES = ("IMPORT_", "PIPELINE_", "NATS_", "DEDUP_", "DUCKDB_")


def pinned(lock: Path) -> set[str]:
    return set(re.findall(r"^[a-z][^ ;]+==[^ ;]+", lock.read_text(), re.MULTILINE))


def test_the_container_has_the_tested_versions() -> None:
    shipped = pinned(DEPLOY / "requirements.lock")
    assert shipped
    assert shipped <= pinned(CHECKOUT / "requirements.lock")


def test_the_container_file_copies_files_that_exist() -> None:
    copies = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE
    )
    sources = [name for line in copies for name in line.split()]
    assert len(sources) == 5
    assert all((CHECKOUT / name).exists() for name in sources)


def test_the_files_are_well_formed_and_set_only_known_variables() -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["pipeline"]
    (plist,) = DEPLOY.glob("*.plist")
    unit = (DEPLOY / "tautulli-pipeline.service").read_text()
    names = {
        *service["environment"],
        *plistlib.loads(plist.read_bytes())["EnvironmentVariables"],
        *re.findall(r"^Environment=(\w+)=", unit, re.MULTILINE),
    }
    known = {name.upper() for name in Settings.model_fields}
    assert {name for name in names if name.startswith(OUR_PREFIXES)} <= known
    assert service["read_only"] is True
    assert any(volume.endswith(":/tautulli:ro") for volume in service["volumes"])
