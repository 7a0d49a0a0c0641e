"""Webhooks out: which there are, what happened, and its delivery, signed and tried again until it is taken.

`hooks.Webhooks` keeps them, `events.WebhookEvents` hears of what happens, `delivery.Postman` sends.
"""
