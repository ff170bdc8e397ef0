"""The use case: verify, decide, claim, mint, record, answer; and take it all back in time.

* No credential leaves before its record is durable. If the ledger cannot be written, nothing is issued.
* One subject token, one session: the ledger's unique insert decides, nothing here does.
* All grants of one request, or none.
* Nothing that exists outside is unknown to the ledger: it is named there before it is made.
* Every refusal of a proved identity has a case number; what the job reads is the same under any policy.
"""
