"""Who is who, and what they may do: tokens, users and teams, quotas, rights on repositories, proven possession of
bytes, signed links and the audit log.

`tokens.Identity` is who asks; `access.Access` says what they may see; `quotas.Quotas` what they may store and run.
"""
