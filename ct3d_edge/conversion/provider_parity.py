"""Providers that a file is not for: they cannot run it, or answer wrongly."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from textwrap import shorten

from ct3d_edge.errors import CheckFailedError, ModelError, ProviderError
from ct3d_edge.modelfile.golden_input import make_phantom_volume
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner

MAX_REASON_LENGTH = 200
"""Characters of an error's text that are kept."""

PROVIDER_ERROR_PREFIX = "Provider {name} cannot do the work here. {name}: "
"""How an error begins whose provider is named anyway."""


@dataclass(frozen=True)
class ProviderScreening:
    """What is found out about providers while a file is proven.

    Parameters
    ----------
    required
        Providers whose failure refuses the file.
    on_stage
        Told of each provider that is set aside.
    excluded
        Provider to the reason why the file is not for it.
    """

    required: Sequence[str]
    on_stage: Callable[[str], None]
    excluded: dict[str, str] = field(default_factory=dict)

    def open(self, file: ModelFile, name: ProviderName, stack: ExitStack) -> Runner | None:
        """A session that has run once; None on a provider that cannot run the file."""
        try:
            runner = stack.enter_context(Runner(file, SessionRequest(name)))
            runner.infer(make_phantom_volume(1, file.contract.shape)[None])
        except (ModelError, ProviderError) as error:
            self.exclude(name, "cannot run it", error)
            return None
        return runner

    def passes_check(self, name: ProviderName, check: Callable[[], None]) -> bool:
        """Whether a check of the provider's answers passes; a provider that fails it is set aside."""
        try:
            check()
        except CheckFailedError as error:
            self.exclude(name, "answers wrongly", error)
        return name not in self.excluded

    def exclude(self, name: ProviderName, how: str, error: Exception) -> None:
        """Note that the file is not for a provider; the error goes on if it is a required one."""
        if name in self.required:
            raise error
        text = str(error).replace("No file was written. ", "").removeprefix(PROVIDER_ERROR_PREFIX.format(name=name))
        self.excluded[name] = f"{how}: {shorten(text, MAX_REASON_LENGTH, placeholder=' ...')}"
        self.on_stage(f"the file is not for {name}: it {self.excluded[name]}")
