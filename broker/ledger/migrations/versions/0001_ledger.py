"""The ledger's first tables: sessions, leases, events, tiles, checkpoint, policy_versions"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('checkpoint',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('size', sa.BigInteger(), nullable=False),
    sa.Column('note', sa.LargeBinary(), nullable=False),
    sa.CheckConstraint('id = 1', name='one_row'),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_table('events',
    sa.Column('seq', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=False, nullable=False),
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('time', sa.BigInteger(), nullable=False),
    sa.Column('type', sa.Text(), nullable=False),
    sa.Column('issuer', sa.Text(), nullable=True),
    sa.Column('project', sa.Text(), nullable=True),
    sa.Column('run', sa.Text(), nullable=True),
    sa.Column('session', sa.Text(), nullable=True),
    sa.Column('issuance', sa.Text(), nullable=True),
    sa.Column('lease', sa.Text(), nullable=True),
    sa.Column('case', sa.Text(), nullable=True),
    sa.Column('grants', sa.Text(), nullable=True),
    sa.Column('leaf', sa.LargeBinary(), nullable=False),
    sa.Column('leaf_hash', sa.LargeBinary(), nullable=False),
    sa.PrimaryKeyConstraint('seq')
    )
    op.create_index('events_case', 'events', ['case'], unique=False, sqlite_where=sa.text('"case" IS NOT NULL'), postgresql_where=sa.text('"case" IS NOT NULL'))
    op.create_index('events_id', 'events', ['id'], unique=True)
    op.create_index('events_issuance', 'events', ['issuance'], unique=False, sqlite_where=sa.text('"issuance" IS NOT NULL'), postgresql_where=sa.text('"issuance" IS NOT NULL'))
    op.create_index('events_lease', 'events', ['lease'], unique=False, sqlite_where=sa.text('"lease" IS NOT NULL'), postgresql_where=sa.text('"lease" IS NOT NULL'))
    op.create_index('events_project', 'events', ['project'], unique=False, sqlite_where=sa.text('"project" IS NOT NULL'), postgresql_where=sa.text('"project" IS NOT NULL'))
    op.create_table('leases',
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('issuance', sa.Text(), nullable=False),
    sa.Column('session', sa.Text(), nullable=False),
    sa.Column('grant', sa.Text(), nullable=False),
    sa.Column('policy_version', sa.Text(), nullable=False),
    sa.Column('backend', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('minted_at', sa.BigInteger(), nullable=False),
    sa.Column('expires_at', sa.BigInteger(), nullable=False),
    sa.Column('renewable', sa.Boolean(), nullable=False),
    sa.Column('fingerprint', sa.Text(), nullable=True),
    sa.Column('sealed', sa.LargeBinary(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=True),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('next_attempt', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('leases_active', 'leases', ['expires_at'], unique=False, sqlite_where=sa.text("state = 'active'"), postgresql_where=sa.text("state = 'active'"))
    op.create_index('leases_session', 'leases', ['session'], unique=False)
    op.create_index('leases_unfinished', 'leases', ['state', 'next_attempt'], unique=False, sqlite_where=sa.text("state IN ('pending', 'revoking')"), postgresql_where=sa.text("state IN ('pending', 'revoking')"))
    op.create_table('policy_versions',
    sa.Column('sha256', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('sha256', 'name')
    )
    op.create_table('sessions',
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('token_key', sa.LargeBinary(), nullable=False),
    sa.Column('secret_hash', sa.LargeBinary(), nullable=False),
    sa.Column('nonce_hash', sa.LargeBinary(), nullable=True),
    sa.Column('issuer', sa.Text(), nullable=False),
    sa.Column('claims', sa.Text(), nullable=False),
    sa.Column('issued_at', sa.BigInteger(), nullable=False),
    sa.Column('token_expires_at', sa.BigInteger(), nullable=False),
    sa.Column('expires_at', sa.BigInteger(), nullable=False),
    sa.Column('keep_until', sa.BigInteger(), nullable=False),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('token_key')
    )
    op.create_index('sessions_keep_until', 'sessions', ['keep_until'], unique=False)
    op.create_table('tiles',
    sa.Column('level', sa.Integer(), nullable=False),
    sa.Column('index', sa.BigInteger(), nullable=False),
    sa.Column('hashes', sa.LargeBinary(), nullable=False),
    sa.PrimaryKeyConstraint('level', 'index')
    )


def downgrade() -> None:
    op.drop_table('tiles')
    op.drop_table('sessions')
    op.drop_table('policy_versions')
    op.drop_table('leases')
    op.drop_table('events')
    op.drop_table('checkpoint')
