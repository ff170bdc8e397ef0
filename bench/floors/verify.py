"""Floor: one bare RS256 signature check, as any broker needs for one subject token."""

from time import process_time

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

SIGNED = b"x" * 1200  # a CI's token without its signature is about this long


def cost(count: int) -> float:
    """CPU seconds of one check."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signature = private.sign(SIGNED, padding.PKCS1v15(), SHA256())
    public, scheme, digest = private.public_key(), padding.PKCS1v15(), SHA256()
    begin = process_time()
    for _ in range(count):
        public.verify(signature, SIGNED, scheme, digest)
    return (process_time() - begin) / count
