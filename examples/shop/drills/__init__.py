"""Drills: each incident of the runbook is caused, watched and ended, and what must hold is checked."""
