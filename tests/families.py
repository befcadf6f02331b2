"""The two families of httpx, and how a case that was written for the first runs in the second.

As in p2plb/httpx2/, names are replaced: the case sees httpx2 where its module has imported httpx, and p2plb's clients
of that family. So each behaviour is written once, in plain httpx.
"""

import functools
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpcore
import httpcore2
import httpx
import httpx2
import pytest

import p2plb
import p2plb.httpx
import p2plb.httpx.family
import p2plb.httpx2
import p2plb.httpx2.family


class _Package(types.ModuleType):
    """The package p2plb with the clients, transports and errors of the second family."""

    def __getattr__(self, name: str) -> Any:
        return getattr(p2plb.httpx2 if name in p2plb.httpx2.__all__ else p2plb, name)


@dataclass(frozen=True)
class Family:
    """One httpx with p2plb's clients for it."""

    httpx: Any
    p2plb: Any


HTTPX = Family(httpx, p2plb)
HTTPX2 = Family(httpx2, _Package("p2plb"))

_CLASSES = {getattr(p2plb.httpx, name): getattr(p2plb.httpx2, name) for name in p2plb.httpx.__all__}
_MODULES = {httpx: httpx2, httpcore: httpcore2, p2plb: HTTPX2.p2plb, p2plb.httpx.family: p2plb.httpx2.family}
_TWINS: dict[Any, Any] = {**_MODULES, **_CLASSES}


def of_family(case: Callable[..., Any], family: Family) -> Callable[..., Any]:
    """Return a function, and what it calls of its own module, in the names of a family."""
    if family is HTTPX:
        return case
    names: dict[str, Any] = {}
    for name, value in case.__globals__.items():
        ours = isinstance(value, types.FunctionType) and value.__globals__ is case.__globals__
        names[name] = _with_globals(value, names) if ours else _twin(value)
    return _with_globals(case, names)


def in_both_families(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test twice; it takes no `family` itself."""

    @functools.wraps(test)
    def run(family: Family, **fixtures: Any) -> None:
        of_family(test, family)(**fixtures)

    own = inspect.signature(test).parameters.values()
    first = inspect.Parameter("family", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([first, *own])  # type: ignore[attr-defined]  # for pytest
    marked: Callable[..., None] = pytest.mark.parametrize("family", [HTTPX, HTTPX2], ids=["httpx", "httpx2"])(run)
    return marked


def _twin(value: Any) -> Any:
    return _TWINS.get(value, value) if isinstance(value, type | types.ModuleType) else value


def _with_globals(function: Any, names: dict[str, Any]) -> Callable[..., Any]:
    twin = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin
