"""The ledger's tables, as SQLAlchemy Core: the same on SQLite and PostgreSQL. Instants are unix milliseconds.

* `events.leaf` is the truth; the other columns of a row are read out of it, for searching, and verified against it.
* `tiles` holds complete tiles only: tree nodes cost a row per 256 events.
* `sessions` and `leases` are what the broker works on now; what they say is committed to by events.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

metadata: Final = MetaData()

_INSTANT: Final = BigInteger
_SEQ: Final = BigInteger().with_variant(Integer, "sqlite")  # on SQLite an INTEGER PRIMARY KEY is the rowid itself

sessions: Final = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True, nullable=False),
    Column("token_key", LargeBinary, nullable=False, unique=True),  # decides who redeemed a subject token
    Column("secret_hash", LargeBinary, nullable=False),
    Column("nonce_hash", LargeBinary),
    Column("issuer", Text, nullable=False),
    Column("claims", Text, nullable=False),
    Column("issued_at", _INSTANT, nullable=False),
    Column("token_expires_at", _INSTANT, nullable=False),
    Column("expires_at", _INSTANT, nullable=False),
    Column("keep_until", _INSTANT, nullable=False),
    Column("ended_at", _INSTANT),
    Index("sessions_keep_until", "keep_until"),
)

leases: Final = Table(
    "leases",
    metadata,
    Column("id", Text, primary_key=True, nullable=False),
    Column("issuance", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("grant", Text, nullable=False),
    Column("policy_version", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("minted_at", _INSTANT, nullable=False),
    Column("expires_at", _INSTANT, nullable=False),
    Column("renewable", Boolean(create_constraint=False), nullable=False),
    Column("fingerprint", Text),
    Column("sealed", LargeBinary, nullable=False),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt", _INSTANT),
    Index("leases_session", "session"),
    # Partial indexes: only leases that still need work stand in them, so they stay small.
    Index(
        "leases_active", "expires_at", sqlite_where=text("state = 'active'"), postgresql_where=text("state = 'active'")
    ),
    Index(
        "leases_unfinished",
        "state",
        "next_attempt",
        sqlite_where=text("state IN ('pending', 'revoking')"),
        postgresql_where=text("state IN ('pending', 'revoking')"),
    ),
)


def _present(name: str, column: str) -> Index:
    where = text(f'"{column}" IS NOT NULL')
    return Index(name, column, sqlite_where=where, postgresql_where=where)


events: Final = Table(
    "events",
    metadata,
    Column("seq", _SEQ, primary_key=True, autoincrement=False, nullable=False),  # the leaf index
    Column("id", Text, nullable=False),
    Column("time", _INSTANT, nullable=False),
    Column("type", Text, nullable=False),
    Column("issuer", Text),
    Column("project", Text),
    Column("run", Text),
    Column("session", Text),
    Column("issuance", Text),
    Column("lease", Text),
    Column("case", Text),
    Column("grants", Text),  # newline before and after each
    Column("leaf", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    Index("events_id", "id", unique=True),
    _present("events_project", "project"),
    _present("events_issuance", "issuance"),
    _present("events_lease", "lease"),
    _present("events_case", "case"),
)

tiles: Final = Table(
    "tiles",
    metadata,
    Column("level", Integer, nullable=False),
    Column("index", BigInteger, nullable=False),
    Column("hashes", LargeBinary, nullable=False),
    PrimaryKeyConstraint("level", "index"),
)

checkpoint: Final = Table(
    "checkpoint",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("note", LargeBinary, nullable=False),  # the signed note, with the origin, the size and the root
    CheckConstraint("id = 1", name="one_row"),
)

policy_versions: Final = Table(
    "policy_versions",
    metadata,
    Column("sha256", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("text", Text, nullable=False),
    PrimaryKeyConstraint("sha256", "name"),
)

EVENT_COLUMNS: Final = ("issuer", "project", "run", "session", "issuance", "lease", "case", "grants")
