"""Which associations a node accepts, and what it makes of those that are lost."""

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from pynetdicom import AE, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from bench.node_hostile import associate_request
from bench.node_peers import SENDER, Archive, wait_for
from ct3d_edge.node.config import Completion, Peer

from .conftest import LIMITS, MakeSeries, StartNode, StartProcess, send
from .sender import associate, read_all, statuses


def test_unknown_titles_and_addresses_are_rejected(start_node: StartNode) -> None:
    node = start_node(peers=(Peer(SENDER, "127.0.0.1"), Peer("FAR", "192.0.2.7")))
    answers = []
    for calling, called in (("STRANGER", "CT3D-EDGE"), ("FAR", "CT3D-EDGE"), (SENDER, "OTHER"), (SENDER, "CT3D-EDGE")):
        association = AE(ae_title=calling).associate(
            "127.0.0.1", node.port, contexts=[build_context(Verification)], ae_title=called
        )
        if association.is_established:
            answers.append(int(association.send_c_echo().Status))
            association.release()
        else:
            assert association.is_rejected
            assert association.acceptor.primitive is not None
            answers.append(-int(association.acceptor.primitive.diagnostic or 0))
    assert answers == [-3, -3, -7, 0]


def test_connection_of_an_address_that_is_no_peers_is_closed(start_node: StartNode) -> None:
    association = associate(start_node(peers=(Peer(SENDER, "192.0.2.0/24"),)))
    assert not association.is_established
    assert not association.is_rejected


def test_more_associations_than_allowed_are_rejected(start_node: StartNode) -> None:
    node = start_node(limits=replace(LIMITS, max_associations=2))
    both = [associate(node) for _ in range(2)]
    assert all(each.is_established for each in both)
    assert associate(node).is_rejected
    for each in both:
        each.release()

    def accepts() -> bool:
        association = associate(node)
        established = association.is_established
        association.release()
        return established

    wait_for(accepts, "an association after the others were released")


def test_eight_associations_at_once_lose_nothing(
    start_node: StartNode, make_series: MakeSeries, archive: Archive
) -> None:
    archive.start()
    node = start_node(destinations=(archive.peer,))
    folders = [make_series(f"1.2.3.{number}") for number in range(1, 9)]
    with ThreadPoolExecutor(len(folders)) as senders:
        sent = list(senders.map(lambda folder: send(node.port, sorted(folder.iterdir())), folders))
    assert [each.returncode for each in sent] == [0] * len(folders)
    assert len({record.scan for record in node.records(len(folders))}) == len(folders)
    archive.wait_for_reports(len(folders))


def test_association_that_is_lost_waits_for_the_sender(start_node: StartNode, make_series: MakeSeries) -> None:
    node, datasets = start_node(completion=Completion(stable_for=2, on_release=True)), read_all(make_series())
    lost = associate(node)
    assert {int(lost.send_c_store(dataset).Status) for dataset in datasets[:5]} == {0}
    lost.abort()
    assert set(statuses(node, datasets)) == {0}
    (record,) = node.records(1)
    assert len(list(Path(record.scan).glob("*.dcm"))) == len(datasets)


@pytest.mark.parametrize("title", ["A\x1b[31mB", "A\nB", "A\x00B", "\x7f", "caf\xe9"], ids=ascii)
def test_title_with_control_characters_forges_no_line_of_the_log(start_process: StartProcess, title: str) -> None:
    node = start_process()
    for request in (associate_request(calling=title), associate_request(called=title)):
        with socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection:
            connection.sendall(request)
            assert connection.recv(100)[:1] in (b"\x03", b"\x07", b"")  # rejected, aborted or closed
    log = node.log.read_text()
    assert not [character for character in log if not character.isprintable() and character != "\n"]
    assert not [line for line in log.splitlines() if line.startswith("B")]
