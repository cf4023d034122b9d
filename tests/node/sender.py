"""How tests send instances to a node, one association at a time."""

from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
)
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from bench.node_peers import SENDER

from .conftest import RunningNode


def associate(
    node: RunningNode, syntax: UID = ExplicitVRLittleEndian, sop_class: UID = CTImageStorage, title: str = SENDER
) -> Association:
    contexts = [build_context(sop_class, syntax), build_context(Verification)]
    return AE(ae_title=title).associate("127.0.0.1", node.port, contexts=contexts, ae_title="CT3D-EDGE")


def store_encoded(association: Association, data: bytes, instance: str) -> int:
    """C-STORE of bytes that pynetdicom would not send by itself; the status."""
    request = C_STORE()
    request.MessageID, request.Priority, request.DataSet = 1, 2, BytesIO(data)
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CTImageStorage, UID(instance)
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, 1)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    assert isinstance(answer, C_STORE)
    assert answer.Status is not None
    return answer.Status


def statuses(node: RunningNode, datasets: list[Dataset], syntax: UID = ExplicitVRLittleEndian) -> list[int]:
    """What a node answers to each of some data sets."""
    association = associate(node, syntax, datasets[0].SOPClassUID)
    assert association.is_established
    answers = [int(association.send_c_store(dataset).Status) for dataset in datasets]
    association.release()
    return answers


def read_all(folder: Path) -> list[Dataset]:
    return [dcmread(path) for path in sorted(folder.iterdir())]
