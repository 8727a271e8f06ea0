"""Minutes of load and random faults, at the end of which every message must be accounted for."""
