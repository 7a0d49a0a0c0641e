"""What people read: reports of fine-tunes, overlays, charts, model cards and the examination of an outside model."""
