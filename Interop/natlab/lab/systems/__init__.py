"""Systems that reach each other through a relay and then directly: each a `System` (system.py)."""
