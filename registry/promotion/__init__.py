"""Stages of variants, the policies that a move needs, and the gate that checks them.

`stages.Stages` moves; `policies.Policies` says what a move needs.
"""
