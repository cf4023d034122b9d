"""Each association that a node rejects or aborts has a line in the log, and one only."""

import socket
from collections.abc import Callable
from dataclasses import replace

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, build_context
from pynetdicom.association import Association

from bench.node_hostile import associate_request, data_set, fragment, pdu, store_command
from bench.node_peers import SENDER, wait_for

from .conftest import LIMITS, RunningNode, StartNode

INSTANCE = b"1.2.3"


def connect(node: RunningNode) -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.port), timeout=10)


def establish(node: RunningNode) -> socket.socket:
    """A connection with an association that was accepted."""
    connection = connect(node)
    connection.sendall(associate_request())
    assert connection.recv(1 << 16)[:1] == b"\x02"
    return connection


def associate(node: RunningNode, sop_class: str = CTImageStorage) -> Association:
    contexts = [build_context(sop_class, ExplicitVRLittleEndian)]
    return AE(ae_title=SENDER).associate("127.0.0.1", node.port, contexts=contexts, ae_title="CT3D-EDGE")


def send_large_instance(node: RunningNode) -> None:
    with establish(node) as connection:
        connection.sendall(fragment(store_command(INSTANCE), command=True))
        connection.sendall(fragment(data_set(INSTANCE, b"1.2") + bytes(2000), command=False))
        connection.recv(1)


def send_after_accept(*messages: bytes) -> Callable[[RunningNode], None]:
    def send(node: RunningNode) -> None:
        with establish(node) as connection:
            for message in messages:
                connection.sendall(message)
            connection.recv(1)

    return send


def send_first(message: bytes) -> Callable[[RunningNode], None]:
    def send(node: RunningNode) -> None:
        with connect(node) as connection:
            connection.sendall(message)
            connection.recv(1)

    return send


def open_two_at_once(node: RunningNode) -> None:
    first = associate(node)
    assert associate(node).is_rejected
    first.release()


def offer_another_class(node: RunningNode) -> None:
    assert not associate(node, MRImageStorage).is_established


def lose_connection(node: RunningNode) -> None:
    establish(node).close()


CASES = [
    (send_large_instance, "aborted: 127.0.0.1 (SENDER): an instance of more than 2 kB"),
    (send_first(b"\x01\x00\x7f\xff\xff\xff"), "aborted: 127.0.0.1: a PDU of 2.15 GB; it may have 131 kB"),
    (send_after_accept(b"\x04\x00\x7f\xff\xff\xff"), "aborted: 127.0.0.1 (SENDER): a PDU of 2.15 GB"),
    (send_first(b"GET / HTTP/1.1\r\n\r\n"), "aborted: 127.0.0.1: what it sent is no PDU of DICOM"),
    (send_after_accept(b"\x16\x03\x01\x02\x00\x01"), "aborted: 127.0.0.1 (SENDER): what it sent is no PDU of DICOM"),
    (
        send_after_accept(fragment(b"\xff" * 20, command=True)),
        "aborted: 127.0.0.1 (SENDER): a message cannot be decoded: ",
    ),
    (send_first(b"\x01\x00\x00\x00"), "aborted: 127.0.0.1: no complete PDU came within 1 s"),
    (
        send_after_accept(b"\x04\x00\x00\x00\x10\x00\x00"),
        "aborted: 127.0.0.1 (SENDER): no complete PDU came within 1 s",
    ),
    (send_after_accept(), "aborted: 127.0.0.1 (SENDER): no complete PDU came within 1 s"),
    (send_after_accept(pdu(7, bytes(4))), "aborted: 127.0.0.1 (SENDER): the peer aborted the association, or"),
    (lose_connection, "aborted: 127.0.0.1 (SENDER): the peer aborted the association, or the connection was lost"),
    (open_two_at_once, "rejected: 127.0.0.1 (SENDER): as many associations as allowed are open (1)"),
    (offer_another_class, "nothing accepted: 127.0.0.1 (SENDER) offers MR Image Storage; CT images are accepted"),
]
NAMES = ["instance", "pdu first", "pdu", "http", "tls", "message", "slow first", "slow", "silent"]
NAMES += ["abort", "lost", "many", "class"]


@pytest.mark.parametrize(("act", "line"), CASES, ids=NAMES)
def test_each_end_that_is_no_release_is_logged_once(
    start_node: StartNode, caplog: pytest.LogCaptureFixture, act: Callable[[RunningNode], None], line: str
) -> None:
    node = start_node(
        limits=replace(LIMITS, network_timeout=1, max_pdu=4096, max_associations=1, max_instance_bytes=2000)
    )
    act(node)
    wait_for(lambda: line in caplog.text, line)
    node.stop()
    ends = [each.getMessage() for each in caplog.records if "association_log" in each.name]
    assert len([each for each in ends if each.startswith(line[:8])]) == 1, ends


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_text_of_the_peer_makes_no_line_of_its_own(start_node: StartNode, caplog: pytest.LogCaptureFixture) -> None:
    node = start_node()
    with connect(node) as connection:
        connection.sendall(associate_request().replace(CTImageStorage.encode(), b"1.2\nERROR forged".ljust(25)))
        connection.recv(1 << 16)
        wait_for(lambda: "nothing accepted" in caplog.text, "a line")
    node.stop()
    lines = [each.getMessage() for each in caplog.records if "association_log" in each.name]
    assert lines
    assert all("\n" not in each for each in lines), lines


def test_the_end_of_the_node_is_named_only_when_it_ends(
    start_node: StartNode, caplog: pytest.LogCaptureFixture
) -> None:
    node = start_node()
    with establish(node) as connection:
        wrong = bytearray(fragment(store_command(INSTANCE), command=True))
        wrong[10] = 99  # a presentation context that was not negotiated
        connection.sendall(bytes(wrong))
        wait_for(lambda: "aborted: " in caplog.text, "a line")
    assert "the node ends" not in caplog.text
    with establish(node):
        node.stop()
    assert "the node ends" in caplog.text
