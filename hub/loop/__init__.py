"""What production tells the hub, and what the hub learns from it.

- In: `uplink.Uplink` (what sites send), `alerts.Alerts` (cameras), `events.Events` (new or failing packages),
  `failures` (why picks failed).
- Out: `labelling` (queues of pictures), `refreshes` (a variant goes on learning), `growth` (the base does).
- `timeline` tells all of it, cell by cell.
"""
