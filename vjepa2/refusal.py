"""How settings of a model are refused: by name and value, which a command line calls otherwise."""

from __future__ import annotations


class SettingError(ValueError):
    """A setting that a model cannot have.

    Args:
        name, value: Of the setting.
        why: What is wrong with it; follows name and value.

    Attributes:
        name, value, why: The same.
    """

    def __init__(self, name: str, value: object, why: str) -> None:
        super().__init__(f"{name}={value!r}{why}")
        self.name, self.value, self.why = name, value, why
