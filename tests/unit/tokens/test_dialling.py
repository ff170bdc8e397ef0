"""Which addresses a fetch may dial, by the address alone."""

import pytest

from broker.tokens.dialling import Dialler, ForbiddenAddress, permitted

PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:4700::1111"]
PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "fd12::1",
    "::ffff:192.168.1.1",
    "64:ff9b::10.0.0.1",
    "2002:a00:1::",
]
LOOPBACK = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1"]
NEVER = [
    "169.254.169.254", "169.254.1.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "fd00:ec2::254",
    "100.100.100.200", "168.63.129.16", "192.0.0.192", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "fe80::1", "fe80::1%eth0",
    "255.255.255.255", "240.0.0.1", "localhost", "", "example.com", "1.2.3",
]  # fmt: skip


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("loopback", [False, True])
def test_addresses(private: bool, loopback: bool) -> None:
    def may(host: str) -> bool:
        return permitted(host, allow_private=private, allow_loopback=loopback)

    assert [host for host in PUBLIC if not may(host)] == []
    assert {may(host) for host in PRIVATE} == {private}
    assert {may(host) for host in LOOPBACK} == {loopback}
    assert [host for host in NEVER if may(host)] == []


def test_a_socket_is_made_for_a_permitted_address_only() -> None:
    dialler = Dialler(allow_private=False, allow_loopback=True)
    dialler((2, 1, 6, "", ("127.0.0.1", 80))).close()
    assert not dialler.forbidden
    with pytest.raises(ForbiddenAddress):
        dialler((2, 1, 6, "", ("10.0.0.1", 80)))
    assert dialler.forbidden
