"""Make the tables, and the triggers that refuse to change the audit trail."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None

_SQLITE_GUARDS = (
    """CREATE TRIGGER tuned_digest_audit_no_update BEFORE UPDATE ON tuned_digest_audit
    BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END""",
    """CREATE TRIGGER tuned_digest_audit_no_delete BEFORE DELETE ON tuned_digest_audit
    BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END""",
)
_POSTGRESQL_GUARDS = (
    """CREATE OR REPLACE FUNCTION tuned_digest_audit_guard() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END $$""",
    """CREATE TRIGGER tuned_digest_audit_guard BEFORE UPDATE OR DELETE OR TRUNCATE ON tuned_digest_audit
    FOR EACH STATEMENT EXECUTE FUNCTION tuned_digest_audit_guard()""",
)


def upgrade() -> None:
    """Make what is not there yet."""
    op.create_table(
        "tuned_digest_accounts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("added", sa.Double, nullable=False),
    )
    op.create_table(
        "tuned_digest_keys",
        sa.Column("thumbprint", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("jwk", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("added", sa.Double, nullable=False),
        sa.Column("last_used", sa.Double),
        sa.Column("revoked", sa.Double),
        sqlite_with_rowid=False,
    )
    op.create_index("tuned_digest_keys_of_account", "tuned_digest_keys", ["account"])
    op.create_table(
        "tuned_digest_codes",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("added", sa.Double, nullable=False),
        sa.Column("expires", sa.Double),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("used", sa.Double),
    )
    op.create_index("tuned_digest_codes_of_account", "tuned_digest_codes", ["account", "kind"])
    op.create_table(
        "tuned_digest_candidates",
        sa.Column("thumbprint", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("jwk", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("nonce", sa.Text, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.Column("approved_by", sa.Text, nullable=False),
    )
    op.create_index("tuned_digest_candidates_of_account", "tuned_digest_candidates", ["account"])
    op.create_index("tuned_digest_candidates_by_expiry", "tuned_digest_candidates", ["expires"])
    op.create_table(
        "tuned_digest_audit",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            sa.Identity(always=True),
            primary_key=True,
        ),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("thumbprint", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
    )
    op.create_index("tuned_digest_audit_of_account", "tuned_digest_audit", ["account", "number"])
    is_sqlite = op.get_context().dialect.name == "sqlite"
    for guard in _SQLITE_GUARDS if is_sqlite else _POSTGRESQL_GUARDS:
        op.execute(guard)
