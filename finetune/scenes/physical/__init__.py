"""The physical tiers: packages as bodies that MuJoCo lets fall, drawn by MuJoCo's renderer or traced by Mitsuba."""
