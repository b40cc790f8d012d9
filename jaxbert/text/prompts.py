"""The prompts of a model: a dict whose every change is checked before it is made."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from jaxbert.errors import InputTypeError, shown


class Prompts(dict[str, str]):
    """Prompts by name. Other dicts may be made of it; a copy or pickle of it is a plain dict."""

    def __init__(
        self,
        prompts: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        check: Callable[[Mapping[str, str]], None] = lambda prompts: None,
    ) -> None:
        """check refuses what the model cannot have, by an exception."""
        checked = dict(checked_prompt(*item) for item in as_dict(prompts).items())
        check(checked)
        super().__init__(checked)
        self.check = check

    def __setitem__(self, name: str, text: str) -> None:
        """Add or change a prompt. Raises InputTypeError for what is no str."""
        name, text = checked_prompt(name, text)
        self.check({**self, name: text})
        super().__setitem__(name, text)

    def __delitem__(self, name: str) -> None:
        """Remove a prompt. Raises InputError for the default one."""
        self.check({known: text for known, text in self.items() if known != name})
        super().__delitem__(name)

    def __ior__(self, other: Any) -> Self:  # type: ignore[override, misc]
        """Add or change several prompts."""
        self.update(other)
        return self

    def update(self, *others: Any, **more: str) -> None:
        """Add or change several prompts, or none of them if one is refused."""
        given = dict(more)
        for other in others:
            given = as_dict(other) | given
        super().update(Prompts({**self, **given}, self.check))

    def setdefault(self, name: str, text: str = "") -> str:
        """The prompt of the name, which is added if there is none."""
        if name not in self:
            self[name] = text
        return self[name]

    def pop(self, name: str, *default: Any) -> Any:
        """Remove a prompt and give it; the default if there is none, else KeyError."""
        text = super().get(name, *default) if default else self[name]
        if name in self:
            del self[name]
        return text

    def popitem(self) -> tuple[str, str]:
        """Remove the last prompt. Raises InputError for the default one, KeyError for none."""
        if not self:
            raise KeyError("there is no prompt left")
        name = next(reversed(self))
        return name, self.pop(name)

    def clear(self) -> None:
        """Remove all prompts. Raises InputError if one of them is the default."""
        self.check({})
        super().clear()

    def __reduce__(self) -> tuple[type, tuple[dict[str, str]]]:
        """A plain dict, in a copy or a pickle: it has no model to ask."""
        return dict, (dict(self),)


def as_dict(prompts: Any) -> dict[Any, Any]:
    """Prompts as they are given, as a dict."""
    try:
        return dict(prompts)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"prompts is {shown(prompts)}; pass a dict of str") from error


def checked_prompt(name: Any, text: Any) -> tuple[str, str]:
    """A name and a prompt, plain str of whatever subclass of it they are."""
    check_str(name, "the name of a prompt")
    check_str(text, f"the prompt {name!r}")
    return str.__str__(name), str.__str__(text)


def check_str(value: object, title: str) -> None:
    """Refuse what is no str."""
    if not isinstance(value, str):
        raise InputTypeError(f"{title} is a {type(value).__name__}; pass str")
