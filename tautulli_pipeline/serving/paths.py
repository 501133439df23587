"""The paths of the web server that are not Dagster's."""

from typing import Final

API: Final = "/api/v1"
LOGIN: Final = "/login"
