"""What production tells the hub by itself: alerts about cameras, the uplink by which sites send them, and events.

Public: `alerts.Alerts`, `uplink.Uplink`, `events.Events` (what new or failing packages have in common).
"""
