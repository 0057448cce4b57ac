"""Whole runs that are disturbed at seeded moments, resumed, and compared with an undisturbed one."""
