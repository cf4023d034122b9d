"""MosMedData as the published tutorial hands it out: where it is, how large, under which licence, whom to cite."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One published zip archive with the scans of one class.

    Parameters
    ----------
    name
        Of the class, and of the folder that the scans go to.
    url
        An http or https address.
    bytes
        Size of the archive.
    sha256
        In hexadecimal, if the publisher names it.
    """

    name: str
    url: str
    bytes: int
    sha256: str | None = None

    @property
    def archive(self) -> str:
        """File name of the archive on this machine."""
        return f"{self.name}.zip"


@dataclass(frozen=True)
class Dataset:
    """Archives that belong together, one a class.

    Parameters
    ----------
    name
        As its authors call it.
    sources
        The archives, in the order in which they are fetched.
    licence
        What its users may do, in a few words.
    citation
        What a publication that uses it has to cite.
    """

    name: str
    sources: tuple[Source, ...]
    licence: str
    citation: str


RELEASE = "https://github.com/hasibzunair/3D-image-classification-tutorial/releases/download/v0.2"
"""The release of the tutorial "3D image classification from CT scans" (H. Zunair, Keras examples)."""

MOSMED = Dataset(
    name="MosMedData",
    sources=(
        Source("CT-0", f"{RELEASE}/CT-0.zip", 1_065_471_431),
        Source("CT-23", f"{RELEASE}/CT-23.zip", 1_045_162_547),
    ),
    licence="CC BY-NC-ND 3.0",
    citation='Morozov et al., "MosMedData: Chest CT Scans with COVID-19 Related Findings Dataset", 2020, '
    "arXiv:2005.06465",
)
"""100 scans without findings (CT-0) and 100 with viral pneumonia (CT-23); the publisher names no hashes."""
