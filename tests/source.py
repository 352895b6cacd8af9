"""The package's source, as tests look at it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import yolo_attn

PACKAGE = Path(yolo_attn.__file__).parent


def functions() -> Iterator[tuple[str, ast.AST]]:
    """Each node that is no definition itself, and where it stands: `module function`, without the package's name."""
    for file in sorted(PACKAGE.rglob("*.py")):
        module = file.relative_to(PACKAGE).with_suffix("").as_posix()
        yield from _nodes(ast.parse(file.read_text()), module, [])


def _nodes(node: ast.AST, module: str, names: list[str]) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, (ast.FunctionDef, ast.ClassDef))
        yield f"{module} {'.'.join(names)}".rstrip(), child
        yield from _nodes(child, module, [*names, child.name] if named else names)
