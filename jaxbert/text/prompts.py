"""The prompts of a model: a dict that checks every change before it makes it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from jaxbert.errors import InputError, InputTypeError, shown, warn_caller


class PromptWarning(UserWarning):
    """A prompt was named that is not used, for another was given as text."""


class Prompts(dict[str, str]):
    """Prompts by name. A copy, a pickle and a dict made from it are plain dicts."""

    def __init__(
        self,
        prompts: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        check: Callable[[Mapping[str, str]], None] = lambda prompts: None,
    ) -> None:
        """check is called with the new prompts before each change, and raises to refuse it."""
        checked = dict(checked_prompt(*item) for item in as_dict(prompts).items())
        check(checked)
        super().__init__(checked)
        self.check = check

    def __setitem__(self, name: str, text: str) -> None:
        """Add or change a prompt. Raises InputTypeError unless both are str."""
        name, text = checked_prompt(name, text)
        self.check({**self, name: text})
        super().__setitem__(name, text)

    def __delitem__(self, name: str) -> None:
        """Remove a prompt. Raises InputError for the default one."""
        self.check({known: text for known, text in self.items() if known != name})
        super().__delitem__(name)

    def __ior__(self, other: Any) -> Self:  # type: ignore[override, misc]
        """Add or change several prompts, as `update` does."""
        self.update(other)
        return self

    def update(self, *others: Any, **more: str) -> None:
        """Add or change several prompts, or none of them if one is refused."""
        changes = dict(more)
        for other in others:
            changes = as_dict(other) | changes
        super().update(Prompts({**self, **changes}, self.check))

    def setdefault(self, name: str, text: str = "") -> str:
        """The prompt of a name; text is added under it if there is none."""
        if name not in self:
            self[name] = text
        return self[name]

    def pop(self, name: str, *default: Any) -> Any:
        """Remove and return a prompt; the default if there is none, or KeyError without one."""
        text = super().get(name, *default) if default else self[name]
        if name in self:
            del self[name]
        return text

    def popitem(self) -> tuple[str, str]:
        """Remove the last prompt, and return its name and text.

        Raises InputError for the default one, KeyError if there is none.
        """
        if not self:
            raise KeyError("there is no prompt left")
        name = next(reversed(self))
        return name, self.pop(name)

    def clear(self) -> None:
        """Remove all prompts. Raises InputError if one of them is the default."""
        self.check({})
        super().clear()

    def __reduce__(self) -> tuple[type, tuple[dict[str, str]]]:
        """A copy or a pickle is a plain dict, since it belongs to no model that could check it."""
        return dict, (dict(self),)


def as_dict(prompts: Any) -> dict[Any, Any]:
    """A caller's prompts as a dict. Raises InputTypeError."""
    try:
        return dict(prompts)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"prompts is {shown(prompts)}; pass a dict of str") from error


def checked_prompt(name: Any, text: Any) -> tuple[str, str]:
    """A name and a prompt as plain str, also those of a subclass. Raises InputTypeError."""
    check_str(name, "the name of a prompt")
    check_str(text, f"the prompt {name!r}")
    return str.__str__(name), str.__str__(text)


def check_str(value: object, title: str) -> None:
    """Raise InputTypeError, which names title, unless value is a str."""
    if not isinstance(value, str):
        raise InputTypeError(f"{title} is a {type(value).__name__}; pass str")


def check_default(default: str | None, prompts: Mapping[str, str]) -> None:
    """Raise InputError unless the default prompt is among the prompts."""
    if default is not None and default not in prompts:
        known = ", ".join(map(repr, prompts)) or "none"
        raise InputError(f"default_prompt_name is {shown(default)}, but the prompts are: {known}")


def chosen(
    prompts: Mapping[str, str], default: str | None, name: str | None, text: str | None
) -> str:
    """The prompt that applies: the text, else the one named, else the one named by default.

    Empty where there is none of them. Warns of a name beside a text, which is used alone. Raises
    InputTypeError, and InputError for an unknown name.
    """
    for value, title in ((text, "prompt"), (name, "prompt_name")):
        if value is not None:
            check_str(value, title)
    if text is not None:
        if name is not None:
            message = "prompt and prompt_name were both given; prompt is used, so leave one out"
            warn_caller(message, PromptWarning)
        return str.__str__(text)
    name = default if name is None else name
    if name is None:
        return ""
    if name not in prompts:
        known = ", ".join(map(repr, prompts)) or "none"
        raise InputError(f"the model has no prompt named {shown(name)}; it has: {known}")
    return str.__str__(prompts[name])
