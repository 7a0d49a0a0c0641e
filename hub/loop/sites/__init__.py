"""Serving sites: their tokens, what they send over the network, what the hub wishes of them, what they observe.

Public: `sites.Sites` (tokens), `wishes.Wishes`, `inbox.Inbox` (what arrives by HTTP), `statistics.SiteStatistics`.
"""
