"""How a service logs in, and the properties it keeps with that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr, model_validator

from neon_mq_connector.config.section import Section, setting


class UserSettings(Section):
    """How one service logs in, and whatever else the service keeps with that."""

    username: str | None = setting(
        None,
        expects="a text (user and username are the same key)",
        description="The user's name on the broker. `user` is the same and goes before it.",
    )
    password: SecretStr | None = setting(
        None,
        expects="a text",
        description="The user's password. A number has to stand in quotes.",
    )

    @model_validator(mode="before")
    @classmethod
    def _name_it_username(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        entry = {key: value for key, value in data.items() if key != "user"}
        return entry if data.get("user") is None else {**entry, "username": data["user"]}
