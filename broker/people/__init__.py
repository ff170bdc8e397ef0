"""People: who signs in with the organisation's own OpenID issuer, and what they are to this broker.

Owns the `people:` part of broker.yaml, roles, the sign-in of a request, and the command line's way to a token. There is no
password and no built-in account. What a person may then see is decided in broker.exchange.

* People and jobs never meet: another verifier, another table of issuers, and an issuer that signs both does not load.
* Closed by default: a claim that is missing, unverified or of another shape gives no role and owns nothing.
"""
