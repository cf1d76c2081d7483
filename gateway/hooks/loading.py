"""From `module:attribute` to a hook that can be called, or to what is wrong with it.

Modules are those of the installed packages, and those of one directory. The directory comes last, so that a file in it
never takes the place of a module that the gateway itself needs. Each module is imported once in a process.
"""

import copy
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_POINTS: Final = ("on_request", "on_response")
_LONGEST: Final = 200


class HookError(Exception):
    """The hook cannot be used. `found` is what there is, `allowed` what there should be."""

    def __init__(self, found: str, allowed: str) -> None:
        super().__init__(f"{found}; {allowed}")
        self.found = found
        self.allowed = allowed


class HookCode:
    """A hook. `on_request` and `on_response` are its methods, None for one that it does not have. `digest` tells the
    file of its module from an earlier one, and is what the configuration says of it."""

    __slots__ = ("digest", "on_request", "on_response")

    def __init__(
        self, on_request: Callable[..., object] | None, on_response: Callable[..., object] | None, digest: str = ""
    ) -> None:
        self.on_request = on_request
        self.on_response = on_response
        self.digest = digest

    def __str__(self) -> str:
        return self.digest


def load(use: str, settings: Mapping[str, Any], directory: str) -> HookCode:
    """The hook that `use` names: an object, or a class that is called with `settings`. Raises `HookError`."""
    name, _, attribute = use.partition(":")
    module = _module(name, Path(directory).resolve())
    found: object = module
    for step in attribute.split("."):
        if not hasattr(found, step):
            raise HookError(f"{name} has no {attribute}", "an attribute of the module")
        found = getattr(found, step)
    if isinstance(found, type):
        try:
            found = found(**copy.deepcopy(dict(settings)))
        except BaseException as error:
            _leave_to_the_operator(error)
            words = _without(_words(error), settings)
            raise HookError(words, "a class that can be called with these settings") from error
    elif settings:
        raise HookError("it has settings", "none: they are for a class, and this is an object")
    on_request, on_response = (_method(found, point) for point in _POINTS)
    if on_request is None and on_response is None:
        allowed = "an object with one of them, or a class of such objects"
        raise HookError("it has no on_request and no on_response", allowed)
    return HookCode(on_request, on_response, _digest(module))


def _module(name: str, directory: Path) -> ModuleType:
    if str(directory) not in sys.path:
        sys.path.append(str(directory))
        importlib.invalidate_caches()
    # What is compiled from a source that is edited within the same second would be taken for that of the new one.
    writes = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        module = importlib.import_module(name)
    except BaseException as error:
        _leave_to_the_operator(error)
        if (
            isinstance(error, ModuleNotFoundError)
            and error.name is not None
            and f"{name}.".startswith(f"{error.name}.")
        ):
            raise HookError(
                f"there is no module {error.name}", f"a module in {directory}, or an installed one"
            ) from None
        raise HookError(_words(error), "a module that can be imported") from error
    finally:
        sys.dont_write_bytecode = writes
    top = name.partition(".")[0]
    here = directory / f"{top}.py", directory / top / "__init__.py"
    file = getattr(sys.modules[top], "__file__", None)
    if any(path.is_file() for path in here) and (file is None or Path(file).resolve() not in here):
        raise HookError(f"another module is called {top}, too", f"another name for that in {directory}")
    return module


def _method(hook: object, name: str) -> Callable[..., object] | None:
    method: Any = getattr(hook, name, None)
    if method is None:
        return None
    if not callable(method):
        raise HookError(f"{name} cannot be called", "a method")
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method) or inspect.isgeneratorfunction(method):
        raise HookError(f"{name} is not a plain function", "a method without async and yield: hooks do not wait")
    try:
        inspect.signature(method).bind(None)
    except TypeError:
        raise HookError(f"{name} does not take one argument", f"{name}(self, head)") from None
    except ValueError:
        pass  # Written in C, it does not tell.
    return method  # type: ignore[no-any-return]  # it is callable, as is seen above


def _digest(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    try:
        return "" if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]
    except OSError:
        return ""


def _leave_to_the_operator(error: BaseException) -> None:
    """Ctrl-C during a long import is meant for the program."""
    if isinstance(error, KeyboardInterrupt):
        raise error


def _words(error: BaseException) -> str:
    """What was raised and where, in one line."""
    if isinstance(error, SyntaxError):
        where = f"{Path(error.filename or '?').name}:{error.lineno}"
        return one_line(f"{type(error).__name__}: {error.msg} ({where})")
    return described(error)


def _without(text: str, secret: object) -> str:
    """The text without what stands in settings: it may be a key."""
    if isinstance(secret, Mapping):
        secret = list(secret.values())
    if isinstance(secret, list):
        for each in secret:
            text = _without(text, each)
    elif isinstance(secret, str) and secret:
        text = text.replace(secret, "***")
    return text


def described(error: BaseException) -> str:
    """What was raised, and by which line of the hook, in one line."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = f" ({Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno})" if at is not None else ""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - it is code of others, like the hook itself
        message = ""
    return one_line(f"{type(error).__name__}{': ' if message else ''}{message[:_LONGEST]}{where}")


def dropped(result: object) -> None:
    """Let go of what a hook has returned in place of a result: nobody is going to await it."""
    if inspect.iscoroutine(result):
        result.close()


def one_line(text: str) -> str:
    """Without what would end a line, or could not be printed."""
    return "".join(each if each.isprintable() else " " for each in text)
