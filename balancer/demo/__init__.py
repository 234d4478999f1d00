"""The demo: a real trace, simulated agents, and figures a person can read."""
