"""One reading of the settings: the value of each, the name it was written under, and the problems found so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from proxy.errors import SettingProblem
from proxy.settings.sources import Written, settle

Model = TypeVar("Model", bound=BaseModel)


class Reading:
    """Written settings by key (`gateway_listen`), and the problems with them."""

    def __init__(self, written: Mapping[str, Iterable[Written]], problems: list[SettingProblem]) -> None:
        self.problems = problems
        self._names = {key: next(iter(spellings)).name for key, spellings in written.items()}
        self._values: dict[str, object] = {}
        for key, spellings in written.items():
            settled = settle(key, spellings, problems)
            if settled is not None:
                self._names[key] = settled.name
                self._values[key] = settled.value

    def has(self, *keys: str) -> bool:
        """Return whether any of these is written, good or bad."""
        return any(key in self._names for key in keys)

    def name(self, key: str) -> str:
        """Return a setting's name as the user wrote it, or else its variable."""
        return self._names.get(key, key.upper())

    def problem(self, key: str, message: str) -> None:
        """Note a problem of a setting."""
        self.problems.append(SettingProblem(self.name(key), message))

    def section(self, model: type[Model], fields: Mapping[str, str]) -> Model | None:
        """Make a model of these settings (key to field); return None if one of them has a problem."""
        found = {field: self._values[key] for key, field in fields.items() if key in self._values}
        keys = {field: key for key, field in fields.items()}
        return self.checked(model, found, lambda field: self.name(keys[field]))

    def checked(self, model: type[Model], values: Mapping[str, object], name: Callable[[str], str]) -> Model | None:
        """Make a model of values by field; return None if one has a problem, noted under the field's `name`."""
        try:
            return model.model_validate(dict(values))
        except ValidationError as error:
            for found in error.errors(include_url=False, include_input=False):
                field = str(found["loc"][0])
                match found["type"]:
                    case "default_factory_not_called":
                        continue  # a default that is made of another field, which has the problem
                    case "missing":
                        message = "is required"
                    case "extra_forbidden":
                        message = "is not a setting"
                    case _:
                        message = str(found.get("ctx", {}).get("error", found["msg"]))
                self.problems.append(SettingProblem(name(field), message))
            return None
