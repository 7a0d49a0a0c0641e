"""What production tells the hub by itself: alerts about cameras, and the uplink by which sites send them.

Public: `alerts.Alerts`, `uplink.Uplink`.
"""
