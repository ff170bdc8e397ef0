"""Floor: one bare ES256 signature, as any broker needs for one identity token."""

from time import process_time

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

SIGNED = b"x" * 600  # header and claims of an identity token


def cost(count: int) -> float:
    """CPU seconds of one signature."""
    private = ec.generate_private_key(ec.SECP256R1())
    algorithm = ec.ECDSA(SHA256())
    begin = process_time()
    for _ in range(count):
        private.sign(SIGNED, algorithm)
    return (process_time() - begin) / count
