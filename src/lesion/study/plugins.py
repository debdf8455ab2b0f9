"""Judges, attacks and controls of other installed packages, which name them by entry points.

A package is found by its metadata and imported when a study uses it, so that one that is broken
stops no study that does without it. Nothing here imports torch.
"""

from collections.abc import Callable, Collection, Iterator
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, Generic, TypeVar

from lesion.study.types import StudyError, nearest

Value = TypeVar("Value")
_OURS = "lesion."
"""How the groups of entry points for lesion begin."""


class PluginError(StudyError, ValueError):
    """A plug-in is unusable, or there is none; a ValueError, so that pydantic adds the key."""


@cache
def installed() -> dict[str, EntryPoints]:
    """The entry points of all installed packages for lesion, by group.

    Finding them takes some hundredths of a second; `installed.cache_clear()` lets the next call
    look again.
    """
    points = entry_points()
    return {group: points.select(group=group) for group in points.groups if group.startswith(_OURS)}


def package_of(entry: EntryPoint) -> str:
    """The name and the version of the package of an entry point."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "a package without metadata"


def _described(entry: EntryPoint) -> str:
    return (
        f"the entry point `{entry.name} = {entry.value}` (`{entry.group}`) of {package_of(entry)}"
    )


class Plugins(Generic[Value]):
    """The plug-ins of one group of entry points.

    Args:
        group: the group's name, which begins with `lesion.`.
        what: what the group adds, for messages.
        ours: gives lesion's own names.
        accepted: checks a loaded object, given its name, and gives what the plug-in adds; a
            TypeError says how the object must be.
        reserved: further names that no plug-in may have.
    """

    def __init__(
        self,
        group: str,
        what: str,
        ours: Callable[[], Collection[str]],
        accepted: Callable[[str, Any], Value],
        reserved: Collection[str] = (),
    ) -> None:
        self.group, self.what, self.ours = group, what, ours
        self._accepted, self._reserved = accepted, reserved

    def _entries(self) -> EntryPoints:
        return installed().get(self.group, EntryPoints())

    @property
    def names(self) -> list[str]:
        """The names of the plug-ins that are installed."""
        return sorted(self._entries().names)

    def entry(self, name: str) -> EntryPoint | None:
        """The entry point of a name; None if no plug-in has it.

        Raises:
            PluginError: it is the name of several plug-ins, or also one of lesion's own.
        """
        entries = sorted(self._entries().select(name=name), key=package_of)
        if not entries:
            return None
        first, *others = entries
        if others:
            raise PluginError(
                f"the {self.what} `{name}` is given twice: by {_described(first)}, and by "
                f"{_described(others[0])}. Uninstall one of the two packages"
            )
        if name in self.ours() or name in self._reserved:
            raise PluginError(
                f"lesion itself uses the name `{name}`, which is also that of {_described(first)}. "
                "Give it another name in that package, or uninstall the package"
            )
        return first

    def get(self, name: str) -> Value | None:
        """What a plug-in adds by a name; None if no plug-in has it.

        Raises:
            PluginError: the plug-in is unusable.
        """
        entry = self.entry(name)
        if entry is None:
            return None
        try:
            loaded = entry.load()
        except (Exception, SystemExit) as error:  # whatever the code of another package raises
            raise PluginError(
                f"{_described(entry)} can't be loaded: {type(error).__name__}: {error}. Repair or "
                f"update that package, or do without the {self.what} `{name}`"
            ) from error
        try:
            return self._accepted(name, loaded)
        except TypeError as error:
            raise PluginError(
                f"{_described(entry)} {error}. Correct it in that package, or do without the "
                f"{self.what} `{name}` (docs/how-to/adding.md)"
            ) from error

    def check(self, name: str, what: str = "", besides: Collection[str] = ()) -> None:
        """Check that a name is one of lesion's own, or of a plug-in that can be used.

        Args:
            name: given by a study.
            what: what the study calls by it, if that is more than what the group adds.
            besides: further names that the message lists.

        Raises:
            PluginError: there is no such name; the message lists all that there are.
        """
        if self.get(name) is None and name not in self.ours():
            raise self.unknown(name, what, besides)

    def unknown(self, name: str, what: str = "", besides: Collection[str] = ()) -> PluginError:
        """The error that there is no such name (see `check`)."""
        ours = [*self.ours(), *besides]
        guess = nearest(name, {*ours, *self.names})
        listed = ", ".join([*ours, *map(self._labelled, self.names)])
        guess = guess if guess.endswith("?") else "."
        return PluginError(f"no {what or self.what} is named `{name}`{guess} Known: {listed}")

    def _labelled(self, name: str) -> str:
        entries = self._entries().select(name=name)
        return f"{name} ({' and '.join(sorted(map(package_of, entries)))})"

    def problems(self) -> Iterator[str]:
        """What is wrong with installed plug-ins, each of which is loaded."""
        for name in self.names:
            try:
                self.get(name)
            except PluginError as error:
                yield str(error)
