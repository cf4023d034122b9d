"""The transfer syntaxes whose pixels can be read here."""

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ct3d_edge.scan.dicom.tags import without_warnings

UNCOMPRESSED = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)


def find_readable_syntaxes() -> tuple[str, ...]:
    """UIDs of the transfer syntaxes that can be read with the decoders installed here, uncompressed ones first."""
    return tuple(map(str, (*UNCOMPRESSED, *filter(_has_decoder, AllTransferSyntaxes))))


def _has_decoder(syntax: UID) -> bool:
    if syntax in UNCOMPRESSED:
        return False
    try:
        with without_warnings():
            return get_decoder(syntax).is_available
    except NotImplementedError:
        return False
