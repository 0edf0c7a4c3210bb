"""`Registry`: names of built-in entries, found as files, and of entries of other packages, found as entry points."""

import fnmatch
import importlib
import pkgutil
import warnings
from collections.abc import Callable, Iterable
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Generic, TypeVar, cast

from vaezoo.errors import PluginWarning, RegistryCollisionError, UnknownNameError, did_you_mean, printable, shorten

T = TypeVar("T")


class Registry(Generic[T]):
    """A mapping of names to entries, each imported on first use.

    Args:
        kind: kind of the entries, for messages.
        group: entry-point group through which other packages register.
        package: package of the built-in entries: the name `a-b` is the function `a_b` or the class `AB` of
            `package.a_b`.
        accepts: returns whether an object from an entry point is an entry.
    """

    def __init__(
        self, kind: str, group: str, package: str | None = None, accepts: Callable[[object], bool] = callable
    ) -> None:
        self.kind, self.group, self.package, self.accepts = kind, group, package, accepts
        self._entries: dict[str, T] = {}
        self._owners: dict[str, str] = {}
        self._warned: set[str] = set()

    @cached_property
    def builtin(self) -> frozenset[str]:
        """The names of the modules in the package."""
        spec = find_spec(self.package) if self.package else None
        places = list(spec.submodule_search_locations or ()) if spec else []
        return frozenset(module.name.replace("_", "-") for module in pkgutil.iter_modules(places))

    def plugins(self) -> dict[str, list[EntryPoint]]:
        """Returns the entry points of other packages by name, without those that have a built-in name.

        A name has several entry points if several packages offer it; `get` raises RegistryCollisionError for it.
        """
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            if point.name in self.builtin:
                self._warn(point, f"the name belongs to vaezoo itself; {owner_of(point)} must choose another")
            elif owner_of(point) not in map(owner_of, found.setdefault(point.name, [])):
                found[point.name].append(point)
        return found

    def packages(self, names: Iterable[str]) -> set[str]:
        """Returns the names of the installed packages, other than vaezoo, that offer `names`."""
        found = self.plugins()
        return {point.dist.name for name in names for point in found.get(name, []) if point.dist is not None}

    def names(self) -> list[str]:
        """Returns all names, sorted, without importing them."""
        return sorted({*self.builtin, *self.plugins(), *self._entries})

    def register(self, name: str, entry: T, *, owner: str = "your code", override: bool = False) -> T:
        """Registers `entry` under `name`.

        Raises:
            RegistryCollisionError: the name is taken by another owner and `override` is False.
        """
        taken = self._taken(name, owner)
        if taken is not None and taken != owner and not override:
            raise RegistryCollisionError(
                f"The {self.kind} {name!r} of {owner} is already registered by {taken}. Choose another name, or pass "
                "override=True."
            )
        self._entries[name], self._owners[name] = entry, owner
        return entry

    def _taken(self, name: str, owner: str) -> str | None:
        """Returns the owner of a name if it is not `owner`: vaezoo, your code, or an installed package."""
        if name in self.builtin:
            return None if owner == f"{self.package}.{name.replace('-', '_')}" else "vaezoo"
        if name in self._owners:
            return self._owners[name]
        points = self.plugins().get(name, [])
        others = [each for each in points if each.module.partition(".")[0] != owner.partition(".")[0]]
        return owner_of(others[0]) if others else None

    def get(self, name: str) -> T:
        """Returns the entry `name`, importing its module on first use.

        Raises:
            UnknownNameError: with the closest names.
            RegistryCollisionError: several packages offer it.
        """
        if not isinstance(name, str):
            raise UnknownNameError(self.kind, name, self.names(), "A name is a string.")
        if name not in self._entries:
            if name in self.builtin:
                module = importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
                if name not in self._entries:
                    snake, camel = name.replace("-", "_"), name.title().replace("-", "")
                    self._entries[name] = getattr(module, snake if hasattr(module, snake) else camel)
            else:
                self._load_plugin(name)
        return self._entries[name]

    def available(self, pattern: str = "*") -> tuple[dict[str, T], dict[str, str]]:
        """Returns the entries whose names match a shell pattern, and the reason for each name that cannot be loaded."""
        found, broken = dict[str, T](), dict[str, str]()
        for name in self.names():
            if fnmatch.fnmatchcase(name, pattern):
                try:
                    found[name] = self.get(name)
                except (UnknownNameError, RegistryCollisionError) as error:
                    broken[name] = str(error).removeprefix(f"Unknown {self.kind} {name!r}. ")
        return found, broken

    def _load_plugin(self, name: str) -> None:
        points = self.plugins().get(name, [])
        hint = ""
        if len(points) > 1:
            owners = " and ".join(map(owner_of, points))
            self._warn(points[0], f"both {owners} offer it")
            raise RegistryCollisionError(
                f"Several packages register the {self.kind} {name!r}: {owners}. Uninstall all but one of them."
            )
        for point in points:
            try:
                loaded = point.load()
                if name not in self._entries:  # the module may have registered it already
                    self._entries[name] = self._checked(loaded)
                return
            except (Exception, SystemExit) as error:  # a broken plug-in affects its own name alone
                reason = printable(f"{type(error).__name__}: {error}", 300).removesuffix(".")
                hint = f"The plug-in {owner_of(point)} that offers it failed to load: {reason}."
                self._warn(point, hint)
        if not points and not did_you_mean(name, self.names()):
            hint = (
                f"Your own {self.kind} has a name after its module is imported; a command finds it in an installed "
                f"package with an entry point of the group {self.group}."
            )
        raise UnknownNameError(self.kind, name, () if points else self.names(), hint)

    def _checked(self, loaded: object) -> T:
        if not self.accepts(loaded):
            raise TypeError(f"got {shorten(loaded)} from its entry point; expected what @register returns or a builder")
        return cast(T, loaded)

    def _warn(self, point: EntryPoint, reason: str) -> None:
        if point.value not in self._warned:
            self._warned.add(point.value)
            warnings.warn(f"The {self.kind} {point.name!r} was ignored: {reason}", PluginWarning, stacklevel=3)


def owner_of(point: EntryPoint) -> str:
    """Returns the name of the distribution that an entry point comes from."""
    return point.dist.name if point.dist is not None else point.value
