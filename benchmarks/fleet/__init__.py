"""A fleet of robot cells to try the loop on: cameras over belts and totes, days of light, planted faults with truth.

Public: `cameras.CellCamera` (frames of one cell), `light.Day` (what the time of day does to them), `faults.FAULTS`
(what is planted), `health.judge` (camera health against that truth), `photographs` (the same on photographs).
"""
