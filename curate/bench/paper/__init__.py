"""The papers' protocol: their splits, their noise, their metrics, and what they published."""
