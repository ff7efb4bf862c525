"""Find projectors by exact name and build them from validated options.

A projector lives in the file of this package that bears its name, so names are known without
importing torch. Files that begin with an underscore, and ``base`` and ``registry``, hold none. One
of another package is named as ``my_package.merger:PatchMerger``: its module, which Python must be
able to import, and its class.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from siglip_study.base.errors import StudyError
from siglip_study.study.versions import code_hash

if TYPE_CHECKING:
    from siglip_study.projectors.base import FeatureShape, Projector

_PACKAGE = __name__.rpartition(".")[0]
_NOT_PROJECTORS = {"base", "registry"}
_REGISTRY: dict[str, type[Projector]] = {}

ProjectorType = TypeVar("ProjectorType", bound="type[Projector]")


def register(name: str) -> Callable[[ProjectorType], ProjectorType]:
    """Class decorator that enters a projector under ``name``.

    Inside this package the name must be that of the file. Elsewhere (a notebook, a test) it may be
    any name that is still free.

    Raises:
        StudyError: the name is taken, or differs from the name of the file.
    """

    def enter(cls: ProjectorType) -> ProjectorType:
        package, _, stem = cls.__module__.rpartition(".")
        if package == _PACKAGE and stem != name:
            raise StudyError(
                f"{stem}.py registers projector {name!r}; expected {stem!r}, the name of its file."
            )
        # A file of that name owns the name even before it has been imported.
        owned = package != _PACKAGE and name in _file_names()
        if name in _REGISTRY or owned:
            raise StudyError(f"projector {name!r} is registered twice; expected one class a name.")
        _REGISTRY[name] = cls
        return cls

    return enter


def projector_names() -> list[str]:
    """All names, sorted. Imports neither torch nor any projector."""
    return sorted({*_file_names(), *_REGISTRY})


def projector_class(name: str) -> type[Projector]:
    """The class registered under exactly ``name``, whose file is imported if need be.

    Raises:
        StudyError: no projector has that name; the nearest known name is given.
    """
    if ":" in name:
        return _class_outside(name)
    if name not in _REGISTRY:
        _require_file(name)
        importlib.import_module(f"{_PACKAGE}.{name}")
    if name not in _REGISTRY:
        raise StudyError(
            f'projectors/{name}.py registers nothing; expected a class under @register("{name}").'
        )
    return _REGISTRY[name]


@functools.cache
def projector_code(name: str) -> str:
    """Hash of what a projector's files do; changing one leaves the hash of every other as it was.

    Raises:
        StudyError: no projector has that name.
    """
    return code_hash(projector_files(name))


def projector_files(name: str) -> list[Path]:
    """A projector's file, and the files of this package, and of its own, that it imports.

    Nothing is imported but the packages that hold one from outside.

    Raises:
        StudyError: no projector has that name.
    """
    here, folders = Path(__file__), {_PACKAGE: Path(__file__).parent}
    if ":" in name:
        files = [_file_outside(name)]
        own = name.partition(":")[0].rpartition(".")[0]
        folders |= {own: files[0].parent} if own else {}
    else:
        _require_file(name)
        files = [here.with_name(f"{name}.py")]
    for path in files:  # grows while it is read
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            package, _, stem = module.rpartition(".")
            helper = folders.get(package, here.parent) / f"{stem}.py"
            if package in folders and helper != here and helper.is_file() and helper not in files:
                files.append(helper)
    return files


def projector_options(name: str) -> dict[str, inspect.Parameter]:
    """The keyword-only arguments of a projector's ``__init__``, in order, with resolved types."""
    initialiser = projector_class(name).__init__
    hints = typing.get_type_hints(initialiser)
    return {
        key: parameter.replace(annotation=hints.get(key, Any))
        for key, parameter in inspect.signature(initialiser).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def check_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of the projector, given ones checked and the others at their defaults.

    Raises:
        StudyError: unknown option (the nearest known one is given), wrong type, or a required
            option that is absent.
    """
    known = projector_options(name)
    for key in options:
        if key not in known:
            expected = _nearest(key, known) if known else "none, for it has no options"
            raise StudyError(f"projector {name!r}: option {key!r} is unknown; expected {expected}.")
    checked = {key: parameter.default for key, parameter in known.items()} | dict(options)
    for key, value in checked.items():
        if value is inspect.Parameter.empty:
            raise StudyError(f"projector {name!r}: option {key!r} is absent; expected a value.")
        if key in options and not _matches(value, known[key].annotation):
            expected = inspect.formatannotation(known[key].annotation)
            raise StudyError(
                f"projector {name!r}: option {key!r} is {value!r}; expected type {expected}."
            )
    return checked


def build(name: str, shape: FeatureShape, llm_dim: int, **options: Any) -> Projector:
    """A freshly initialised projector; its weights follow torch's global seed.

    ``llm_dim`` is L, width of the language model's embeddings; ``options`` are the projector's own,
    see :func:`projector_options`.

    Raises:
        StudyError: unknown name or option, or a value the projector cannot be built with.
    """
    return projector_class(name)(shape, llm_dim, **check_options(name, options))


def _file_outside(name: str) -> Path:
    """The file of ``module:Class``.

    Raises:
        StudyError: Python finds no such module, or none with a source file.
    """
    module = name.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise StudyError(
            f"projector {name!r}: Python finds no module {module!r}; expected a file that it can "
            "import (name its folder in PYTHONPATH)."
        )
    return Path(spec.origin)


def _class_outside(name: str) -> type[Projector]:
    """The class of ``module:Class``.

    Raises:
        StudyError: there is no such module, importing it failed, or it has no projector so named.
    """
    from siglip_study.projectors.base import Projector

    module, _, attribute = name.partition(":")
    path = _file_outside(name)
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, SyntaxError) as error:
        raise StudyError(f"projector {name!r}: {path} cannot be imported: {error}.") from error
    if not (isinstance(found, type) and issubclass(found, Projector)):
        raise StudyError(
            f"projector {name!r}: {path} has no {attribute!r} that is a Projector; expected a "
            "subclass of siglip_study.projectors.base.Projector."
        )
    return found


def _file_names() -> list[str]:
    names = [module.name for module in pkgutil.iter_modules(sys.modules[_PACKAGE].__path__)]
    return [n for n in names if not n.startswith("_") and n not in _NOT_PROJECTORS]


def _require_file(name: str) -> None:
    if name not in _file_names():
        raise StudyError(
            f"projector {name!r} is unknown; expected {_nearest(name, projector_names())}."
        )


def _nearest(name: object, known: Iterable[str]) -> str:
    listed = ", ".join(names := sorted(known))
    close = difflib.get_close_matches(str(name), names, n=1)
    return f"{close[0]!r} (or one of: {listed})" if close else f"one of: {listed}"


def _matches(value: object, annotation: Any) -> bool:
    """Whether ``value`` is of the annotated type; a bool is no number, an int is a float."""
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True
