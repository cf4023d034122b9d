"""Messages of the library in the words of the command line.

The library names what to change as an argument of its own, in backquotes: ```allow_fallback=True```.
"""

import re

ARGUMENTS = ("allow", "allow_fallback", "batch_size", "memory_budget", "provider", "scan_timeout", "series", "workers")
"""Those that an option of the same name sets."""

_ARGUMENT = re.compile(rf"`({'|'.join(ARGUMENTS)})(?:=([^`]*))?`")


def as_flags(message: str) -> str:
    """Replace arguments by options: ```batch_size=4``` by ``--batch-size 4``, ```allow_fallback=True``` by its flag."""

    def flag(found: re.Match[str]) -> str:
        name, value = found[1].replace("_", "-"), (found[2] or "").strip("[]'\"")
        return f"--{name}" if value in ("", "True") else f"--{name} {value}"

    return _ARGUMENT.sub(flag, message)
