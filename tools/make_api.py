"""Write docs/api.md from the docstrings of the public names: ``python tools/make_api.py``."""

import inspect
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import ct3d_edge  # noqa: E402 - of this checkout

GROUPS = {
    "Predict": ("predict", "predict_many", "load_model", "Model", "InferenceConfig", "find_scans", "check"),
    "Scans and results": ("Volume", "open_scan", "read_nifti", "preprocess", "QCFlag", "QualityReport", "ResultRecord"),
    "Train, export and verify": (
        "train",
        "distill",
        "export",
        "optimize",
        "CompileOptions",
        "Contract",
        "verify",
        "evaluate",
        "compare_models",
    ),
    "Speed": ("tune", "TuneConfig", "bench"),
}
HEAD = """# API

Generated from the docstrings by `python tools/make_api.py`. `import ct3d_edge as ct` is light: a name is imported when
it is first used. Examples: [library.md](library.md). What may change, and how: [stability.md](stability.md).
"""


def page() -> str:
    """The page as Markdown: one section a group, signature and docstring of each name, then the exceptions."""
    parts = [HEAD]
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n")
        parts += [_entry(name, getattr(ct3d_edge, name)) for name in names]
    parts.append("## Exceptions\n")
    errors = [name for name in ct3d_edge.__all__ if name.endswith("Error")]
    parts += [f"- `{name}`: {_first_line(getattr(ct3d_edge, name))}" for name in errors]
    return "\n".join(parts) + "\n"


def _entry(name: str, thing: Any) -> str:
    lines = [f"### `{name}{_signature(thing)}`\n", _text(thing)]
    if inspect.isclass(thing):
        for method, member in inspect.getmembers(thing):
            if not method.startswith("_") and callable(member) and member.__doc__:
                lines.append(f"**`.{method}{_signature(member)}`** {_first_line(member)}\n")
    return "\n".join(lines)


def _signature(thing: Any) -> str:
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(thing).parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    text = []
    starred = False
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not starred:
            text.append("*")
            starred = True
        text.append(_parameter(parameter))
    return f"({', '.join(text)})"


def _parameter(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return str(parameter)
    default = parameter.default
    shown = f"{type(default).__name__}()" if hasattr(default, "__dataclass_fields__") else repr(default)
    return f"{parameter.name}={shown if '<' not in shown and len(shown) < 40 else '...'}"


def _text(thing: Any) -> str:
    """The docstring with its numpydoc sections as they are, in a block that keeps their indentation."""
    doc = inspect.getdoc(thing) or ""
    first, _, rest = doc.partition("\n\n")
    return f"{' '.join(first.split())}\n" + (f"\n```text\n{rest.strip()}\n```\n" if rest.strip() else "")


def _first_line(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


if __name__ == "__main__":
    (ROOT / "docs" / "api.md").write_text(page())
