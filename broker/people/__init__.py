"""People: who they are (the organisation's own OIDC issuer) and what they may see and do here (roles)."""
