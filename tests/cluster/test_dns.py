"""The answers of the test cluster's DNS server to packets."""

import socket
import struct

from tests.cluster.dns import answer

NAMES = {("mlflow", "ml"): ["10.96.0.7"], ("postgres", "ml"): ["10.244.0.2", "10.244.1.2"]}
A, AAAA = 1, 28


def _query(name: str, kind: int = A) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def _answered(name: str, kind: int = A) -> tuple[int, list[str]]:
    packet = answer(_query(name, kind), NAMES)
    number, flags, _, count, _, _ = struct.unpack_from("!HHHHHH", packet)
    assert number == 7
    assert flags & 0x8000
    records = [packet[len(packet) - 16 * (at + 1) :][:16] for at in reversed(range(count))]
    return flags & 0xF, [socket.inet_ntoa(record[-4:]) for record in records]


def test_service_has_its_address_whatever_the_case() -> None:
    assert _answered("MLflow.ml.svc.cluster.local") == (0, ["10.96.0.7"])


def test_headless_service_has_the_addresses_of_its_pods() -> None:
    assert _answered("postgres.ml.svc.cluster.local") == (0, ["10.244.0.2", "10.244.1.2"])


def test_known_name_has_no_address_of_another_type_and_still_exists() -> None:
    assert _answered("mlflow.ml.svc.cluster.local", AAAA) == (0, [])


def test_other_names_do_not_exist() -> None:
    assert _answered("nothing.ml.svc.cluster.local") == (3, [])
    assert _answered("registry.example") == (3, [])
